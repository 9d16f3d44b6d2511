package node

import (
	"context"
	"log/slog"
	"maps"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/node/runtime"
)

// worker runs one pod from its acceptance to its end: it looks, lets step decide, does that one thing, and looks again.
type worker struct {
	n    *Node
	uid  types.UID
	log  *slog.Logger
	poke chan struct{} // capacity 1: something may have changed

	// orphan: known only from this machine's memory. parked: not to be run yet. Guarded by pods.mu.
	orphan, parked bool

	mu        sync.Mutex
	pod       *corev1.Pod // as wanted; read-only
	gone      bool
	refresh   bool               // something that volumes or environments are made of changed
	evicted   string             // why the pod has to go for want of something; empty while it may stay
	interrupt context.CancelFunc // ends what is being done; nil when nothing is
	probes    map[string]probeResult
	seen      []runtime.Container // as observed last, for the server
	sandbox   runtime.Sandbox
	changed   chan struct{} // closed and replaced when seen changes

	// What follows is used by run's goroutine only, or before it.
	accepted bool
	mem      observed
	final    *corev1.PodStatus
	saved    *record
	env      map[string][]string // of each container's newest run
	last     *corev1.PodStatus   // reported last
	probers  *probers
	lost     bool // the runtime's state is unknown: the last look failed
	// granted is the pod with the resources that were set aside for it, asked the one that was looked at for that last.
	granted, asked *corev1.Pod

	deferred atomic.Bool // it waits for resources that others have
}

func newWorker(n *Node, uid types.UID) *worker {
	w := &worker{
		n: n, uid: uid, poke: make(chan struct{}, 1), changed: make(chan struct{}), probes: map[string]probeResult{},
		env: map[string][]string{},
		mem: observed{tries: map[string]try{}, streaks: map[string]int{}},
	}
	w.log = n.log.With("uid", uid)
	w.probers = newProbers(w)
	return w
}

func (w *worker) dir() string { return filepath.Join(w.n.podsDir(), string(w.uid)) }

// want sets what is wanted of the pod. It may be called at any time and does not block.
func (w *worker) want(pod *corev1.Pod, gone bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	// The end of a pod is not put off by what is being done for it.
	sooner := gone && !w.gone || w.pod != nil && (pod.DeletionTimestamp != nil && w.pod.DeletionTimestamp == nil ||
		gracePeriod(pod) < gracePeriod(w.pod))
	if w.pod != nil && (!maps.Equal(pod.Labels, w.pod.Labels) || !maps.Equal(pod.Annotations, w.pod.Annotations)) {
		w.refresh = true
	}
	w.pod, w.gone = pod, gone
	if sooner && w.interrupt != nil {
		w.interrupt()
	}
	wake(w.poke)
}

// wanted returns the pod as wanted last.
func (w *worker) wanted() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod
}

// remember takes over what an earlier life of the node noted, before run. Caller holds pods.mu.
func (w *worker) remember(r *record) {
	w.mem.accepted, w.final, w.saved = r.Accepted, r.Final, r
	w.accepted = !r.Accepted.IsZero()
	if w.accepted {
		w.granted = r.Pod
	}
	if r.Env != nil {
		w.env = r.Env
	}
	if w.accepted && w.final == nil {
		w.n.pods.claims[w.uid] = api.PodRequests(r.Pod)
	}
}

// run works for the pod until nothing is left of it, which it reports, or ctx ends.
func (w *worker) run(ctx context.Context) (over bool) {
	defer w.probers.stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		w.mu.Lock()
		d := desired{pod: w.pod, gone: w.gone, final: w.final}
		refresh := w.refresh
		w.refresh = false
		w.mem.evicted = w.evicted
		w.mu.Unlock()
		if refresh {
			w.retryNow()
		}
		until := w.look(ctx)
		a := action{verb: wait, until: until}
		if !w.lost {
			w.n.hostPorts.open(d.pod, w.mem.sandbox)
			if !w.accepted && !d.gone && d.pod.DeletionTimestamp == nil {
				w.accept(d.pod)
				d.final = w.final
			}
			d.pod = w.allotted(d.pod)
			now := w.n.cfg.Now()
			w.probers.follow(ctx, d, w.mem)
			w.mem.probes = w.probed()
			a = step(d, w.mem, now)
			w.report(d, now)
		}
		switch a.verb {
		case wait:
			timer.Reset(w.sleep(a))
			select {
			case <-w.poke:
			case <-timer.C:
			case <-ctx.Done():
			}
		default:
			if w.act(ctx, d, a) && a.verb == forget {
				return true
			}
		}
	}
	return false
}

