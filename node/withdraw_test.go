package node

import (
	"context"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"shoal/node/runtime"
)

// runs reports whether the container of a pod runs.
func (w *world) runs(p *corev1.Pod) bool {
	for _, held := range w.held() {
		for _, c := range held.Containers {
			if held.UID == p.UID && c.State == runtime.Running {
				return true
			}
		}
	}
	return false
}

// TestAPodThatEndsServesOnUntilNobodyIsSentToIt and for as long as other machines may be behind.
func TestAPodThatEndsServesOnUntilNobodyIsSentToIt(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.pod("a", nil)
		w.settle()
		ip := w.wantRunning("a").Status.PodIP
		gone := make(chan struct{})
		w.serves = func(ctx context.Context, at netip.Addr) (bool, error) {
			if at.String() != ip {
				t.Errorf("asked about %s, the pod is at %s", at, ip)
			}
			select {
			case <-gone:
				return true, nil
			case <-ctx.Done():
				return true, ctx.Err()
			}
		}
		w.delete("a", 30)
		w.pass(400 * time.Millisecond)
		if !w.runs(p) {
			t.Fatal("it was told to end while Services send to it")
		}
		close(gone)
		w.pass(withdrawLag - 10*time.Millisecond)
		if !w.runs(p) {
			t.Error("it was told to end while other machines may send to it")
		}
		w.pass(20 * time.Millisecond)
		if w.runs(p) {
			t.Error("it runs on")
		}
	})
}

// TestNobodyWaitsLongForServices: when no Master says that the pod ends, when there is little grace, and when there is none.
func TestNobodyWaitsLongForServices(t *testing.T) {
	for grace, most := range map[int64]time.Duration{30: time.Second, 1: 500 * time.Millisecond, 0: 0} {
		inWorld(t, func(w *world) {
			p := w.pod("a", nil)
			w.settle()
			w.serves = func(ctx context.Context, _ netip.Addr) (bool, error) {
				<-ctx.Done()
				return true, ctx.Err()
			}
			w.delete("a", grace)
			if most > 0 {
				w.pass(most - 10*time.Millisecond)
				if !w.runs(p) {
					t.Errorf("with a grace of %d s it ended at once", grace)
				}
			}
			w.pass(20 * time.Millisecond)
			if w.runs(p) {
				t.Errorf("with a grace of %d s it waits for more than %v", grace, most)
			}
		})
	}
}
