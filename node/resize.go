package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"

	"shoal/internal/api"
	"shoal/node/runtime"
)

// What a pod asks for may change while it runs. The machine sets it aside first, if it can: until then the pod is run, shown and kept as one that
// asks for what it has (allotted). Then the cgroups follow (resize), or a container that wants that is started anew.

// outstanding is why a pod has not got what it asks for now; reason is empty when it has.
type outstanding struct{ reason, message string }

// allotted returns the pod with the resources that it has here, after trying to set aside those that it asks for. It is p itself when they are.
func (w *worker) allotted(p *corev1.Pod) *corev1.Pod {
	if !w.accepted || w.final != nil || len(p.Spec.Containers) == 0 {
		return p
	}
	if w.granted == nil || w.granted == p {
		w.granted = p
		return p
	}
	if w.asked == p && w.mem.outstanding.reason == "" {
		return w.granted
	}
	if sameResources(p, w.granted) {
		w.asked, w.granted, w.mem.outstanding = p, p, outstanding{}
		w.deferred.Store(false)
		return p
	}
	was := w.mem.outstanding
	w.mem.outstanding = outstanding{}
	if p.DeletionTimestamp == nil {
		w.mem.outstanding = w.n.pods.reserve(p)
	}
	w.deferred.Store(w.mem.outstanding.reason == corev1.PodReasonDeferred)
	if w.mem.outstanding.reason == "" && p.DeletionTimestamp == nil {
		w.asked, w.granted = p, p
		delete(w.mem.tries, string(resize)) // what failed was something else
		return p
	}
	if w.mem.outstanding.reason != was.reason {
		w.event(p, corev1.EventTypeWarning, "Resize"+w.mem.outstanding.reason, "%s", w.mem.outstanding.message)
	}
	if w.asked != p {
		w.asked, w.granted = p, withResources(p, w.granted)
	}
	return w.granted
}

// resourcesOf returns everything in a pod's spec that may be resized.
func resourcesOf(p *corev1.Pod) []corev1.ResourceRequirements {
	var out []corev1.ResourceRequirements
	if p.Spec.Resources != nil {
		out = append(out, *p.Spec.Resources)
	}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			out = append(out, list[i].Resources)
		}
	}
	return out
}

func sameResources(a, b *corev1.Pod) bool {
	return equality.Semantic.DeepEqual(resourcesOf(a), resourcesOf(b))
}

// withResources returns p with the resources of other.
func withResources(p, other *corev1.Pod) *corev1.Pod {
	out := *p
	out.Spec.Resources = other.Spec.Resources
	out.Spec.InitContainers, out.Spec.Containers = slices.Clone(p.Spec.InitContainers), slices.Clone(p.Spec.Containers)
	for _, list := range [][]corev1.Container{out.Spec.InitContainers, out.Spec.Containers} {
		for i := range list {
			if c, _ := containerOf(other, list[i].Name); c != nil {
				list[i].Resources = c.Resources
			}
		}
	}
	return &out
}

// reserve claims what a pod that runs asks for now, in place of what it had, or says why it cannot have it.
func (s *pods) reserve(p *corev1.Pod) outstanding {
	requests, have := api.PodRequests(p), s.n.allocatable()
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.claims[p.UID]
	var short outstanding
	for _, name := range slices.Sorted(maps.Keys(requests)) {
		want, limit := requests[name], have[name]
		if before := was[name]; want.Cmp(before) <= 0 {
			continue
		}
		if want.Cmp(limit) > 0 {
			return outstanding{corev1.PodReasonInfeasible, fmt.Sprintf("Node didn't have enough capacity: %s, requested: %d, capacity: %d",
				name, amount(name, want), amount(name, limit))}
		}
		var used resource.Quantity
		for uid, claim := range s.claims {
			if uid != p.UID {
				used.Add(claim[name])
			}
		}
		if sum := used.DeepCopy(); short.reason == "" {
			if sum.Add(want); sum.Cmp(limit) > 0 {
				short = outstanding{corev1.PodReasonDeferred, fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d",
					name, amount(name, want), amount(name, used), amount(name, limit))}
			}
		}
	}
	if short.reason == "" {
		s.claims[p.UID] = requests
		s.wakeDeferredLocked()
	}
	return short
}

// wakeDeferredLocked lets pods that wait for more look again. Caller holds mu.
func (s *pods) wakeDeferredLocked() {
	for _, w := range s.workers {
		if w.deferred.Load() {
			wake(w.poke)
		}
	}
}

// unlike returns the containers that run with other resources than they should have.
func (o *observed) unlike(p *corev1.Pod) []runtime.Container {
	var out []runtime.Container
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			c := &list[i]
			if r := o.newest(c.Name); r != nil && r.State == runtime.Running && !hasResources(p, c, r) {
				out = append(out, *r)
			}
		}
	}
	return out
}

