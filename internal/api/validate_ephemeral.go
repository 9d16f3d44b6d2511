package api

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// EphemeralContainers returns the pod's ephemeral containers as what they are run as. The result shares their parts.
func EphemeralContainers(p *corev1.Pod) []corev1.Container {
	out := make([]corev1.Container, len(p.Spec.EphemeralContainers))
	for i := range out {
		out[i] = corev1.Container(p.Spec.EphemeralContainers[i].EphemeralContainerCommon)
	}
	return out
}

// validateEphemeral checks the containers that somebody adds to a pod that runs, to look into it.
func (p *podPlaces) validateEphemeral(s *corev1.PodSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range s.EphemeralContainers {
		e, at := &s.EphemeralContainers[i], at.Child("ephemeralContainers").Index(i)
		c := corev1.Container(e.EphemeralContainerCommon)
		errs = append(errs, p.validate(&c, at)...)
		errs = append(errs, onlyEphemeral(&c, at)...)
		target := e.TargetContainerName
		named := func(c corev1.Container) bool { return c.Name == target }
		if target != "" && !slices.ContainsFunc(s.Containers, named) && !slices.ContainsFunc(s.InitContainers, named) {
			errs = append(errs, field.NotFound(at.Child("targetContainerName"), target))
		}
	}
	return errs
}

// onlyEphemeral refuses what means nothing for a container that the pod neither waits for nor starts again.
func onlyEphemeral(c *corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, f := range []struct {
		name  string
		given bool
	}{
		{"ports", c.Ports != nil},
		{"resources", c.Resources.Limits != nil || c.Resources.Requests != nil || c.Resources.Claims != nil},
		{"resizePolicy", c.ResizePolicy != nil},
		{"restartPolicy", c.RestartPolicy != nil},
		{"livenessProbe", c.LivenessProbe != nil},
		{"readinessProbe", c.ReadinessProbe != nil},
		{"startupProbe", c.StartupProbe != nil},
		{"lifecycle", c.Lifecycle != nil},
	} {
		if f.given {
			errs = append(errs, field.Forbidden(at.Child(f.name), "cannot be set for an Ephemeral Container"))
		}
	}
	for i, m := range c.VolumeMounts {
		at := at.Child("volumeMounts").Index(i)
		if m.SubPath != "" {
			errs = append(errs, field.Forbidden(at.Child("subPath"), "cannot be set for an Ephemeral Container"))
		}
		if m.SubPathExpr != "" {
			errs = append(errs, field.Forbidden(at.Child("subPathExpr"), "cannot be set for an Ephemeral Container"))
		}
	}
	return errs
}

// validateEphemeralUpdate: containers may be added, but neither changed nor taken away.
func validateEphemeralUpdate(updated, old *corev1.Pod) field.ErrorList {
	at := field.NewPath("spec")
	if _, mirror := old.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods do not support ephemeral containers")}
	}
	volumes, _ := validateVolumes(updated.Spec.Volumes, at.Child("volumes"))
	places := &podPlaces{names: seen[string]{}, hostPorts: seen[string]{}, volumes: volumes, claims: map[string]bool{}}
	for _, list := range [][]corev1.Container{updated.Spec.Containers, updated.Spec.InitContainers} {
		for i := range list {
			places.names.add(list[i].Name)
		}
	}
	errs := places.validateEphemeral(&updated.Spec, at)
	at = at.Child("ephemeralContainers")
	for i := range old.Spec.EphemeralContainers {
		was := &old.Spec.EphemeralContainers[i]
		j := slices.IndexFunc(updated.Spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool { return c.Name == was.Name })
		switch {
		case j < 0:
			errs = append(errs, field.Forbidden(at, fmt.Sprintf("existing ephemeral containers %q may not be removed", was.Name)))
		case !isSame(*was, updated.Spec.EphemeralContainers[j]):
			errs = append(errs, field.Forbidden(at.Index(j), fmt.Sprintf("existing ephemeral containers %q may not be changed", was.Name)))
		}
	}
	return errs
}
