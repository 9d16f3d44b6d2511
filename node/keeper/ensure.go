package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// Ensure returns a client of the living keeper, and starts one when there is none. When it returns the keeper serves;
// its containerd may still be starting. The keeper is not ended with ctx.
func Ensure(ctx context.Context, c Config) (*Client, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Log = c.Log.With("component", "keeper")
	cl := &Client{config: c, started: make(chan struct{})}
	return cl, cl.ensure(ctx)
}

func (c *Client) ensure(ctx context.Context) error {
	st, err := status(c.try(ctx, request{Op: opStatus}))
	switch {
	case err == nil && st.Version == version:
		return nil
	case err == nil:
		// Pipes hold the containers' output meanwhile, and containerd is adopted by the next keeper.
		if err := c.Shutdown(ctx, true); err != nil {
			return fmt.Errorf("replace the keeper of another version: %w", err)
		}
	case errors.Is(err, ErrStranger):
		return err
	}
	return c.start(ctx)
}

func (c *Client) start(ctx context.Context) error {
	if err := os.MkdirAll(c.config.RunDir, 0o700); err != nil {
		return err
	}
	command := c.config.Command
	if command == nil {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		command = []string{self, "keeper"}
	}
	path := filepath.Join(c.config.DataDir, "keeper", "keeper.log")
	log, err := openLog(path)
	if err != nil {
		return err
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command(command[0], slices.Concat(command[1:], c.config.arguments(3))...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{w}
	cmd.Env = environment("GOGC=30", "GOMAXPROCS=2")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("start the keeper: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return fmt.Errorf("the keeper did not become ready, see %s: %w", path, errors.Join(ctx.Err(), err))
	}
	return cmd.Process.Release() // whoever waits for the keeper reaps it
}

// arguments is the command line that Main reads back. They are no flags, so that whoever passes them on leaves them alone.
func (c Config) arguments(readyFD int) []string {
	args := []string{keyData + c.DataDir, keyRun + c.RunDir, keyReady + strconv.Itoa(readyFD)}
	if c.ContainerdSocket != "" {
		args = append(args, keyContainerd+c.ContainerdSocket)
	}
	if c.CgroupParent != "" {
		args = append(args, keyCgroup+c.CgroupParent)
	}
	if c.LogSize > 0 {
		args = append(args, keyLogSize+strconv.FormatInt(c.LogSize, 10))
	}
	if c.LogFiles > 0 {
		args = append(args, keyLogFiles+strconv.Itoa(c.LogFiles))
	}
	return args
}
