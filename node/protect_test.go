package node

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// gate is a Guard that protects nobody until it is opened.
type gate struct {
	open chan struct{}

	mu   sync.Mutex
	held map[types.UID]netip.Addr
}

func (g *gate) Protect(ctx context.Context, p *corev1.Pod, addr netip.Addr) error {
	g.mu.Lock()
	g.held[p.UID] = addr
	g.mu.Unlock()
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *gate) Release(uid types.UID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.held, uid)
}

func (g *gate) addr(uid types.UID) netip.Addr {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held[uid]
}

func inGatedWorld(t *testing.T, f func(w *world, g *gate)) {
	inWorld(t, func(w *world) {
		w.halt()
		g := &gate{open: make(chan struct{}), held: map[types.UID]netip.Addr{}}
		w.config = func(c *Config) { c.Guard = g }
		w.start()
		f(w, g)
	})
}

// TestNothingOfAPodRunsBeforeItsPoliciesAreInForce however long that takes; then it does, and with its end the address is given back.
func TestNothingOfAPodRunsBeforeItsPoliciesAreInForce(t *testing.T) {
	inGatedWorld(t, func(w *world, g *gate) {
		p := w.pod("a", nil)
		w.pass(protectWait + 5*time.Second)
		if w.runs(p) {
			t.Fatal("it runs while policies are not in force")
		}
		close(g.open)
		w.pass(time.Minute)
		ip := w.wantRunning("a").Status.PodIP
		if got := g.addr(p.UID); got.String() != ip {
			t.Errorf("protected at %s, it is at %s", got, ip)
		}
		w.delete("a", 0)
		w.settle()
		if got := g.addr(p.UID); got.IsValid() {
			t.Errorf("%s was not given back", got)
		}
	})
}

// TestAPodThatWaitsForPoliciesCanBeDeleted at once.
func TestAPodThatWaitsForPoliciesCanBeDeleted(t *testing.T) {
	inGatedWorld(t, func(w *world, g *gate) {
		p := w.pod("a", nil)
		w.settle()
		w.delete("a", 0)
		w.pass(protectWait)
		if held := w.held(); len(held) > 0 || g.addr(p.UID).IsValid() {
			t.Errorf("left over: %v, %v", held, g.addr(p.UID))
		}
	})
}
