package scheduler

import (
	"cmp"
	"container/heap"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/master/scheduler/placement"
)

// A pod that failed is not tried again before this long after its last try, doubled each time, whatever happens.
const (
	firstBackoff = 50 * time.Millisecond
	mostBackoff  = 5 * time.Second
)

// state is where a pending pod is.
type state int

const (
	active        state = iota // to be tried now
	backingOff                 // to be tried at its time
	unschedulable              // to be tried when something changed that it could use
	binding                    // a node was found, and the binding is on its way
)

// item is one pending pod.
type item struct {
	pod      *corev1.Pod
	info     *placement.Pod
	group    string // see podGroup
	state    state
	attempts int
	until    time.Time // end of the backoff
	turn     uint64    // among those of equal priority: see queue.turn
	seq      uint64
	index    int // in the heap of its state
}

// queue holds the pending pods. It does nothing by itself and keeps no time. Not safe for concurrent use.
type queue struct {
	items   map[types.UID]*item
	active  activeHeap
	backoff backoffHeap
	stuck   map[types.UID]*item
	picky   map[types.UID]*item // those of stuck that other pods matter to
	claimed map[types.UID]*item // those of stuck that have claims
	groups  map[string]map[types.UID]*item
	seq     uint64

	// Namespaces take turns, so that ten thousand pods of one do not make the one pod of another wait: a pod's turn is one
	// later than that of the pod before it from its namespace, and no earlier than what is at work now (start-time fair
	// queueing, Goyal 1996).
	turn uint64
	last map[string]uint64
}

func newQueue() *queue {
	return &queue{items: map[types.UID]*item{}, stuck: map[types.UID]*item{}, picky: map[types.UID]*item{}, claimed: map[types.UID]*item{}, last: map[string]uint64{}, groups: map[string]map[types.UID]*item{}}
}

// busy reports whether there are pods that may be given a node as things are.
func (q *queue) busy() bool { return len(q.items) > len(q.stuck) }

// put adds a pod or takes its new state; changed says that it may fit now where it did not before.
func (q *queue) put(p *corev1.Pod, info *placement.Pod, changed bool) {
	it, ok := q.items[p.UID]
	if !ok {
		q.seq++
		it = &item{pod: p, info: info, seq: q.seq, turn: max(q.turn, q.last[p.Namespace]) + 1, state: active}
		q.last[p.Namespace] = it.turn
		q.items[p.UID] = it
		q.join(it)
		heap.Push(&q.active, it)
		return
	}
	q.part(it)
	it.pod, it.info = p, info
	q.join(it)
	if it.state == unschedulable {
		q.sort(it)
	}
	if changed && it.state == unschedulable {
		q.set(it, active)
	}
}

// pop takes the most urgent active pod, which is then binding, or returns nil.
func (q *queue) pop() *item {
	if len(q.active) == 0 {
		return nil
	}
	it := q.active[0]
	q.set(it, binding)
	if q.turn = max(q.turn, it.turn); q.last[it.pod.Namespace] <= q.turn {
		delete(q.last, it.pod.Namespace)
	}
	return it
}

// remove forgets the pod.
func (q *queue) remove(uid types.UID) {
	if it, ok := q.items[uid]; ok {
		q.leave(it)
		q.part(it)
		delete(q.items, uid)
	}
}

// join notes the group of a pod.
func (q *queue) join(it *item) {
	if it.group, _ = podGroup(it.pod); it.group == "" {
		return
	}
	if q.groups[it.group] == nil {
		q.groups[it.group] = map[types.UID]*item{}
	}
	q.groups[it.group][it.pod.UID] = it
}

// part undoes join.
func (q *queue) part(it *item) {
	if delete(q.groups[it.group], it.pod.UID); len(q.groups[it.group]) == 0 {
		delete(q.groups, it.group)
	}
}

// failed notes that it fits nowhere (stuck), or that its binding did not work.
func (q *queue) failed(it *item, fitsNowhere bool, now time.Time) {
	if q.items[it.pod.UID] != it {
		return
	}
	it.attempts++
	it.until = now.Add(min(firstBackoff<<min(it.attempts-1, 10), mostBackoff))
	if fitsNowhere {
		q.set(it, unschedulable)
	} else {
		q.set(it, backingOff)
	}
}

// wake moves the pods of a part of the stuck ones for which fits holds to where they will be tried.
func (q *queue) wake(now time.Time, stuck map[types.UID]*item, fits func(*placement.Pod) bool) {
	for _, it := range stuck {
		if !fits(it.info) {
			continue
		}
		if it.until.After(now) {
			q.set(it, backingOff)
		} else {
			q.set(it, active)
		}
	}
}

// due moves the pods whose backoff is over to active and returns how long the next one has to wait; zero means none.
func (q *queue) due(now time.Time) time.Duration {
	for len(q.backoff) > 0 {
		it := q.backoff[0]
		if wait := it.until.Sub(now); wait > 0 {
			return wait
		}
		q.set(it, active)
	}
	return 0
}

func (q *queue) set(it *item, s state) {
	q.leave(it)
	it.state = s
	switch s {
	case active:
		heap.Push(&q.active, it)
	case backingOff:
		heap.Push(&q.backoff, it)
	case unschedulable:
		q.stuck[it.pod.UID] = it
		q.sort(it)
	case binding:
	}
}

func (q *queue) leave(it *item) {
	switch it.state {
	case active:
		heap.Remove(&q.active, it.index)
	case backingOff:
		heap.Remove(&q.backoff, it.index)
	case unschedulable:
		delete(q.stuck, it.pod.UID)
		delete(q.picky, it.pod.UID)
		delete(q.claimed, it.pod.UID)
	case binding:
	}
}

// sort notes what a stuck pod waits for besides nodes.
func (q *queue) sort(it *item) {
	delete(q.picky, it.pod.UID)
	delete(q.claimed, it.pod.UID)
	if it.info.Picky() {
		q.picky[it.pod.UID] = it
	}
	if len(it.info.Claims) > 0 {
		q.claimed[it.pod.UID] = it
	}
}

// activeHeap has the pod of the highest priority first, and of those the one whose turn it is.
type activeHeap []*item

func (h activeHeap) Len() int { return len(h) }

func (h activeHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	return cmp.Or(cmp.Compare(b.info.Priority, a.info.Priority), cmp.Compare(a.turn, b.turn), cmp.Compare(a.seq, b.seq)) < 0
}

func (h activeHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *activeHeap) Push(x any) {
	it := x.(*item)
	it.index = len(*h)
	*h = append(*h, it)
}

func (h *activeHeap) Pop() any { return popLast((*[]*item)(h)) }

// backoffHeap has the pod whose backoff ends first.
type backoffHeap []*item

func (h backoffHeap) Len() int           { return len(h) }
func (h backoffHeap) Less(i, j int) bool { return h[i].until.Before(h[j].until) }

func (h backoffHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *backoffHeap) Push(x any) {
	it := x.(*item)
	it.index = len(*h)
	*h = append(*h, it)
}

func (h *backoffHeap) Pop() any { return popLast((*[]*item)(h)) }

func popLast(h *[]*item) *item {
	last := len(*h) - 1
	it := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return it
}
