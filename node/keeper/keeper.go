// Package keeper is the small process that outlives the peer. It holds this machine's containerd and drains the output
// of containers into log files, so that neither the peer's death nor its upgrade stops or blocks a container. It knows
// nothing of pods and decides nothing. The peer reaches it through a Client; Ensure starts one or finds the living one.
//
// Its one invariant: a container's writes never wait for a disk that is full or a peer that is gone. What cannot be
// written is dropped. This package imports nothing of Kubernetes, so that the process stays small.
package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"shoal/node/runtime/cgroup"
)

// Config is what a keeper needs, and what a peer needs to find or start one.
type Config struct {
	DataDir string // containerd's root and the keeper's own log live here
	RunDir  string // volatile: sockets, containerd's state, what is being drained
	// ContainerdSocket is the containerd of someone else. Empty makes the keeper run its own.
	ContainerdSocket string
	// CgroupParent is where the keeper puts itself, as PARENT/keeper. Empty leaves it where it was started.
	CgroupParent string
	Command      []string // for Ensure: the command that runs Main; nil is this executable with "keeper"
	LogSize      int64    // a container's log file is rotated at this size; 0 is 10 MiB
	LogFiles     int      // log files kept of each container, the current one included; 0 is 5
	Log          *slog.Logger
}

// version is the protocol's. A keeper of another version is replaced, without touching containers or containerd.
const version = 1

func (c Config) dir() string      { return filepath.Join(c.RunDir, "keeper") }
func (c Config) socket() string   { return filepath.Join(c.RunDir, "keeper.sock") }
func (c Config) identity() string { return filepath.Join(c.RunDir, "keeper.json") }

func (c Config) containerdSocket() string {
	if c.ContainerdSocket != "" {
		return c.ContainerdSocket
	}
	return filepath.Join(c.RunDir, "containerd.sock")
}

// Run is the keeper: it serves until ctx ends or a client asks it to shut down. A second one on the same RunDir is
// refused. When it returns, containers run on and wait, once their pipes are full, for the next keeper.
func Run(ctx context.Context, c Config) error { return run(ctx, c, func() error { return nil }) }

func run(ctx context.Context, c Config, ready func() error) error {
	if c.LogSize == 0 {
		c.LogSize = 10 << 20
	}
	if c.LogFiles == 0 {
		c.LogFiles = 5
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Log = c.Log.With("component", "keeper")
	for _, dir := range []string{c.dir(), filepath.Join(c.DataDir, "keeper")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	lock, err := lockFile(filepath.Join(c.RunDir, "keeper.lock"))
	if err != nil {
		return fmt.Errorf("another keeper holds %s: %w", c.RunDir, err)
	}
	defer lock.Close()
	if err := enterCgroup(c.CgroupParent); err != nil {
		c.Log.Warn("staying in the cgroup of whoever started this keeper", "err", err)
	}

	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	g, ctx := errgroup.WithContext(ctx)
	d := newDrains(c, g)
	s := &server{config: c, drains: d, stop: stop}
	if c.ContainerdSocket == "" {
		s.daemon = &daemon{config: c}
		g.Go(func() error { return s.daemon.run(ctx) })
	}
	d.restore(ctx)

	_ = os.Remove(c.socket())
	l, err := net.Listen("unix", c.socket())
	if err != nil {
		stop(err)
		return errors.Join(err, g.Wait())
	}
	if err := errors.Join(os.Chmod(c.socket(), 0o600), writeIdentity(c.identity())); err != nil {
		stop(err)
		return errors.Join(err, l.Close(), g.Wait())
	}
	context.AfterFunc(ctx, func() { l.Close() })
	g.Go(func() error { return s.serve(ctx, l, g) })
	if err := ready(); err != nil {
		c.Log.Warn("whoever started this keeper is gone", "err", err)
	}
	shrink()
	err = g.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, errShutdown) {
		return s.finish(ctx)
	}
	return err
}

func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func enterCgroup(parent string) error {
	if parent == "" {
		return nil
	}
	t, err := cgroup.Mounted()
	if err != nil {
		return err
	}
	path := filepath.Join(parent, "keeper")
	if err := t.Make(path); err != nil {
		return err
	}
	return t.Enter(path, os.Getpid())
}

// writeFile replaces a file whole, so that a reader sees the old content or the new.
func writeFile(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
