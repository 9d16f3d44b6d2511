package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"golang.org/x/sys/unix"

	"shoal/node/runtime"
)

// attach joins the container's own streams until the container ends or ctx does. Output comes by way of the keeper,
// from now on; input is written into the container's pipe, which stays open for the next client unless the container
// was made for one only.
func (r *Runtime) attach(ctx context.Context, x *record, c runtime.ExecConfig) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if c.Resize != nil && x.tty {
		go r.resize(ctx, x.ID, "", c.Resize)
	}
	following := func() {}
	if c.Stdin != nil && x.stdin {
		in, err := os.OpenFile(r.pipes(x).stdin, os.O_WRONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("attach to the input of container %s: %w", x.Name, err)
		}
		context.AfterFunc(ctx, func() { in.Close() })
		// What the input causes is seen: nothing is sent before the output is followed.
		following = func() { go r.input(ctx, x, in, c.Stdin) }
	}
	err := r.config.Keeper.Follow(ctx, x.ID, c.Stdout, c.Stderr, following)
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return ctx.Err()
	}
	return err
}

func (r *Runtime) input(ctx context.Context, x *record, in io.WriteCloser, from io.Reader) {
	_, err := io.Copy(in, from)
	_ = in.Close()
	if err != nil || !x.once {
		return
	}
	err = r.config.Keeper.CloseStdin(ctx, x.ID)
	if err == nil {
		_, err = r.client.TaskService().CloseIO(ctx, &tasksapi.CloseIORequest{ContainerID: x.ID, Stdin: true})
	}
	if err != nil && ctx.Err() == nil {
		r.config.Log.Warn("a container's input stays open", "container", x.ID, "err", err)
	}
}