// hasResources reports whether a container that runs has what it should have. Of one that an earlier release started that is not known: it has what it
// was started with, which is right as long as its pod has never changed.
func hasResources(p *corev1.Pod, c *corev1.Container, r *runtime.Container) bool {
	if r.Resources.CPUShares == 0 {
		return p.Generation <= 1
	}
	want := cgroupOf(c.Resources.Requests, c.Resources.Limits)
	return want.CPUShares == r.Resources.CPUShares && want.CPUQuota == r.Resources.CPUQuota && want.MemoryBytes == r.Resources.MemoryBytes
}

// wantsRestart reports whether a container must be started anew to get what it should have.
func wantsRestart(p *corev1.Pod, c *corev1.Container, r *runtime.Container) bool {
	if len(c.ResizePolicy) == 0 || r.Resources.CPUShares == 0 || p.Spec.RestartPolicy == corev1.RestartPolicyNever {
		return false
	}
	want := cgroupOf(c.Resources.Requests, c.Resources.Limits)
	return api.ResizeRestarts(c, corev1.ResourceCPU) && (want.CPUShares != r.Resources.CPUShares || want.CPUQuota != r.Resources.CPUQuota) ||
		api.ResizeRestarts(c, corev1.ResourceMemory) && want.MemoryBytes != r.Resources.MemoryBytes
}

// refit returns the action that gives running containers, and the pod as a whole, what they should have; a wait when they do.
func (o *observed) refit(p *corev1.Pod, now time.Time) action {
	if o.fits(p) {
		return action{verb: wait}
	}
	return o.retried(string(resize), action{verb: resize, runs: o.unlike(p)}, now)
}

// fits reports whether the pod and its running containers have what they should.
func (o *observed) fits(p *corev1.Pod) bool {
	return len(o.unlike(p)) == 0 && (p.Spec.Resources == nil || o.podFits(p))
}

// podFits reports whether the pod's own cgroup is as it should be.
func (o *observed) podFits(p *corev1.Pod) bool {
	return p.Generation <= 1 || o.cgroup != nil && *o.cgroup == podResources(p)
}

// resize gives containers that run, and their pod, what they should have.
func (w *worker) resize(ctx context.Context, p *corev1.Pod, runs []runtime.Container) error {
	changes := map[string]runtime.Resources{}
	for _, r := range runs {
		c, _ := containerOf(p, r.Name)
		changes[r.ID] = cgroupOf(c.Resources.Requests, c.Resources.Limits)
	}
	pod := podResources(p)
	if err := w.n.cfg.Runtime.Resize(ctx, w.uid, pod, changes); err != nil {
		return err
	}
	w.mem.cgroup = &pod
	if len(runs) > 0 {
		w.event(p, corev1.EventTypeNormal, "ResizeCompleted", "Pod resize completed")
	}
	return nil
}

// fitPod makes the pod's cgroup fit before a container is started in it: nothing fits into one that is smaller.
func (w *worker) fitPod(ctx context.Context, p *corev1.Pod) error {
	if w.mem.podFits(p) {
		return nil
	}
	return w.resize(ctx, p, nil)
}

// resizeConditions say that a pod has not, or not yet, what it asks for.
func resizeConditions(p *corev1.Pod, o observed) []corev1.PodCondition {
	var out []corev1.PodCondition
	add := func(t corev1.PodConditionType, reason, message string) {
		out = append(out, corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, Reason: reason, Message: message, ObservedGeneration: p.Generation})
	}
	if s := o.outstanding; s.reason != "" {
		add(corev1.PodResizePending, s.reason, s.message)
	}
	if o.fits(p) || !o.sandbox.Running {
		return out
	}
	if t, failed := o.tries[string(resize)]; failed {
		add(corev1.PodResizeInProgress, corev1.PodReasonError, t.message)
	} else {
		add(corev1.PodResizeInProgress, "", "")
	}
	return out
}

// reportResources says in a container's status what was set aside for it and what it has.
func reportResources(cs *corev1.ContainerStatus, p *corev1.Pod, c *corev1.Container, r *runtime.Container) {
	has := c.Resources.DeepCopy()
	if !hasResources(p, c, r) {
		setLimit(has, corev1.ResourceMemory, resource.NewQuantity(r.Resources.MemoryBytes, resource.BinarySI))
		setLimit(has, corev1.ResourceCPU, resource.NewMilliQuantity(r.Resources.CPUQuota*1000/cpuPeriod, resource.DecimalSI))
		if cpu, ok := has.Requests[corev1.ResourceCPU]; ok && uint64(max(minShares, cpu.MilliValue()*1024/1000)) != r.Resources.CPUShares {
			has.Requests[corev1.ResourceCPU] = *resource.NewMilliQuantity((int64(r.Resources.CPUShares)*1000+1023)/1024, resource.DecimalSI)
		}
	}
	cs.Resources = has
	cs.AllocatedResources = c.Resources.Requests.DeepCopy()
}

// setLimit sets a limit that is asked for to the one that there is.
func setLimit(has *corev1.ResourceRequirements, name corev1.ResourceName, is *resource.Quantity) {
	if want, ok := has.Limits[name]; ok && is.Sign() > 0 && is.Cmp(want) != 0 {
		has.Limits[name] = *is
	}
}
