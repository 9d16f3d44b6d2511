package node

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
	"shoal/node/runtime"
)

// verb is what the worker of a pod does next.
type verb string

// The verbs, in the order of a pod's life.
const (
	wait    verb = "wait"    // nothing to do until something happens, or until action.until
	prepare verb = "prepare" // make directories and volumes, or bring them up to date
	sandbox verb = "sandbox" // start the pause
	attach  verb = "attach"  // give the pod its address
	start   verb = "start"   // start one run of a container
	stop    verb = "stop"    // stop running containers within grace
	resize  verb = "resize"  // give running containers other resources
	prune   verb = "prune"   // remove an old run of a container
	finish  verb = "finish"  // note for good how the pod ended
	remove  verb = "remove"  // remove everything but the logs
	confirm verb = "confirm" // tell the API that nothing is left of a deleted pod
	forget  verb = "forget"  // drop the last traces of a pod whose object is gone
)

// action is one transition. It carries everything that is needed to carry it out.
type action struct {
	verb    verb
	runs    []runtime.Container // stop: those to stop; resize: those that change; prune: the one to remove
	name    string              // start: the container
	attempt int                 // start
	streak  int                 // start: how many quick ends came before
	grace   time.Duration       // stop
	whole   bool                // stop: all of the pod stops, within one grace period
	reason  string              // stop: an Event's message; finish: the pod's reason
	message string              // finish
	phase   corev1.PodPhase     // finish
	until   time.Time           // wait: when to look again; zero means when something happens
}

// desired is what is wanted of a pod.
type desired struct {
	pod *corev1.Pod
	// gone: the object is no more, so the pod ends at once.
	gone bool
	// final is how the pod ended; nil while it has not.
	final *corev1.PodStatus
}

// observed is what is there: what the runtime holds, and what the worker remembers.
type observed struct {
	held       bool // the runtime knows the pod
	sandbox    runtime.Sandbox
	containers []runtime.Container // newest first for each name

	accepted time.Time // when this node took the pod on
	stopping time.Time // when its stop began; zero before
	prepared bool      // directories and volumes are as they should be
	attached bool      // the pod has its address
	removed  bool      // nothing but logs is left
	told     bool      // the API knows that nothing is left
	evicted  string    // why the pod has to go for want of something on the machine
	tries    map[string]try
	streaks  map[string]int         // of the newest run of each container
	probes   map[string]probeResult // by container id

	outstanding outstanding        // what the pod asks for and has not got
	cgroup      *runtime.Resources // the pod's, as set by this life of the node; nil when it was not
}

// try is what is known of something that failed.
type try struct {
	count   int
	failed  time.Time
	until   time.Time // not to be tried before
	reason  string
	message string
}

// probeResult is what the probes say of a running container.
type probeResult struct {
	started bool
	ready   bool
	failed  string // why the container must be restarted; empty while it need not
	grace   int64  // seconds it has for that, if the probe says so; else 0
}

// step decides what to do next for a pod. It is pure: the same arguments give the same action.
func step(d desired, o observed, now time.Time) action {
	switch {
	case d.gone:
		if o.held || !o.removed {
			return o.retried("remove", action{verb: remove}, now)
		}
		return o.retried("forget", action{verb: forget}, now)
	case d.pod.DeletionTimestamp != nil:
		return leave(d.pod, o, now)
	case d.final != nil:
		if runs := o.running(); len(runs) > 0 {
			return o.stopAll(d.pod, runs, now)
		}
		if o.held || !o.removed {
			return o.retried("remove", action{verb: remove}, now)
		}
		return action{verb: wait}
	}
	if end := ended(d.pod, o, now); end.verb != wait {
		if runs := o.running(); len(runs) > 0 {
			return o.stopAll(d.pod, runs, now)
		}
		return end
	}
	a := advance(d.pod, o, now)
	if end, ok := deadline(d.pod, o); ok && a.verb == wait && (a.until.IsZero() || end.Before(a.until)) {
		a.until = end
	}
	return a
}

// leave ends a deleted pod: its containers first, then everything else, then the object.
func leave(p *corev1.Pod, o observed, now time.Time) action {
	if runs := o.running(); len(runs) > 0 {
		return o.stopAll(p, runs, now)
	}
	if o.held || !o.removed {
		return o.retried("remove", action{verb: remove}, now)
	}
	if o.told {
		return action{verb: wait} // finalizers hold the object
	}
	return o.retried("confirm", action{verb: confirm}, now)
}

