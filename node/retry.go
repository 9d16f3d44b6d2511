package node

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"shoal/node/runtime"
)

// retryAfter is how long to wait after so many failures in a row of something that ought to succeed.
func retryAfter(count int) time.Duration {
	const first, most = 100 * time.Millisecond, 30 * time.Second
	d := first
	for range count - 1 {
		if d *= 2; d >= most {
			return most
		}
	}
	return d
}

// failed notes a failure: when to try again, and what to show meanwhile.
func (w *worker) failed(d desired, a action, key string, err error) {
	now := w.n.cfg.Now()
	t := w.mem.tries[key]
	t.count++
	t.failed, t.reason, t.message = now, runtime.Reason(err), err.Error()
	delay := retryAfter(t.count)
	if a.verb == start && t.reason != runtime.ReasonConfig || a.verb == prepare && t.reason == runtime.ReasonImagePull {
		delay = backoff(t.count + 1) // an image or a command that cannot be had may never be
	}
	t.until = now.Add(delay)
	w.mem.tries[key] = t
	log := w.log.With("action", a.verb, "pod", d.pod.Name, "ns", d.pod.Namespace, "err", err)
	if t.count == 1 {
		log.Warn("pod held up, will retry")
	} else {
		log.Debug("pod held up, will retry", "count", t.count)
	}
	w.complain(d.pod, a, t)
}

// complain writes the Event of a failure.
func (w *worker) complain(p *corev1.Pod, a action, t try) {
	switch a.verb {
	case prepare:
		w.event(p, corev1.EventTypeWarning, "FailedMount", "%s", t.message)
	case sandbox, attach:
		w.event(p, corev1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: %s", t.message)
	case stop, remove:
		w.event(p, corev1.EventTypeWarning, "FailedKillPod", "error killing pod: %s", t.message)
	case start:
		c, _ := containerOf(p, a.name)
		if t.reason == runtime.ReasonImagePull && c != nil {
			w.event(p, corev1.EventTypeWarning, "Failed", "Failed to pull image %q: %s", c.Image, t.message)
		}
		w.event(p, corev1.EventTypeWarning, "Failed", "Error: %s: %s", t.reason, t.message)
	case resize:
		w.event(p, corev1.EventTypeWarning, "ResizeError", "%s", t.message)
	case wait, prune, finish, confirm, forget:
	}
}

// retryNow makes volumes anew, and forgets failures that a changed ConfigMap or Secret may have cured.
func (w *worker) retryNow() {
	w.mem.prepared = false
	for key, t := range w.mem.tries {
		if key == "volumes" || strings.HasPrefix(key, "start/") && (t.reason == runtime.ReasonConfig || t.reason == runtime.ReasonImagePull || t.reason == runtime.ReasonImageNeverPull) {
			delete(w.mem.tries, key)
		}
	}
}
