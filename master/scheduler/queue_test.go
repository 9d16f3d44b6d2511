package scheduler

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/master/scheduler/placement"
)

func newPod(name string, priority int32) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}, Spec: corev1.PodSpec{Priority: &priority}}
}

func put(q *queue, p *corev1.Pod, changed bool) { q.put(p, placement.NewPod(p, ""), changed) }

func wantPop(t *testing.T, q *queue, want ...string) []*item {
	t.Helper()
	var out []*item
	for _, name := range want {
		it := q.pop()
		switch {
		case it == nil && name == "":
		case it == nil || it.pod.Name != name:
			t.Fatalf("popped %v, want %q", it, name)
		default:
			out = append(out, it)
		}
	}
	return out
}

func always(*placement.Pod) bool { return true }

var zero = time.Unix(1000, 0)

func TestThePressingPodComesFirstThenTheOldest(t *testing.T) {
	q := newQueue()
	for _, p := range []*corev1.Pod{newPod("a", 0), newPod("b", 0), newPod("urgent", 10), newPod("c", 0)} {
		put(q, p, false)
	}
	put(q, newPod("a", 0), false) // another state of the same pod
	wantPop(t, q, "urgent", "a", "b", "c", "")
}

func TestNamespacesTakeTurns(t *testing.T) {
	q := newQueue()
	in := func(namespace, name string) {
		p := newPod(name, 0)
		p.Namespace = namespace
		put(q, p, false)
	}
	for _, name := range []string{"a1", "a2", "a3", "a4"} {
		in("a", name)
	}
	wantPop(t, q, "a1")
	in("b", "b1") // its turn is now, and not after all of those
	in("b", "b2")
	wantPop(t, q, "a2", "b1", "a3", "b2", "a4", "")
	in("a", "a5") // who had many does not pay for that later
	in("b", "b3")
	in("a", "a6")
	wantPop(t, q, "a5", "b3", "a6", "")
	if len(q.last) != 0 {
		t.Errorf("namespaces are remembered: %v", q.last)
	}
}

func TestAStuckPodWaitsForAChangeThatHelps(t *testing.T) {
	q := newQueue()
	put(q, newPod("a", 0), false)
	it := wantPop(t, q, "a")[0]
	q.failed(it, true, zero)
	put(q, newPod("a", 0), false) // our own remark on it
	q.due(zero.Add(time.Hour))
	q.wake(zero.Add(time.Hour), q.stuck, func(*placement.Pod) bool { return false })
	wantPop(t, q, "")
	q.wake(zero.Add(time.Hour), q.stuck, always)
	wantPop(t, q, "a", "")
}

func TestAPodThatWasJustTriedBacksOff(t *testing.T) {
	q := newQueue()
	put(q, newPod("a", 0), false)
	it := wantPop(t, q, "a")[0]
	q.failed(it, true, zero)
	q.wake(zero, q.stuck, always)
	wantPop(t, q, "")
	if wait := q.due(zero); wait != firstBackoff {
		t.Fatalf("waits %s", wait)
	}
	q.due(zero.Add(firstBackoff))
	it = wantPop(t, q, "a", "")[0]
	for range 20 {
		q.failed(it, false, zero)
		q.due(zero.Add(mostBackoff))
		it = wantPop(t, q, "a")[0]
	}
}

func TestAChangedPodIsTriedAtOnce(t *testing.T) {
	q := newQueue()
	put(q, newPod("a", 0), false)
	q.failed(wantPop(t, q, "a")[0], true, zero)
	put(q, newPod("a", 0), true)
	wantPop(t, q, "a", "")
}

func TestAForgottenPodStaysForgotten(t *testing.T) {
	q := newQueue()
	put(q, newPod("active", 0), false)
	put(q, newPod("stuck", 1), false)
	put(q, newPod("late", 2), false)
	late := wantPop(t, q, "late")[0]
	q.failed(late, false, zero)
	stuck := wantPop(t, q, "stuck")[0]
	q.failed(stuck, true, zero)
	for _, name := range []types.UID{"active", "stuck", "late", "unknown"} {
		q.remove(name)
	}
	q.failed(late, false, zero) // its binding failed after it had gone
	q.wake(zero.Add(time.Hour), q.stuck, always)
	q.due(zero.Add(time.Hour))
	wantPop(t, q, "")
	if len(q.items)+len(q.stuck)+len(q.picky)+len(q.active)+len(q.backoff) != 0 {
		t.Errorf("left over: %+v", q)
	}
}