// stopAll stops the containers together; sidecars last, when nothing needs them any more.
func (o *observed) stopAll(p *corev1.Pod, runs []runtime.Container, now time.Time) action {
	var first []runtime.Container
	for _, r := range runs {
		if c, _ := containerOf(p, r.Name); c == nil || !api.IsSidecar(c) {
			first = append(first, r)
		}
	}
	if len(first) == 0 {
		first = runs
	}
	grace := gracePeriod(p)
	if o.evicted != "" {
		grace = 0 // what is short is wanted now
	}
	if !o.stopping.IsZero() {
		grace = max(0, o.stopping.Add(grace).Sub(now))
	}
	return o.retried("stop", action{verb: stop, runs: first, grace: grace, whole: true, reason: "Stopping container %s"}, now)
}

// gracePeriod is how long the pod may take to stop.
func gracePeriod(p *corev1.Pod) time.Duration {
	seconds := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if p.Spec.TerminationGracePeriodSeconds != nil {
		seconds = *p.Spec.TerminationGracePeriodSeconds
	}
	if p.DeletionGracePeriodSeconds != nil {
		seconds = *p.DeletionGracePeriodSeconds
	}
	return time.Duration(max(0, seconds)) * time.Second
}

// ended returns a finish when the pod has ended for good, else a wait.
func ended(p *corev1.Pod, o observed, now time.Time) action {
	if o.evicted != "" {
		return action{verb: finish, phase: corev1.PodFailed, reason: reasonEvicted, message: o.evicted}
	}
	if end, ok := deadline(p, o); ok && !now.Before(end) {
		return action{
			verb: finish, phase: corev1.PodFailed, reason: "DeadlineExceeded",
			message: "Pod was active on the node longer than the specified deadline",
		}
	}
	policy := p.Spec.RestartPolicy
	if !o.appsBegan(p) {
		for i := range p.Spec.InitContainers {
			c := &p.Spec.InitContainers[i]
			if r := o.newest(c.Name); !api.IsSidecar(c) && r != nil && r.State == runtime.Exited && r.ExitCode != 0 && policy == corev1.RestartPolicyNever {
				return action{verb: finish, phase: corev1.PodFailed}
			}
		}
	}
	phase := corev1.PodSucceeded
	for i := range p.Spec.Containers {
		r := o.newest(p.Spec.Containers[i].Name)
		if r == nil || r.State != runtime.Exited || restarts(policy, r.ExitCode) {
			return action{verb: wait}
		}
		if r.ExitCode != 0 {
			phase = corev1.PodFailed
		}
	}
	return action{verb: finish, phase: phase}
}

// deadline returns when the pod has been active for too long, if it may.
func deadline(p *corev1.Pod, o observed) (time.Time, bool) {
	if p.Spec.ActiveDeadlineSeconds == nil || o.accepted.IsZero() {
		return time.Time{}, false
	}
	return o.accepted.Add(time.Duration(*p.Spec.ActiveDeadlineSeconds) * time.Second), true
}

func restarts(policy corev1.RestartPolicy, exit int) bool {
	return policy == corev1.RestartPolicyAlways || policy == corev1.RestartPolicyOnFailure && exit != 0
}

// advance brings a pod that should run closer to running.
func advance(p *corev1.Pod, o observed, now time.Time) action {
	if !o.prepared {
		return o.retried("volumes", action{verb: prepare}, now)
	}
	if !o.sandbox.Running {
		// The pause died, and with it the network: what still runs is of no use.
		if runs := o.running(); len(runs) > 0 {
			return o.stopAll(p, runs, now)
		}
		return o.retried("sandbox", action{verb: sandbox}, now)
	}
	if !o.attached && !p.Spec.HostNetwork {
		return o.retried("network", action{verb: attach}, now)
	}
	next := action{verb: wait}
	for i := range p.Spec.EphemeralContainers { // first, because what they are for may be the others' not starting
		a := o.look(p, &p.Spec.EphemeralContainers[i], now)
		if a.verb != wait {
			return a
		}
		next = sooner(next, a)
	}
	began := o.appsBegan(p)
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		a, done := o.initialise(p, c, began, now)
		if a.verb != wait {
			return a
		}
		next = sooner(next, a)
		if !done && !began {
			return next
		}
	}
	for i := range p.Spec.Containers {
		a := o.keep(p, &p.Spec.Containers[i], p.Spec.RestartPolicy, now)
		if a.verb != wait {
			return a
		}
		next = sooner(next, a)
	}
	if a := o.refit(p, now); a.verb != wait {
		return a
	} else {
		next = sooner(next, a)
	}
	if old := o.superfluous(); old != nil {
		if a := o.retried("prune", action{verb: prune, runs: []runtime.Container{*old}}, now); a.verb != wait {
			return a
		}
	}
	return next
}

func sooner(a, b action) action {
	if a.until.IsZero() || !b.until.IsZero() && b.until.Before(a.until) {
		return b
	}
	return a
}
