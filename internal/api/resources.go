package api

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// PodRequests returns what the scheduler must set aside for the pod: its containers and sidecars together, or its most
// demanding moment of initialisation if that is more, plus the overhead. A pod-level request replaces that of the
// containers. The result is the caller's.
func PodRequests(p *corev1.Pod) corev1.ResourceList {
	return podSum(p, func(r *corev1.ResourceRequirements) corev1.ResourceList { return r.Requests })
}

// PodReserves is PodRequests of a pod whose containers' resources may be about to change: until that has happened, or when it cannot, what its
// machine has set aside for a container counts where it is more.
func PodReserves(p *corev1.Pod) corev1.ResourceList {
	held := map[*corev1.ResourceRequirements]corev1.ResourceList{}
	note := func(list []corev1.Container, states []corev1.ContainerStatus) {
		for i := range list {
			for j := range states {
				if s := &states[j]; s.Name == list[i].Name && len(s.AllocatedResources) > 0 && !isSame(s.AllocatedResources, list[i].Resources.Requests) {
					held[&list[i].Resources] = s.AllocatedResources
				}
			}
		}
	}
	note(p.Spec.Containers, p.Status.ContainerStatuses)
	note(p.Spec.InitContainers, p.Status.InitContainerStatuses)
	if len(held) == 0 {
		return PodRequests(p)
	}
	pending := PodCondition(p, corev1.PodResizePending)
	never := pending != nil && pending.Reason == corev1.PodReasonInfeasible
	return podSum(p, func(r *corev1.ResourceRequirements) corev1.ResourceList {
		has, ok := held[r]
		if !ok {
			return r.Requests
		}
		out := has.DeepCopy()
		if !never {
			maxResources(out, r.Requests)
		}
		return out
	})
}

// PodLimits is PodRequests for limits. A resource that some container does not limit is limited only by the others'
// sum, so a caller that needs a real limit must check every container.
func PodLimits(p *corev1.Pod) corev1.ResourceList {
	return podSum(p, func(r *corev1.ResourceRequirements) corev1.ResourceList { return r.Limits })
}

func podSum(p *corev1.Pod, of func(*corev1.ResourceRequirements) corev1.ResourceList) corev1.ResourceList {
	total := corev1.ResourceList{}
	for i := range p.Spec.Containers {
		addResources(total, of(&p.Spec.Containers[i].Resources))
	}
	// Init containers run one after the other beside the sidecars started before them.
	sidecars, peak := corev1.ResourceList{}, corev1.ResourceList{}
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		moment := corev1.ResourceList{}
		addResources(moment, sidecars)
		addResources(moment, of(&c.Resources))
		maxResources(peak, moment)
		if IsSidecar(c) {
			addResources(sidecars, of(&c.Resources))
		}
	}
	addResources(total, sidecars)
	maxResources(total, peak)
	if p.Spec.Resources != nil {
		for name, q := range of(p.Spec.Resources) {
			total[name] = q.DeepCopy()
		}
	}
	addResources(total, p.Spec.Overhead)
	return total
}

func addResources(to, more corev1.ResourceList) {
	for name, q := range more {
		sum := to[name].DeepCopy()
		sum.Add(q)
		to[name] = sum
	}
}

func maxResources(to, other corev1.ResourceList) {
	for name, q := range other {
		if have, ok := to[name]; !ok || q.Cmp(have) > 0 {
			to[name] = q.DeepCopy()
		}
	}
}

// QOSClass returns the pod's quality of service class: Guaranteed when every container limits CPU and memory to what it
// requests, BestEffort when none asks for either, else Burstable.
func QOSClass(p *corev1.Pod) corev1.PodQOSClass {
	if p.Status.QOSClass != "" {
		return p.Status.QOSClass
	}
	var all []*corev1.ResourceRequirements
	if p.Spec.Resources != nil {
		all = []*corev1.ResourceRequirements{p.Spec.Resources}
	} else {
		for i := range p.Spec.InitContainers {
			all = append(all, &p.Spec.InitContainers[i].Resources)
		}
		for i := range p.Spec.Containers {
			all = append(all, &p.Spec.Containers[i].Resources)
		}
	}
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	guaranteed := len(all) > 0
	for _, r := range all {
		addComputeResources(requests, r.Requests)
		addComputeResources(limits, r.Limits)
		guaranteed = guaranteed && positive(r.Limits[corev1.ResourceCPU]) && positive(r.Limits[corev1.ResourceMemory])
	}
	if len(requests) == 0 && len(limits) == 0 {
		return corev1.PodQOSBestEffort
	}
	for name, request := range requests {
		limit, ok := limits[name]
		guaranteed = guaranteed && ok && limit.Cmp(request) == 0
	}
	if guaranteed && len(requests) == len(limits) {
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

func addComputeResources(to, more corev1.ResourceList) {
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		if q := more[name]; positive(q) {
			addResources(to, corev1.ResourceList{name: q})
		}
	}
}

func positive(q resource.Quantity) bool { return q.Sign() > 0 }
