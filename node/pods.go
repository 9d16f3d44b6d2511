package node

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/client"
	"shoal/node/runtime"
)

// patience is how long a restarted node waits for the API before it goes by what it knew. The API itself takes up to
// five seconds before it answers without quorum.
const patience = 8 * time.Second

// pods is the desired set: one worker for each pod that is wanted here, or was.
type pods struct {
	n *Node

	mu      sync.Mutex
	workers map[types.UID]*worker
	claims  map[types.UID]corev1.ResourceList // of pods taken on that have not ended
	started bool
	pending []*worker // to be run
	poke    chan struct{}
}

func newPods(n *Node) *pods {
	s := &pods{n: n, workers: map[types.UID]*worker{}, claims: map[types.UID]corev1.ResourceList{}, poke: make(chan struct{}, 1)}
	n.objects.OnChange(s.observe)
	return s
}

// observe takes a change of the API's set. It does not block.
func (s *pods) observe(old, pod *corev1.Pod) {
	if o := cmp.Or(pod, old); mirrored(o) != "" { // what runs is its static pod
		s.n.writer.again(client.KeyOf(o))
		wake(s.n.static.poke)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if pod == nil {
		if w := s.workers[old.UID]; w != nil {
			w.want(old, true)
		}
		return
	}
	s.wantLocked(pod)
}

// wantLocked lets a pod run, or be what it is now. Caller holds mu.
func (s *pods) wantLocked(pod *corev1.Pod) {
	w := s.workerLocked(pod.UID)
	w.want(pod, false)
	w.orphan = false
	if w.parked {
		w.parked = false
		s.pending = append(s.pending, w)
		wake(s.poke)
	}
}

// workerLocked returns the pod's worker, a new one when it has none. Caller holds mu.
func (s *pods) workerLocked(uid types.UID) *worker {
	w := s.workers[uid]
	if w == nil {
		w = newWorker(s.n, uid)
		s.workers[uid] = w
		if s.started {
			s.pending = append(s.pending, w)
			wake(s.poke)
		}
	}
	return w
}

// Run runs the workers until ctx ends.
func (s *pods) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		s.mu.Lock()
		pending := s.pending
		s.pending = nil
		s.mu.Unlock()
		for _, w := range pending {
			all.Go(func() {
				if w.run(ctx) {
					s.drop(w)
				}
			})
		}
		select {
		case <-s.poke:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *pods) drop(w *worker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.workers, w.uid)
	delete(s.claims, w.uid)
	s.wakeDeferredLocked()
	wake(s.n.static.poke)
}

// wake lets the worker of uid look again, or all of them when uid is empty.
func (s *pods) wake(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.workers {
		if uid == "" || w.uid == uid {
			wake(w.poke)
		}
	}
}

// refresh lets workers look again at what their pods refer to.
func (s *pods) refresh(uids []types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, uid := range uids {
		if w := s.workers[uid]; w != nil {
			w.mu.Lock()
			w.refresh = true
			w.mu.Unlock()
			wake(w.poke)
		}
	}
}

// wake leaves a note on a channel of capacity one.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// adopt joins what the API wants, what was accepted before, and what the runtime holds, and lets the workers run. What
// nobody wants is removed, once the API's answer is at least as new as what is known of it.
func (s *pods) adopt(ctx context.Context, held []runtime.Pod) error {
	known := loadRecords(s.n.podsDir(), s.n.log)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	synced := true
	select {
	case <-s.n.objects.Synced():
	case <-timer.C:
		synced = false
		s.n.log.Warn("the API does not answer, going by what was accepted before", "pods", len(known))
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	for uid, r := range known {
		w := s.workers[uid]
		if w == nil {
			w = s.workerLocked(uid)
			w.want(r.Pod, false)
			// With the API's answer at hand nothing is done for it before that answer was looked at.
			w.orphan, w.parked = true, synced
		}
		w.remember(r)
	}
	for _, p := range held {
		if s.workers[p.UID] == nil {
			pod := &corev1.Pod{}
			pod.Namespace, pod.Name, pod.UID = p.Namespace, p.Name, p.UID
			w := s.workerLocked(p.UID)
			w.want(pod, false)
			w.orphan, w.parked = true, true
		}
	}
	for _, p := range held {
		s.n.hostPorts.open(s.workers[p.UID].wanted(), p.Sandbox)
	}
	s.n.hostPorts.begin()
	s.started = true
	for _, w := range s.workers {
		if !w.parked {
			s.pending = append(s.pending, w)
		}
	}
	s.mu.Unlock()
	wake(s.poke)
	select {
	case <-s.n.objects.Synced():
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.disown(ctx)
}

// disown ends the workers of pods that the API does not know.
func (s *pods) disown(ctx context.Context) error {
	s.mu.Lock()
	var orphans []*worker
	for _, w := range s.workers {
		if w.orphan {
			orphans = append(orphans, w)
		}
	}
	s.mu.Unlock()
	for _, w := range orphans {
		pod := w.wanted()
		// A list older than what was accepted says nothing: the replica that gave it has yet to catch up.
		if rev, err := strconv.ParseUint(pod.ResourceVersion, 10, 64); err == nil && rev > s.n.objects.Rev() {
			s.unpark(w, false)
			if err := s.n.objects.WaitFor(ctx, pod.ResourceVersion); err != nil {
				return err
			}
		}
		s.unpark(w, true)
	}
	return nil
}

// unpark lets a worker run that waited for the API's answer; unwanted also tells it that the pod is gone, unless the
// API named it meanwhile.
func (s *pods) unpark(w *worker, unwanted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.orphan && unwanted {
		w.want(w.wanted(), true)
	}
	if w.parked {
		w.parked = false
		s.pending = append(s.pending, w)
		wake(s.poke)
	}
}

// keepLinks tells the network which pods have addresses.
func (n *Node) keepLinks(ctx context.Context, held []runtime.Pod) error {
	addrs := map[types.UID]netip.Addr{}
	for _, p := range held {
		addr, err := netip.ParseAddr(p.Sandbox.IP)
		if p.Sandbox.Running || err == nil {
			addrs[p.UID] = addr
		}
	}
	retry := client.NewBackoff(50*time.Millisecond, 5*time.Second)
	for {
		err := n.cfg.Network.Keep(ctx, addrs)
		if err == nil {
			return nil
		}
		n.log.Warn("pod links not taken over, will retry", "err", err)
		if err := retry.Wait(ctx); err != nil {
			return fmt.Errorf("take over pod links: %w", err)
		}
	}
}
