package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// ErrStranger means that a process which is not the recorded keeper listens on the keeper's socket.
var ErrStranger = errors.New("not the keeper that was started here")

// Client talks to this machine's keeper. Each call is a connection of its own, so a client outlives keepers. While Run
// runs, a call that finds no keeper, or loses it, is made again to the next one; otherwise it fails. It is safe for
// concurrent use.
type Client struct {
	config Config

	mu      sync.Mutex
	running bool          // Run is there to start the next keeper
	started chan struct{} // closed and replaced when Run has started one
}

// Socket is where containerd listens.
func (c *Client) Socket() string { return c.config.containerdSocket() }

// Status asks how the keeper is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return status(c.call(ctx, request{Op: opStatus}))
}

func status(r response, err error) (Status, error) {
	if err != nil {
		return Status{}, err
	}
	if r.Status == nil {
		return Status{}, errors.New("keeper answered without a status")
	}
	return *r.Status, nil
}

// Drain makes the keeper write what comes out of the FIFOs stdout and stderr into the file log, in CRI's format, until
// Undrain. It is called before the container starts. stdin, stderr and log may be empty. Repeating it is harmless.
func (c *Client) Drain(ctx context.Context, id, stdin, stdout, stderr, log string) error {
	d := drain{ID: id, Stdin: stdin, Stdout: stdout, Stderr: stderr, Log: log}
	_, err := c.call(ctx, request{Op: opDrain, Drain: &d})
	return err
}

// Undrain ends it. Everything that a container wrote before it ended is in the log when Undrain returns.
func (c *Client) Undrain(ctx context.Context, id string) error {
	_, err := c.call(ctx, request{Op: opUndrain, ID: id})
	return err
}

// CloseStdin ends the container's input once no client holds it.
func (c *Client) CloseStdin(ctx context.Context, id string) error {
	_, err := c.call(ctx, request{Op: opCloseStdin, ID: id})
	return err
}

// Follow copies the container's output until it is over, or until ctx ends: all that comes after following was called,
// if it is not nil. Either writer may be nil. One that blocks for long is cut off: the container never waits for it.
func (c *Client) Follow(ctx context.Context, id string, stdout, stderr io.Writer, following func()) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if _, err := exchange(conn, request{Op: opFollow, ID: id}); err != nil {
		return err
	}
	if following != nil {
		following()
	}
	err = readFrames(conn, stdout, stderr)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// Shutdown ends the keeper, and its containerd unless keep is set. Containers run on.
func (c *Client) Shutdown(ctx context.Context, keep bool) error {
	p, err := readIdentity(c.config.identity())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := c.try(ctx, request{Op: opShutdown, Keep: keep}); err != nil {
		return err
	}
	return p.Wait(ctx)
}

func (c *Client) call(ctx context.Context, q request) (response, error) {
	for {
		c.mu.Lock()
		running, started := c.running, c.started
		c.mu.Unlock()
		r, err := c.try(ctx, q)
		var refused refusal
		if err == nil || !running || errors.As(err, &refused) || ctx.Err() != nil {
			return r, err
		}
		select {
		case <-started:
		case <-ctx.Done():
			return r, errors.Join(ctx.Err(), err)
		}
	}
}

// try makes a call once.
func (c *Client) try(ctx context.Context, q request) (response, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return response{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	r, err := exchange(conn, q)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return r, fmt.Errorf("keeper: %s: %w", q.Op, err)
	}
	return r, nil
}

// refusal is what a living keeper answers to what it cannot do.
type refusal string

func (e refusal) Error() string { return string(e) }

func exchange(conn net.Conn, q request) (response, error) {
	var r response
	if err := send(conn, q); err != nil {
		return r, err
	}
	if err := receive(conn, &r); err != nil {
		return r, err
	}
	if r.Error != "" {
		return r, refusal(r.Error)
	}
	return r, nil
}

// dial connects and makes sure that the listener is the keeper that is on record.
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.config.socket())
	if err != nil {
		return nil, fmt.Errorf("reach the keeper: %w", err)
	}
	if err := c.verify(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func (c *Client) verify(conn net.Conn) error {
	cred, err := peer(conn)
	if err != nil {
		return err
	}
	p, err := readIdentity(c.config.identity())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStranger, err)
	}
	if int(cred.Uid) != os.Geteuid() || int(cred.Pid) != p.Pid || !p.Alive() {
		return fmt.Errorf("%s: process %d: %w", c.config.socket(), cred.Pid, ErrStranger)
	}
	return nil
}

// Run keeps a keeper alive: when it ends, another is started. It returns when ctx ends, and leaves the keeper running.
func (c *Client) Run(ctx context.Context) error {
	c.setRunning(true)
	defer c.setRunning(false)
	delay := firstDelay
	for {
		p, err := readIdentity(c.config.identity())
		if err == nil {
			err = p.Wait(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		c.config.Log.Warn("the keeper ended, starting another", "pid", p.Pid, "err", err)
		begin := time.Now()
		if err = c.ensure(ctx); err != nil {
			c.config.Log.Warn("no keeper", "err", err, "retry", delay)
			t := time.NewTimer(delay)
			select {
			case <-ctx.Done():
				t.Stop()
				return nil
			case <-t.C:
			}
			delay = min(2*delay, lastDelay)
			continue
		}
		c.setRunning(true)
		c.config.Log.Info("keeper started", "took", time.Since(begin))
		delay = firstDelay
	}
}

func (c *Client) setRunning(running bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = running
	close(c.started) // whoever waits looks again
	c.started = make(chan struct{})
}
