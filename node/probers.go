package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
	"shoal/node/probe"
	"shoal/node/runtime"
)

// probers probes a pod's running containers. Only the worker's goroutine calls its methods.
type probers struct {
	w       *worker
	cancels map[string]context.CancelFunc // by container id
	all     sync.WaitGroup
}

func newProbers(w *worker) *probers {
	return &probers{w: w, cancels: map[string]context.CancelFunc{}}
}

// stop ends every probe and waits for it.
func (s *probers) stop() {
	for id, cancel := range s.cancels {
		cancel()
		delete(s.cancels, id)
	}
	s.all.Wait()
}

// follow begins to probe what runs, and stops probing what does not.
func (s *probers) follow(ctx context.Context, d desired, o observed) {
	running := map[string]bool{}
	for i := range o.containers {
		r := &o.containers[i]
		c, init := containerOf(d.pod, r.Name)
		if r.State != runtime.Running || c == nil {
			continue
		}
		running[r.ID] = true
		if s.cancels[r.ID] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		s.cancels[r.ID] = cancel
		s.begin(ctx, d.pod, c, *r, init && !api.IsSidecar(c))
	}
	for id, cancel := range s.cancels {
		if !running[id] {
			cancel()
			delete(s.cancels, id)
			s.w.forgetProbe(id)
		}
	}
}

// begin probes one container. A container that was taken over is believed to be what it was said to be last: it must not
// lose its place in a Service because this peer was restarted.
func (s *probers) begin(ctx context.Context, p *corev1.Pod, c *corev1.Container, r runtime.Container, plain bool) {
	w := s.w
	result := probeResult{started: c.StartupProbe == nil, ready: c.ReadinessProbe == nil}
	if plain {
		result = probeResult{started: true, ready: true}
	}
	if was := w.reported(p, c.Name, r.ID); was != nil {
		result.started = result.started || was.Started != nil && *was.Started
		result.ready = result.ready || was.Ready
	}
	w.setProbe(r.ID, func(pr *probeResult) { *pr = result })
	if plain {
		return
	}
	later := func() {
		s.run(ctx, c, c.LivenessProbe, r, true, func(good bool, err error) bool {
			if !good {
				w.condemn(r.ID, c.LivenessProbe, fmt.Sprintf("Container %s failed liveness probe, will be restarted", c.Name))
			}
			return good
		}, "Liveness")
		s.run(ctx, c, c.ReadinessProbe, r, result.ready, func(good bool, err error) bool {
			w.setProbe(r.ID, func(pr *probeResult) { pr.ready = good })
			return true
		}, "Readiness")
	}
	if result.started {
		later()
		return
	}
	s.run(ctx, c, c.StartupProbe, r, false, func(good bool, err error) bool {
		w.setProbe(r.ID, func(pr *probeResult) { pr.started = good })
		if good {
			later()
		}
		return false
	}, "Startup")
}

// run begins one probe, if there is one.
func (s *probers) run(ctx context.Context, c *corev1.Container, spec *corev1.Probe, r runtime.Container, good bool, changed func(bool, error) bool, name string) {
	if spec == nil {
		return
	}
	w := s.w
	misses := int32(0)
	s.all.Go(func() {
		probe.Run(ctx, probe.Config{
			Spec: spec, Started: r.Started, Now: w.n.cfg.Now, Good: good, Changed: changed,
			Check: func(ctx context.Context) error { return w.check(ctx, c, r.ID, spec) },
			Failed: func(err error) {
				w.event(w.wanted(), corev1.EventTypeWarning, "Unhealthy", "%s probe failed: %v", name, err)
				if misses++; name == "Startup" && misses >= max(1, spec.FailureThreshold) {
					w.condemn(r.ID, spec, fmt.Sprintf("Container %s failed startup probe, will be restarted", c.Name))
				}
			},
		})
	})
}

func (w *worker) check(ctx context.Context, c *corev1.Container, id string, spec *corev1.Probe) error {
	switch {
	case spec.Exec != nil:
		return w.execIn(ctx, id, spec.Exec.Command)
	case spec.HTTPGet != nil:
		return probe.HTTP(ctx, w.address(), c, spec.HTTPGet)
	case spec.TCPSocket != nil:
		return probe.TCP(ctx, w.address(), c, spec.TCPSocket)
	case spec.GRPC != nil:
		return probe.GRPC(ctx, w.address(), spec.GRPC)
	}
	return errors.New("probe has no handler")
}

// reported returns what was said last of one run of a container, nil when nothing was.
func (w *worker) reported(p *corev1.Pod, name, id string) *corev1.ContainerStatus {
	statuses := []*corev1.PodStatus{&p.Status}
	if w.saved != nil {
		statuses = append(statuses, &w.saved.Pod.Status)
	}
	for _, s := range statuses {
		for _, list := range [][]corev1.ContainerStatus{s.ContainerStatuses, s.InitContainerStatuses} {
			for i := range list {
				if list[i].Name == name && list[i].ContainerID == containerID(id) {
					return &list[i]
				}
			}
		}
	}
	return nil
}

func (w *worker) setProbe(id string, change func(*probeResult)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.probes[id]
	before := r
	change(&r)
	w.probes[id] = r
	if r != before {
		wake(w.poke)
	}
}

func (w *worker) forgetProbe(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.probes, id)
}

// condemn has a container restarted because of a probe.
func (w *worker) condemn(id string, by *corev1.Probe, why string) {
	w.setProbe(id, func(r *probeResult) {
		r.failed = why
		if by.TerminationGracePeriodSeconds != nil {
			r.grace = *by.TerminationGracePeriodSeconds
		}
	})
}

func (w *worker) probed() map[string]probeResult {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.probes)
}