const forever = 24 * time.Hour

// sleep returns how long to wait unless something happens.
func (w *worker) sleep(a action) time.Duration {
	now := w.n.cfg.Now()
	d := forever
	if !a.until.IsZero() {
		d = a.until.Sub(now)
	}
	for _, t := range w.mem.tries {
		// A failed pull changes its looks after a while.
		if shown := t.failed.Add(pullShown).Sub(now); t.reason == runtime.ReasonImagePull && shown > 0 {
			d = min(d, shown)
		}
	}
	return max(0, d)
}

// act does a, and notes how that went: ok when it is done. It is cut short when the pod's end comes nearer.
func (w *worker) act(ctx context.Context, d desired, a action) (ok bool) {
	doing, cancel := context.WithCancel(ctx)
	defer cancel()
	w.mu.Lock()
	if w.pod != d.pod && (w.gone != d.gone || w.pod.DeletionTimestamp != d.pod.DeletionTimestamp) {
		w.mu.Unlock()
		return false // it changed since the decision
	}
	w.interrupt = cancel
	w.mu.Unlock()
	begun := w.n.cfg.Now()
	err := w.do(doing, d, a)
	w.mu.Lock()
	w.interrupt = nil
	w.mu.Unlock()
	key := retryKey(a)
	switch {
	case err == nil:
		delete(w.mem.tries, key)
		w.log.Debug("did", "action", a.verb, "container", a.name, "took", w.n.cfg.Now().Sub(begun))
	case doing.Err() != nil:
		// Cut short: what is wanted now decides.
	default:
		w.failed(d, a, key, err)
	}
	return err == nil
}

// retryKey names what an action's failure holds up.
func retryKey(a action) string {
	switch a.verb {
	case prepare:
		return "volumes"
	case attach:
		return "network"
	case start:
		return "start/" + a.name
	}
	return string(a.verb)
}

// report hands the pod's status to the writer if it changed, and keeps it for a restart.
func (w *worker) report(d desired, now time.Time) {
	if d.gone || len(d.pod.Spec.Containers) == 0 || w.mem.removed && d.final == nil {
		return // nothing is known of it any more
	}
	if w.final != nil && !w.mem.removed && drives(d.pod) {
		return // its end is told when nothing of it is mounted any more: then its volumes may be detached
	}
	prev := w.n.writer.newest(d.pod)
	s := stamp(status(d, w.mem, prev, w.n.host, now), now)
	if w.last == nil || !equality.Semantic.DeepEqual(w.last, s) || !equality.Semantic.DeepEqual(prev, s) {
		w.n.writer.set(d.pod, s)
	}
	if w.accepted && (w.saved == nil || w.saved.Pod != d.pod || w.last == nil || !equality.Semantic.DeepEqual(w.last, s)) {
		w.save(d.pod, s)
	}
	w.tellCrashes(d.pod, s)
	w.last = s
}

// tellCrashes writes an Event for each container that began to wait for its next run.
func (w *worker) tellCrashes(p *corev1.Pod, s *corev1.PodStatus) {
	waits := func(s *corev1.PodStatus) map[string]bool {
		out := map[string]bool{}
		if s == nil {
			return out
		}
		for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
			for i := range list {
				if state := list[i].State.Waiting; state != nil && state.Reason == reasonCrashLoop {
					out[list[i].Name] = true
				}
			}
		}
		return out
	}
	before := waits(w.last)
	for name := range waits(s) {
		if !before[name] {
			w.event(p, corev1.EventTypeWarning, "BackOff", "Back-off restarting failed container %s in pod %s_%s(%s)", name, p.Name, p.Namespace, p.UID)
		}
	}
}

// save keeps the pod as it is wanted and reported now.
func (w *worker) save(p *corev1.Pod, s *corev1.PodStatus) {
	kept := *p
	kept.Status = *s
	r := &record{Pod: &kept, Accepted: w.mem.accepted, Final: w.final, Env: w.env}
	if err := r.save(w.dir()); err != nil {
		w.log.Warn("record of pod not kept", "pod", p.Name, "ns", p.Namespace, "err", err)
		return
	}
	r.Pod = p
	w.saved = r
}
