package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"

	"shoal/internal/api"
)

type execCmd struct {
	Pod       string   `arg:"" help:"POD or pod/NAME."`
	Command   []string `arg:"" passthrough:"" help:"Command and arguments, after --."`
	Container string   `short:"c" help:"Container; the first one by default."`
	Stdin     bool     `short:"i" help:"Pass standard input on."`
	TTY       bool     `short:"t" help:"Give the command a terminal."`
}

func (c execCmd) Run(ctx context.Context, g *Globals, std streams) error {
	args := c.Command
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return usagef("name a command: shoal exec %s -- ls /", c.Pod)
	}
	conn, err := g.connect()
	if err != nil {
		return err
	}
	q := url.Values{"command": args, "stdout": {"true"}}
	if c.Container != "" {
		q.Set("container", c.Container)
	}
	opts := remotecommand.StreamOptions{Stdout: std.out, Tty: c.TTY}
	if c.Stdin {
		q.Set("stdin", "true")
		opts.Stdin = std.in
	}
	if c.TTY {
		q.Set("tty", "true")
		restore, err := rawTerminal(&opts)
		if err != nil {
			return err
		}
		defer restore()
	} else {
		q.Set("stderr", "true")
		opts.Stderr = std.err
	}
	err = conn.stream(ctx, path(api.Pods, g.Namespace, strings.TrimPrefix(c.Pod, "pod/"), "exec"), q, opts)
	var ended exec.CodeExitError
	if errors.As(err, &ended) {
		return silentError{ended.Code}
	}
	return err
}

// stream runs a remote command through the first peer that can be reached, or the Master if that peer has no vote.
func (c *conn) stream(ctx context.Context, at string, q url.Values, opts remotecommand.StreamOptions) error {
	var last error
	for _, base := range c.urls {
		last = c.streamAt(ctx, base, at, q, opts)
		switch {
		case last == nil:
			return nil
		case strings.Contains(last.Error(), api.NoVote):
			all, err := c.peers(ctx)
			if err != nil {
				return err
			}
			for _, p := range all.Peers {
				if p.Role == api.RoleMaster {
					return c.streamAt(ctx, p.API, at, q, opts)
				}
			}
			return last
		case !strings.Contains(last.Error(), "dial tcp"):
			return last
		}
	}
	return fmt.Errorf("no peer can be reached: %w", last)
}

func (c *conn) streamAt(ctx context.Context, base, at string, q url.Values, opts remotecommand.StreamOptions) error {
	cfg := *c.rest
	cfg.Host = base
	u, err := url.Parse(base + at + "?" + q.Encode())
	if err != nil {
		return err
	}
	ex, err := remotecommand.NewSPDYExecutor(&cfg, "POST", u)
	if err != nil {
		return err
	}
	return ex.StreamWithContext(ctx, opts)
}

// rawTerminal puts the terminal into raw mode and follows its size. The returned function undoes it.
func rawTerminal(opts *remotecommand.StreamOptions) (func(), error) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return nil, usagef("-t needs a terminal as standard input")
	}
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, err
	}
	sizes := &terminalSizes{fd: fd, changed: make(chan os.Signal, 1)}
	sizes.changed <- unix.SIGWINCH // the first size
	signal.Notify(sizes.changed, unix.SIGWINCH)
	opts.TerminalSizeQueue = sizes
	return func() {
		signal.Stop(sizes.changed)
		_ = term.Restore(fd, old)
	}, nil
}

type terminalSizes struct {
	fd      int
	changed chan os.Signal
}

// Next blocks until the terminal's size has changed.
func (t *terminalSizes) Next() *remotecommand.TerminalSize {
	if _, ok := <-t.changed; !ok {
		return nil
	}
	w, h, err := term.GetSize(t.fd)
	if err != nil {
		return nil
	}
	return &remotecommand.TerminalSize{Width: uint16(w), Height: uint16(h)}
}
