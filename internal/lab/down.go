package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Down ends the lab: every process, namespace, mount, link, cgroup and file of it. It also removes what a killed
// command left behind. Without a lab it fails with ErrNoLab.
func Down(ctx context.Context, cfg Config) error {
	if _, err := os.Stat(Dir); err != nil {
		return ErrNoLab
	}
	l, err := lockDir(cfg)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.load(); err != nil {
		l.say("%v", err) // what can be found without it is removed all the same
	}
	return l.clean(ctx)
}

// clean removes everything that any lab may have left.
func (l *Lab) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for i := range l.state.Peers {
		p := &l.state.Peers[i]
		if err := p.powerOff(ctx); err != nil && ctx.Err() != nil {
			return err
		}
	}
	if err := endStrays(ctx); err != nil {
		return err
	}
	if err := errors.Join(removeLinks(), removeCgroups(cgroupName)); err != nil {
		return err
	}
	l.state = state{}
	return l.removeFiles()
}

// endStrays ends processes in the lab's cgroup that no record names.
func endStrays(ctx context.Context) error {
	for {
		pids, err := processes(cgroupName)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			p, err := identify(pid)
			if err != nil {
				continue
			}
			if err := p.signal(unix.SIGKILL); err != nil {
				return err
			}
			if err := p.wait(ctx); err != nil {
				return fmt.Errorf("process %d does not end: %w", pid, err)
			}
		}
	}
}

// removeFiles removes the lab's directory. The lock goes last: a waiting command must not find half a lab.
func (l *Lab) removeFiles() error {
	entries, err := os.ReadDir(Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == "lock" {
			continue
		}
		if err := os.RemoveAll(Dir + "/" + e.Name()); err != nil {
			return err
		}
	}
	return os.RemoveAll(Dir)
}
