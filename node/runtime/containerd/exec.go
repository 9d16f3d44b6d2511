package containerd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"shoal/node/runtime"
)

// Exec implements runtime.Interface. When ctx ends, the command is killed.
func (r *Runtime) Exec(ctx context.Context, uid types.UID, id string, c runtime.ExecConfig) (int, error) {
	if err := r.enter(ctx); err != nil {
		return 0, err
	}
	x, err := r.find(uid, id)
	if err != nil {
		return 0, err
	}
	if r.view(x).State != runtime.Running {
		return 0, fmt.Errorf("container %s of %s/%s does not run", x.Name, x.namespace, x.pod)
	}
	if c.Attach {
		return 0, r.attach(ctx, x, c)
	}
	if len(c.Command) == 0 {
		return 0, errors.New("no command to run")
	}
	e := &execution{r: r, x: x, config: c, id: "exec-" + rand.Text()}
	e.dir = filepath.Join(r.sandboxes.Dir(uid), "io", e.id)
	code, err := e.run(ctx)
	if err != nil {
		return code, fmt.Errorf("exec in container %s of %s/%s: %w", x.Name, x.namespace, x.pod, err)
	}
	return code, nil
}

// execution is one command in a container.
type execution struct {
	r      *Runtime
	x      *record
	config runtime.ExecConfig
	id     string
	dir    string
	stdin  *os.File // our ends of the pipes
	out    []*os.File
	copied atomic.Int64 // bytes of output
}

func (e *execution) run(ctx context.Context) (int, error) {
	process, err := e.process(ctx)
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(e.dir)
	req := &tasksapi.ExecProcessRequest{ContainerID: e.x.ID, ExecID: e.id, Terminal: e.config.TTY, Spec: typeurl.MarshalProto(process)}
	if err := e.open(req); err != nil {
		return 0, errors.Join(err, e.close())
	}
	tasks := e.r.client.TaskService()
	if _, err := tasks.Exec(ctx, req); err != nil {
		return 0, errors.Join(errgrpc.ToNative(err), e.close())
	}
	// The command must not outlive the call that it belongs to, nor its record in the shim the command.
	after := context.WithoutCancel(ctx)
	defer func() {
		_, _ = tasks.DeleteProcess(after, &tasksapi.DeleteProcessRequest{ContainerID: e.x.ID, ExecID: e.id})
	}()
	copied := e.copyOut()
	if _, err := tasks.Start(ctx, &tasksapi.StartRequest{ContainerID: e.x.ID, ExecID: e.id}); err != nil {
		return 0, errors.Join(errgrpc.ToNative(err), e.close())
	}
	e.copyIn(after)
	resizing, stop := context.WithCancel(ctx)
	defer stop()
	go e.r.resize(resizing, e.x.ID, e.id, e.config.Resize)
	ended, err := tasks.Wait(ctx, &tasksapi.WaitRequest{ContainerID: e.x.ID, ExecID: e.id})
	if err != nil {
		_, _ = tasks.Kill(after, &tasksapi.KillRequest{ContainerID: e.x.ID, ExecID: e.id, Signal: uint32(unix.SIGKILL)})
		_, _ = tasks.Wait(after, &tasksapi.WaitRequest{ContainerID: e.x.ID, ExecID: e.id})
		return 0, errors.Join(errgrpc.ToNative(err), e.close())
	}
	e.await(ctx, copied)
	return int(ended.ExitStatus), e.close()
}

