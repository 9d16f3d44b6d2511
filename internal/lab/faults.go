package lab

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Kill takes a machine's power: every process and container ends at once and its link is gone.
func (l *Lab) Kill(ctx context.Context, name string) error {
	p, err := l.Peer(name)
	if err != nil {
		return err
	}
	if err := p.powerOff(ctx); err != nil {
		return err
	}
	return l.save()
}

// KillProcess ends only the peer's process, as a crash would: its keeper, containers and rules stay.
func (l *Lab) KillProcess(ctx context.Context, name string) error {
	p, err := l.Peer(name)
	if err != nil {
		return err
	}
	if err := p.Shoal.signal(unix.SIGKILL); err != nil {
		return err
	}
	return p.Shoal.wait(ctx)
}

// Start powers a machine on if it is off, starts its peer if it does not run, and waits until its API answers.
func (l *Lab) Start(ctx context.Context, name string) error {
	p, err := l.Peer(name)
	if err != nil {
		return err
	}
	ready, err := l.launch(ctx, p)
	if err != nil {
		return err
	}
	return ready()
}

// Stop asks a peer to stop gracefully and waits for it. Its machine stays on and its containers run.
func (l *Lab) Stop(ctx context.Context, name string) error {
	p, err := l.Peer(name)
	if err != nil {
		return err
	}
	if !p.Shoal.alive() {
		return fmt.Errorf("the peer of %s does not run", name)
	}
	if err := p.Shoal.signal(unix.SIGTERM); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := p.Shoal.wait(ctx); err != nil {
		return fmt.Errorf("%s does not stop: %w", name, err)
	}
	return nil
}

// Freeze stops a peer's process without ending it. With machine, everything on the machine stops, its network too.
func (l *Lab) Freeze(name string, machine bool) error {
	p, err := l.Peer(name)
	if err != nil {
		return err
	}
	if !p.Init.alive() {
		return fmt.Errorf("%s is off", name)
	}
	if !machine {
		p.Frozen = true
		if err := p.Shoal.signal(unix.SIGSTOP); err != nil {
			return err
		}
		return l.save()
	}
	p.Halted = true
	if err := l.save(); err != nil {
		return err
	}
	if err := p.setLink(false); err != nil {
		return err
	}
	return p.setFrozenMachine(true)
}

// Thaw undoes Freeze.
func (l *Lab) Thaw(name string) error {
	p, err := l.Peer(name)
	if err != nil {
		return err
	}
	if p.Halted {
		if err := p.setFrozenMachine(false); err != nil {
			return err
		}
		if err := p.setLink(true); err != nil {
			return err
		}
	}
	if err := p.Shoal.signal(unix.SIGCONT); err != nil {
		return err
	}
	p.Frozen, p.Halted = false, false
	return l.save()
}

// Cut takes a machine's cable out; Heal puts it back.
func (l *Lab) Cut(name string) error {
	p, err := l.Peer(name)
	if err != nil {
		return err
	}
	return p.setLink(false)
}

// Partition splits the network: groups are separated by slashes, names by commas ("peer-1,peer-2/peer-3"). Peers of
// different groups cannot reach each other; the host reaches all of them. Every peer must be named once.
func (l *Lab) Partition(groups string) error {
	var named []string
	split := strings.Split(groups, "/")
	for _, group := range split {
		named = append(named, strings.Split(group, ",")...)
	}
	if len(slices.Compact(slices.Sorted(slices.Values(named)))) != len(named) {
		return fmt.Errorf("partition %q names a peer twice", groups)
	}
	if len(named) != len(l.state.Peers) || len(split) < 2 {
		return fmt.Errorf("partition %q must name each of the %d peers once, in at least two groups: peer-1,peer-2/peer-3", groups, len(l.state.Peers))
	}
	for _, name := range named {
		if _, err := l.Peer(name); err != nil {
			return err
		}
	}
	for i, group := range split {
		bridge := bridgePrefix
		if i > 0 {
			bridge = fmt.Sprintf("%s-%d", bridgePrefix, i+1)
		}
		for name := range strings.SplitSeq(group, ",") {
			p, err := l.Peer(name)
			if err != nil {
				return err
			}
			if err := p.move(bridge); err != nil {
				return err
			}
		}
	}
	return l.save()
}

// Heal connects all machines again.
func (l *Lab) Heal() error {
	for i := range l.state.Peers {
		p := &l.state.Peers[i]
		if err := p.move(bridgePrefix); err != nil {
			return err
		}
		if p.Init.alive() && !p.Halted {
			if err := p.setLink(true); err != nil {
				return err
			}
		}
	}
	return l.save()
}
