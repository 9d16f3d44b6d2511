package api

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// copyResources takes over what the subresource resize may change: what containers, and the pod as a whole, ask for. Containers that are not the
// stored ones are taken over as they are, for validateResize to refuse.
func copyResources(to, from *corev1.Pod) {
	to.Spec.Resources = from.Spec.Resources
	for _, l := range []struct{ to, from *[]corev1.Container }{{&to.Spec.Containers, &from.Spec.Containers}, {&to.Spec.InitContainers, &from.Spec.InitContainers}} {
		if len(*l.to) != len(*l.from) {
			*l.to = *l.from
			continue
		}
		for i := range *l.to {
			c, given := &(*l.to)[i], &(*l.from)[i]
			c.Name, c.Resources, c.ResizePolicy = given.Name, given.Resources, given.ResizePolicy
		}
	}
}

// validateResize: of what a pod's containers ask for, CPU and memory may change, but never so that the pod's class of service would.
func validateResize(updated, old *corev1.Pod) field.ErrorList {
	at := field.NewPath("spec")
	if _, mirror := old.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods cannot be resized")}
	}
	if old.Spec.OS != nil && old.Spec.OS.Name == corev1.Windows {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "windows pods cannot be resized")}
	}
	var errs field.ErrorList
	fresh := corev1.Pod{Spec: updated.Spec}
	if QOSClass(&fresh) != QOSClass(old) {
		errs = append(errs, field.Invalid(at, updated.Status.QOSClass, "Pod QOS Class may not change as a result of resizing"))
	}
	if !reportsResources(old) {
		errs = append(errs, field.Forbidden(at, "Pod running on node without support for resize"))
	}
	errs = append(errs, validatePodResize(updated.Spec.Resources, old.Spec.Resources, at)...)
	var others field.ErrorList
	others = append(others, sameContainers(updated.Spec.Containers, old.Spec.Containers, at.Child("containers"), "containers")...)
	others = append(others, sameContainers(updated.Spec.InitContainers, old.Spec.InitContainers, at.Child("initContainers"), "initContainers")...)
	if len(others) > 0 {
		return append(errs, others...)
	}
	for i := range old.Spec.InitContainers {
		is, was := &updated.Spec.InitContainers[i], &old.Spec.InitContainers[i]
		at := at.Child("initContainers").Index(i)
		errs = append(errs, validateContainerResize(is, was, at)...)
		if !isSame(withoutCompute(is, was), *was) {
			errs = append(errs, field.Forbidden(at, "only cpu and memory resources for init or sidecar containers are mutable"))
		}
		if !isSame(*is, *was) && !IsSidecar(is) && ResizeRestarts(is, corev1.ResourceCPU, corev1.ResourceMemory) {
			errs = append(errs, field.Forbidden(at, "non-sidecar init containers with a resize policy of RestartContainer cannot be resized"))
		}
	}
	for i := range old.Spec.Containers {
		is, was := &updated.Spec.Containers[i], &old.Spec.Containers[i]
		errs = append(errs, validateContainerResize(is, was, at.Child("containers").Index(i))...)
		if !isSame(withoutCompute(is, was), *was) {
			errs = append(errs, field.Forbidden(at, "only cpu and memory resources are mutable"))
		}
	}
	return errs
}

// reportsResources reports whether the pod's machine says what its containers have, as one that can change it does. One that has not begun does not say.
func reportsResources(p *corev1.Pod) bool {
	for i := range p.Status.ContainerStatuses {
		if s := &p.Status.ContainerStatuses[i]; s.State.Running != nil {
			return s.Resources != nil
		}
	}
	return true
}

// ResizeRestarts reports whether a container wants to be started anew when what it has of one of these changes.
func ResizeRestarts(c *corev1.Container, names ...corev1.ResourceName) bool {
	for _, p := range c.ResizePolicy {
		for _, name := range names {
			if p.ResourceName == name && p.RestartPolicy == corev1.RestartContainer {
				return true
			}
		}
	}
	return false
}

func sameContainers(updated, old []corev1.Container, at *field.Path, what string) field.ErrorList {
	if len(updated) != len(old) {
		return field.ErrorList{field.Forbidden(at, what+" may not be added or removed on resize")}
	}
	var errs field.ErrorList
	for i := range old {
		if updated[i].Name != old[i].Name {
			errs = append(errs, field.Forbidden(at.Index(i).Child("name"), what+" may not be renamed or reordered on resize"))
		}
	}
	return errs
}

func validateContainerResize(updated, old *corev1.Container, at *field.Path) field.ErrorList {
	at = at.Child("resources")
	errs := validateResources(&updated.Resources, map[string]bool{}, at)
	if removes(updated.Resources.Requests, old.Resources.Requests) {
		errs = append(errs, field.Forbidden(at.Child("requests"), "resource requests cannot be removed"))
	}
	if removes(updated.Resources.Limits, old.Resources.Limits) {
		errs = append(errs, field.Forbidden(at.Child("limits"), "resource limits cannot be removed"))
	}
	return errs
}

// validatePodResize checks what changes of the resources of the pod as a whole.
func validatePodResize(updated, old *corev1.ResourceRequirements, at *field.Path) field.ErrorList {
	if isSame(updated, old) {
		return nil
	}
	own := at.Child("resources")
	var was corev1.ResourceRequirements
	switch {
	case updated == nil:
		return field.ErrorList{field.Forbidden(own, "pod-level resources cannot be removed")}
	case old != nil:
		was = *old
	}
	errs := validateResources(updated, map[string]bool{}, own)
	if removes(updated.Requests, was.Requests) {
		errs = append(errs, field.Forbidden(own.Child("requests"), "pod-level resource requests cannot be removed"))
	}
	if removes(updated.Limits, was.Limits) {
		errs = append(errs, field.Forbidden(own.Child("limits"), "pod-level resource limits cannot be removed"))
	}
	rest := *updated
	rest.Requests, rest.Limits = keepCompute(updated.Requests, was.Requests), keepCompute(updated.Limits, was.Limits)
	if !isSame(rest, was) {
		errs = append(errs, field.Forbidden(at, "only cpu and memory resources are mutable at pod-level"))
	}
	return errs
}

func removes(updated, old corev1.ResourceList) bool {
	for name := range old {
		if _, ok := updated[name]; !ok {
			return true
		}
	}
	return false
}

// withoutCompute returns a container with old's CPU and memory.
func withoutCompute(updated, old *corev1.Container) corev1.Container {
	c := *updated
	c.Resources.Requests = keepCompute(updated.Resources.Requests, old.Resources.Requests)
	c.Resources.Limits = keepCompute(updated.Resources.Limits, old.Resources.Limits)
	return c
}

// keepCompute returns a list with the CPU and memory of old.
func keepCompute(list, old corev1.ResourceList) corev1.ResourceList {
	out := list.DeepCopy()
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		delete(out, name)
		if q, ok := old[name]; ok {
			if out == nil {
				out = corev1.ResourceList{}
			}
			out[name] = q.DeepCopy()
		}
	}
	return out
}