// await waits for the rest of the output. A process that the command left behind may hold the pipes for ever: when
// nothing has come for a while after the command's end, its output is over.
func (e *execution) await(ctx context.Context, copied <-chan struct{}) {
	const quiet = 5 * time.Second
	for before := int64(-1); before != e.copied.Load(); {
		before = e.copied.Load()
		t := time.NewTimer(quiet)
		select {
		case <-copied:
			t.Stop()
			return
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// process is the container's own, with another command and the same rights.
func (e *execution) process(ctx context.Context) (typeurl.Any, error) {
	c, err := e.r.client.ContainerService().Get(ctx, e.x.ID)
	if err != nil {
		return nil, err
	}
	var spec specs.Spec
	if err := typeurl.UnmarshalTo(c.Spec, &spec); err != nil {
		return nil, fmt.Errorf("read its configuration: %w", err)
	}
	p := spec.Process
	p.Args, p.Terminal = e.config.Command, e.config.TTY
	if e.config.TTY {
		p.Env = append(p.Env, "TERM=xterm")
	}
	return typeurl.MarshalAny(p)
}

// open makes the pipes and opens our ends, for reading and writing so that opening never waits for the other end.
func (e *execution) open(req *tasksapi.ExecProcessRequest) error {
	if err := os.MkdirAll(e.dir, 0o700); err != nil {
		return err
	}
	for _, p := range []struct {
		name   string
		wanted bool
		path   *string
	}{
		{"stdin", e.config.Stdin != nil, &req.Stdin},
		{"stdout", true, &req.Stdout}, // the shim wants it even when nobody does
		{"stderr", !e.config.TTY, &req.Stderr},
	} {
		if !p.wanted {
			continue
		}
		*p.path = filepath.Join(e.dir, p.name)
		if err := unix.Mkfifo(*p.path, 0o600); err != nil {
			return err
		}
		flags := os.O_RDONLY
		if p.name == "stdin" {
			flags = os.O_RDWR
		}
		f, err := os.OpenFile(*p.path, flags|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		if p.name == "stdin" {
			e.stdin = f
		} else {
			e.out = append(e.out, f)
		}
	}
	return nil
}

// copyIn moves the client's input, once the shim has its end of the pipe. It ends with the input, or when close makes
// writing fail; a reader that never ends is its owner's.
func (e *execution) copyIn(ctx context.Context) {
	if e.stdin == nil {
		return
	}
	go func() {
		_, _ = io.Copy(e.stdin, e.config.Stdin)
		_ = e.stdin.Close()
		// The shim holds the pipe for writing too.
		_, _ = e.r.client.TaskService().CloseIO(ctx, &tasksapi.CloseIORequest{ContainerID: e.x.ID, ExecID: e.id, Stdin: true})
	}()
}

// copyOut moves the output; the channel is closed when all of it has been copied.
func (e *execution) copyOut() <-chan struct{} {
	writers := []io.Writer{e.config.Stdout, e.config.Stderr}
	var all sync.WaitGroup
	for i, f := range e.out {
		w := writers[i]
		if w == nil {
			w = io.Discard
		}
		all.Go(func() { _ = drain(w, f, &e.copied) })
	}
	done := make(chan struct{})
	go func() {
		all.Wait()
		close(done)
	}()
	return done
}

func (e *execution) close() error {
	var errs []error
	for _, f := range append(e.out, e.stdin) {
		if f == nil {
			continue
		}
		if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// drain copies a pipe until its writers are gone. Before the first one it waits: such a pipe reads as ended. When w
// fails, the rest is thrown away, so that the command does not hang on a client that has left.
func drain(w io.Writer, f *os.File, copied *atomic.Int64) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	b := make([]byte, 32<<10)
	for first := true; ; first = false {
		var n int
		var rerr error
		err := raw.Read(func(fd uintptr) bool {
			n, rerr = unix.Read(int(fd), b)
			if errors.Is(rerr, unix.EAGAIN) || errors.Is(rerr, unix.EINTR) {
				first = false
				return false
			}
			if n == 0 && first {
				first = false
				return false
			}
			return true
		})
		if err = errors.Join(err, rerr); err != nil || n <= 0 {
			return err
		}
		if _, err := w.Write(b[:n]); err != nil {
			w = io.Discard
		}
		copied.Add(int64(n))
	}
}

// resize follows a terminal's size until ctx ends. exec is empty for the container's own process.
func (r *Runtime) resize(ctx context.Context, id, exec string, sizes <-chan runtime.TerminalSize) {
	for {
		select {
		case <-ctx.Done():
			return
		case s, ok := <-sizes:
			if !ok {
				return
			}
			_, err := r.client.TaskService().ResizePty(ctx, &tasksapi.ResizePtyRequest{
				ContainerID: id, ExecID: exec, Width: uint32(s.Width), Height: uint32(s.Height),
			})
			if err != nil {
				r.config.Log.Debug("terminal not resized", "container", id, "err", err)
			}
		}
	}
}
