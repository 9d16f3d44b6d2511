package node

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"shoal/internal/api"
	"shoal/internal/client"
)

// settle is how long a status that tells nobody anything they wait for is held back: mostly the next one replaces it.
const settle = 300 * time.Millisecond

// writer is the only writer of pods' statuses. It keeps the newest status of each pod and writes that, one write of a
// pod at a time; whatever became outdated meanwhile is never written.
type writer struct {
	n     *Node
	queue client.Queue

	mu      sync.Mutex
	pending map[client.Key]pendingStatus
	answers map[client.Key]*corev1.Pod // of the last write, until the cache is as new
}

type pendingStatus struct {
	pod    *corev1.Pod
	status *corev1.PodStatus
}

func newWriter(n *Node) *writer {
	return &writer{n: n, pending: map[client.Key]pendingStatus{}, answers: map[client.Key]*corev1.Pod{}}
}

// Run writes until ctx ends.
func (w *writer) Run(ctx context.Context) error {
	queue := client.NewQueue()
	w.mu.Lock()
	w.queue = queue
	for key := range w.pending {
		queue.Add(key)
	}
	w.mu.Unlock()
	return client.RunLoop(ctx, client.LoopConfig[client.Key]{Name: "pod-status", Queue: queue, Workers: 8, Log: w.n.log, Metrics: w.n.cfg.Metrics, Reconcile: w.write})
}

// newest returns the newest known status of p.
func (w *writer) newest(p *corev1.Pod) *corev1.PodStatus {
	return &w.object(p).Status
}

func (w *writer) object(p *corev1.Pod) *corev1.Pod {
	key := client.KeyOf(p)
	is := p
	if cached, ok := w.n.objects.Get(key); ok && stands(cached, p) {
		is = cached
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if a := w.answers[key]; a != nil {
		if stands(a, p) && newer(a.ResourceVersion, is.ResourceVersion) {
			return a
		}
		delete(w.answers, key)
	}
	return is
}

func newer(a, b string) bool {
	x, err := strconv.ParseUint(a, 10, 64)
	y, err2 := strconv.ParseUint(b, 10, 64)
	return err == nil && (err2 != nil || x > y)
}

// set makes s the status to be written of p.
func (w *writer) set(p *corev1.Pod, s *corev1.PodStatus) {
	key := client.KeyOf(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending[key] = pendingStatus{p, s}
	switch {
	case w.queue == nil:
	case dull(s):
		w.queue.AddAfter(key, settle)
	default:
		w.queue.Add(key)
	}
}

// again writes what is pending of a pod, now that the API has it.
func (w *writer) again(key client.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.pending[key]; ok && w.queue != nil {
		w.queue.Add(key)
	}
}

// dull reports whether a status only says that a pod is on its way.
func dull(s *corev1.PodStatus) bool {
	if s.Phase != corev1.PodPending {
		return false
	}
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for _, c := range list {
			if w := c.State.Waiting; w != nil && w.Reason != reasonCreating && w.Reason != reasonInitializing {
				return false
			}
		}
	}
	return true
}

// drop forgets a pod of which nothing is left.
func (w *writer) drop(p *corev1.Pod) {
	key := client.KeyOf(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	if s, ok := w.pending[key]; ok && s.pod.UID == p.UID {
		delete(w.pending, key)
	}
	if a, ok := w.answers[key]; ok && stands(a, p) {
		delete(w.answers, key)
	}
}

// write writes the pending status of one pod over whatever its status is now.
func (w *writer) write(ctx context.Context, key client.Key) (time.Duration, error) {
	w.mu.Lock()
	want, ok := w.pending[key]
	w.mu.Unlock()
	if !ok {
		return 0, nil
	}
	now := w.object(want.pod)
	if isStatic(now) {
		return 0, nil // until it has a mirror
	}
	for {
		s := stamp(mergeStatus(want.status, &now.Status), w.n.cfg.Now())
		if equality.Semantic.DeepEqual(&now.Status, s) {
			w.done(key, want)
			return 0, nil
		}
		o := *now
		o.Status = *s
		out, err := w.n.cfg.Client.Update(ctx, api.Pods, &o, client.UpdateOptions{Subresource: "status"})
		switch {
		case apierrors.IsNotFound(err):
			w.done(key, want)
			return 0, nil
		case apierrors.IsConflict(err):
			fresh, err := w.n.cfg.Client.Get(ctx, api.Pods, key, client.GetOptions{})
			if apierrors.IsNotFound(err) {
				w.done(key, want)
				return 0, nil
			}
			if err != nil {
				return 0, err
			}
			pod, ok := fresh.(*corev1.Pod)
			if !ok || !stands(pod, want.pod) {
				w.done(key, want)
				return 0, nil
			}
			if pod.ResourceVersion == now.ResourceVersion {
				return 0, fmt.Errorf("write status of pod %s: %w", key, err)
			}
			now = pod
			continue
		case err != nil:
			return 0, fmt.Errorf("write status of pod %s: %w", key, err)
		}
		if pod, ok := out.(*corev1.Pod); ok {
			w.mu.Lock()
			w.answers[key] = pod
			w.mu.Unlock()
		}
		w.done(key, want)
		return 0, nil
	}
}

// done drops a status that needs no more writing, unless another one replaced it.
func (w *writer) done(key client.Key, s pendingStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pending[key] == s {
		delete(w.pending, key)
	}
}
