package proxy

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	checkTimeout  = time.Second
	checkEvery    = 2 * time.Second
	checkPace     = 20 * time.Millisecond // a target: many targets are tried less often
	checkParallel = 16
)

// checker connects to endpoints whose machine has fallen silent. Nobody there can say that a pod is not ready, so each
// proxy finds out for itself. Without such endpoints it sleeps.
type checker struct {
	dial    func(ctx context.Context, addr netip.AddrPort) error
	changed func()
	wake    chan struct{} // cap 1: targets changed

	mu      sync.Mutex
	targets map[netip.AddrPort]bool
	failed  map[netip.AddrPort]bool // replaced, never changed
}

func newChecker(dial func(ctx context.Context, addr netip.AddrPort) error, changed func()) *checker {
	return &checker{dial: dial, changed: changed, wake: make(chan struct{}, 1)}
}

// watch replaces the targets.
func (c *checker) watch(targets map[netip.AddrPort]bool) {
	c.mu.Lock()
	same := maps.Equal(c.targets, targets)
	c.targets = targets
	c.mu.Unlock()
	if same {
		return
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// failures returns the targets that did not accept a connection when last tried. It is read-only.
func (c *checker) failures() map[netip.AddrPort]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

func (c *checker) failing(addr netip.AddrPort) bool { return c.failures()[addr] }

func (c *checker) run(ctx context.Context) error {
	for {
		var again <-chan time.Time
		if n := c.round(ctx); n > 0 {
			again = time.After(max(checkEvery, time.Duration(n)*checkPace))
		}
		select {
		case <-again:
		case <-c.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// round tries every target once and returns how many there are.
func (c *checker) round(ctx context.Context) int {
	c.mu.Lock()
	targets := slices.Collect(maps.Keys(c.targets))
	c.mu.Unlock()
	failed := map[netip.AddrPort]bool{}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(checkParallel)
	for _, addr := range targets {
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, checkTimeout)
			defer cancel()
			if err := c.dial(ctx, addr); err != nil {
				mu.Lock()
				failed[addr] = true
				mu.Unlock()
			}
			return nil
		})
	}
	_ = g.Wait() // never an error
	if ctx.Err() != nil {
		return 0
	}
	c.mu.Lock()
	same := maps.Equal(c.failed, failed)
	c.failed = failed
	c.mu.Unlock()
	if !same {
		c.changed()
	}
	return len(targets)
}
