package consensus

import (
	"sync"
	"time"
)

// pace is how the disk bears the log's writes.
type pace struct {
	changed func() // when the disk has become slow or does not work, or does again; called without the lock

	mu     sync.Mutex
	mean   time.Duration // that a write takes, on average over the last dozen or so
	slow   bool
	failed error // why a write failed lately
	timer  *time.Timer
}

const (
	// paceOver is over how many writes the mean decays.
	paceOver = 8
	// failRest is how long writes must go well after one that failed: on a full disk, small ones may while big ones do not.
	failRest = 10 * time.Second
	// failedDisk stands for how long a disk takes that takes no writes.
	failedDisk = time.Hour
)

func (p *pace) add(took time.Duration, err error) {
	if p.note(took, err) {
		p.changed()
	}
}

// note reports whether something is otherwise than before.
func (p *pace) note(took time.Duration, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		if p.timer != nil {
			p.timer.Stop()
			p.timer = nil
		}
		fresh := p.failed == nil
		p.failed = err
		return fresh
	}
	if p.failed != nil && p.timer == nil {
		p.timer = time.AfterFunc(failRest, p.rested)
	}
	p.mean += (took - p.mean) / paceOver
	// Twice as fast as it must be, or it would go back and forth.
	was := p.slow
	p.slow = p.mean > slowDisk || was && p.mean > slowDisk/2
	return p.slow != was
}

func (p *pace) rested() {
	p.mu.Lock()
	well := p.timer != nil
	if well {
		p.failed, p.timer = nil, nil
	}
	p.mu.Unlock()
	if well {
		p.changed()
	}
}

func (p *pace) state() (time.Duration, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.failed != nil:
		return failedDisk, p.failed
	case p.slow:
		return max(p.mean, slowDisk+1), nil
	}
	return 0, nil
}

// stop ends what is left of it.
func (p *pace) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
}

// Disk returns how long this peer's disk takes for a write when that is too long for a voter, else zero; and why a write failed, if one
// did lately. Changed tells when that may have changed.
func (p *Peer) Disk() (time.Duration, error) {
	if p.raft.Load() == nil {
		return 0, nil
	}
	return p.logs.disk.pace.state()
}
