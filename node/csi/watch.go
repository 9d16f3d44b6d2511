package csi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"shoal/internal/client"
	"shoal/node/mountinfo"
	"shoal/node/watchdir"
)

// socket is a plugin's socket. One that was made anew is another one.
type socket struct {
	path  string
	inode uint64
	born  int64
}

func (d *Drivers) registry() string { return filepath.Join(d.cfg.Dir, "plugins_registry") }

// Run finds drivers as they come and go, until ctx ends. What they have mounted stays.
func (d *Drivers) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return watchdir.Follow(ctx, d.registry(), d.cfg.Log, func() error {
			if err := d.makeDirs(); err != nil {
				return err
			}
			return d.scan(ctx, g)
		})
	})
	return g.Wait()
}

// makeDirs makes the directories that drivers mount in.
func (d *Drivers) makeDirs() error {
	for _, dir := range []string{"plugins", "pods"} {
		if err := os.MkdirAll(filepath.Join(d.cfg.Dir, dir), 0o750); err != nil {
			return err
		}
	}
	return share(d.cfg.Dir)
}

// share makes mounts below dir seen by the containers that have it, and theirs by the machine. Where systemd has booted the machine it is so.
func share(dir string) error {
	all, err := mountinfo.Read()
	if err != nil {
		return err
	}
	var in mountinfo.Mount // the innermost mount that dir is in, the last one there
	for _, m := range all {
		if (m.At == "/" || m.At == dir || strings.HasPrefix(dir, m.At+"/")) && len(m.At) >= len(in.At) {
			in = m
		}
	}
	switch {
	case in.Shared:
		return nil
	case in.At == dir:
		return shared(dir)
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s on itself: %w", dir, err)
	}
	return shared(dir)
}

func shared(dir string) error {
	if err := unix.Mount("", dir, "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("share mounts below %s: %w", dir, err)
	}
	return nil
}

// scan compares the sockets that there are with those that are known.
func (d *Drivers) scan(ctx context.Context, g *errgroup.Group) error {
	entries, err := os.ReadDir(d.registry())
	if err != nil {
		return err
	}
	found := map[socket]bool{}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) || err == nil && (info.Mode().Type() != fs.ModeSocket || strings.HasPrefix(e.Name(), ".")) {
			continue
		}
		if err != nil {
			return err
		}
		s := socket{path: filepath.Join(d.registry(), e.Name()), born: info.ModTime().UnixNano()}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			s.inode = st.Ino
		}
		found[s] = true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for s, forget := range d.sockets {
		if !found[s] {
			forget()
			delete(d.sockets, s)
		}
	}
	for s := range found {
		if d.sockets[s] == nil {
			ctx, cancel := context.WithCancel(ctx)
			d.sockets[s] = cancel
			g.Go(func() error { d.follow(ctx, s); return nil })
		}
	}
	return nil
}

// follow registers the driver of a socket, and forgets it when the socket is gone.
func (d *Drivers) follow(ctx context.Context, s socket) {
	retry := client.NewBackoff(200*time.Millisecond, time.Minute)
	for {
		x, err := d.meet(ctx, s)
		if err == nil && x == nil {
			return
		}
		if err == nil {
			d.put(x)
			d.cfg.Log.Info("CSI driver registered", "driver", x.Name, "id", x.NodeID)
			<-ctx.Done()
			d.drop(x)
			return
		}
		if ctx.Err() != nil {
			return
		}
		d.cfg.Log.Warn("CSI driver not registered, will retry", "socket", s.path, "err", err)
		if retry.Wait(ctx) != nil {
			return
		}
	}
}

func (d *Drivers) put(x *driver) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.byName[x.Name] = x
	d.tellLocked()
}

// drop forgets a driver, unless another socket speaks for it by now.
func (d *Drivers) drop(x *driver) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.byName[x.Name] == x {
		delete(d.byName, x.Name)
		d.tellLocked()
	}
	_ = x.conn.Close()
}

func (d *Drivers) tellLocked() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// isMounted reports whether something is mounted at path.
func isMounted(path string) bool {
	is, err := mountinfo.Is(path)
	return err == nil && is
}
