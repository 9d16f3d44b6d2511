package node

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
	"shoal/node/runtime"
)

// What a container that ends again and again waits for, as in Kubernetes: nothing after the first end, then ten seconds,
// doubled each time. A run that lasted resets it.
const (
	backoffFirst = 10 * time.Second
	backoffMost  = 5 * time.Minute
	backoffReset = 10 * time.Minute
)

// sameLife is how much older than its sandbox a container may look: the two take their times from different clocks.
const sameLife = 2 * time.Second

// backoff returns how long to wait after so many quick ends in a row.
func backoff(streak int) time.Duration {
	if streak <= 1 {
		return 0
	}
	d := backoffFirst
	for range streak - 2 {
		if d *= 2; d >= backoffMost {
			return backoffMost
		}
	}
	return d
}

// specHash identifies what a container must be restarted for when it changes. Everything else of a pod's spec is fixed;
// leaving it out keeps the hash the same across releases.
func specHash(c *corev1.Container) string {
	sum := sha256.Sum256([]byte(c.Name + "\x00" + c.Image))
	return hex.EncodeToString(sum[:8])
}

// containerOf returns the container of that name and whether it is an init container; nil when there is none.
func containerOf(p *corev1.Pod, name string) (c *corev1.Container, init bool) {
	for i := range p.Spec.InitContainers {
		if p.Spec.InitContainers[i].Name == name {
			return &p.Spec.InitContainers[i], true
		}
	}
	for i := range p.Spec.Containers {
		if p.Spec.Containers[i].Name == name {
			return &p.Spec.Containers[i], false
		}
	}
	if e := ephemeralOf(p, name); e != nil {
		return (*corev1.Container)(&e.EphemeralContainerCommon), false
	}
	return nil, false
}

// ephemeralOf returns the ephemeral container of that name, nil when there is none.
func ephemeralOf(p *corev1.Pod, name string) *corev1.EphemeralContainer {
	for i := range p.Spec.EphemeralContainers {
		if p.Spec.EphemeralContainers[i].Name == name {
			return &p.Spec.EphemeralContainers[i]
		}
	}
	return nil
}

// look returns what to do for an ephemeral container: it is started once, whatever becomes of the others, but not before its target runs.
func (o *observed) look(p *corev1.Pod, e *corev1.EphemeralContainer, now time.Time) action {
	a := o.keep(p, (*corev1.Container)(&e.EphemeralContainerCommon), corev1.RestartPolicyNever, now)
	if a.verb != start || e.TargetContainerName == "" {
		return a
	}
	if target := o.newest(e.TargetContainerName); target == nil || target.State != runtime.Running {
		return action{verb: wait}
	}
	return a
}

func (o *observed) newest(name string) *runtime.Container {
	for i := range o.containers {
		if o.containers[i].Name == name {
			return &o.containers[i]
		}
	}
	return nil
}

// before returns the run that came before the newest.
func (o *observed) before(name string) *runtime.Container {
	seen := false
	for i := range o.containers {
		if o.containers[i].Name == name {
			if seen {
				return &o.containers[i]
			}
			seen = true
		}
	}
	return nil
}

func (o *observed) running() []runtime.Container {
	var out []runtime.Container
	for _, c := range o.containers {
		if c.State == runtime.Running {
			out = append(out, c)
		}
	}
	return out
}

// stale reports whether a run belongs to an earlier life of the pod: its sandbox was started anew since.
func (o *observed) stale(r *runtime.Container) bool {
	return r.State == runtime.Exited && r.Created.Before(o.sandbox.Started.Add(-sameLife))
}

// appsBegan reports whether one of the pod's own containers was started in this life: initialisation is over.
func (o *observed) appsBegan(p *corev1.Pod) bool {
	for i := range p.Spec.Containers {
		if r := o.newest(p.Spec.Containers[i].Name); r != nil && !o.stale(r) {
			return true
		}
	}
	return false
}

// initialise returns what to do for an init container, and whether the next one may begin.
func (o *observed) initialise(p *corev1.Pod, c *corev1.Container, began bool, now time.Time) (a action, done bool) {
	r := o.newest(c.Name)
	if api.IsSidecar(c) {
		a := o.keep(p, c, corev1.RestartPolicyAlways, now)
		return a, a.verb == wait && r != nil && r.State == runtime.Running && o.probes[r.ID].started
	}
	switch {
	case began:
		return action{verb: wait}, true
	case r != nil && r.State == runtime.Exited && r.ExitCode == 0 && !o.stale(r):
		return action{verb: wait}, true
	case r != nil && r.State == runtime.Exited && o.stale(r):
		return o.starting(c, r.Attempt+1, 0, now), false
	}
	policy := p.Spec.RestartPolicy
	if policy == corev1.RestartPolicyAlways {
		policy = corev1.RestartPolicyOnFailure
	}
	return o.keep(p, c, policy, now), false
}

// keep returns what to do to have a container run as policy says.
func (o *observed) keep(p *corev1.Pod, c *corev1.Container, policy corev1.RestartPolicy, now time.Time) action {
	r := o.newest(c.Name)
	switch {
	case r == nil:
		return o.starting(c, 0, 0, now)
	case r.State == runtime.Created:
		return o.starting(c, r.Attempt, o.streaks[c.Name], now)
	case r.State == runtime.Running:
		reason := o.probes[r.ID].failed
		if r.SpecHash != specHash(c) {
			reason = "Container %s definition changed, will be restarted"
		}
		if reason == "" && wantsRestart(p, c, r) {
			reason = "Container %s resize requires a restart"
		}
		if reason == "" {
			return action{verb: wait}
		}
		grace := gracePeriod(p)
		if own := o.probes[r.ID].grace; own > 0 && o.probes[r.ID].failed != "" {
			grace = time.Duration(own) * time.Second
		}
		return o.retried("stop", action{verb: stop, runs: []runtime.Container{*r}, grace: grace, reason: reason}, now)
	case !restarts(policy, r.ExitCode):
		return action{verb: wait}
	}
	due, streak := o.due(r)
	if now.Before(due) {
		return action{verb: wait, until: due}
	}
	return o.starting(c, r.Attempt+1, streak, now)
}

// due returns when a container that ended may run again, and how many quick ends that run will have behind it.
func (o *observed) due(r *runtime.Container) (time.Time, int) {
	streak := o.streaks[r.Name] + 1
	if !r.Started.IsZero() && r.Finished.Sub(r.Started) >= backoffReset {
		streak = 1
	}
	return r.Finished.Add(backoff(streak)), streak
}

func (o *observed) starting(c *corev1.Container, attempt, streak int, now time.Time) action {
	return o.retried("start/"+c.Name, action{verb: start, name: c.Name, attempt: attempt, streak: streak}, now)
}

// retried is a, unless a failed just before.
func (o *observed) retried(key string, a action, now time.Time) action {
	if t, ok := o.tries[key]; ok && now.Before(t.until) {
		return action{verb: wait, until: t.until}
	}
	return a
}

// kept is how many runs of each container stay with the runtime: the newest, and one for lastState and earlier logs.
const kept = 2

func (o *observed) superfluous() *runtime.Container {
	seen := map[string]int{}
	for i := range o.containers {
		c := &o.containers[i]
		if seen[c.Name]++; seen[c.Name] > kept && c.State == runtime.Exited {
			return c
		}
	}
	return nil
}
