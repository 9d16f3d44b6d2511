package api

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateNamespace(n *corev1.Namespace) field.ErrorList {
	var errs field.ErrorList
	for _, f := range n.Spec.Finalizers {
		at := field.NewPath("spec", "finalizers")
		errs = append(errs, isQualifiedName(string(f), at)...)
		errs = append(errs, ownedFinalizer(string(f), at)...)
	}
	return errs
}

// ownedFinalizer wants a fully qualified name, or one of those that Kubernetes itself uses.
func ownedFinalizer(name string, at *field.Path) field.ErrorList {
	standard := []string{string(corev1.FinalizerKubernetes), metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents}
	if strings.Contains(name, "/") || slices.Contains(standard, name) {
		return nil
	}
	return field.ErrorList{field.Invalid(at, name, "name is neither a standard finalizer name nor is it fully qualified")}
}

func validateNamespaceUpdate(updated, _ *corev1.Namespace) field.ErrorList {
	return validateNamespace(updated)
}

func validateNamespaceStatus(updated, _ *corev1.Namespace) field.ErrorList {
	at := field.NewPath("status", "phase")
	switch deleting := updated.DeletionTimestamp != nil; {
	case !deleting && updated.Status.Phase != corev1.NamespaceActive:
		return field.ErrorList{field.Invalid(at, updated.Status.Phase, "may only be 'Active' if `deletionTimestamp` is empty")}
	case deleting && updated.Status.Phase != corev1.NamespaceTerminating:
		return field.ErrorList{field.Invalid(at, updated.Status.Phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")}
	}
	return nil
}

func validateNode(n *corev1.Node) field.ErrorList {
	errs := validateTaints(n.Spec.Taints, field.NewPath("metadata", "taints"))
	cidrs := field.NewPath("spec", "podCIDRs")
	for i, c := range n.Spec.PodCIDRs {
		errs = append(errs, validation.IsValidCIDRForLegacyField(cidrs.Index(i), c, false, nil)...)
	}
	if len(n.Spec.PodCIDRs) > 2 {
		errs = append(errs, field.Invalid(cidrs, n.Spec.PodCIDRs, "may specify no more than one CIDR for each IP family"))
	} else if len(n.Spec.PodCIDRs) == 2 && sameFamily(n.Spec.PodCIDRs[0], n.Spec.PodCIDRs[1]) {
		errs = append(errs, field.Invalid(cidrs, n.Spec.PodCIDRs, "may specify no more than one CIDR for each IP family"))
	}
	return append(errs, validateNodeResources(n)...)
}

func sameFamily(a, b string) bool {
	x, errX := netip.ParsePrefix(a)
	y, errY := netip.ParsePrefix(b)
	return errX == nil && errY == nil && x.Addr().Is4() == y.Addr().Is4()
}

func validateNodeResources(n *corev1.Node) field.ErrorList {
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(n.Status.Capacity)) {
		errs = append(errs, validateQuantity(name, n.Status.Capacity[name], field.NewPath("status", "capacity").Key(string(name)))...)
	}
	return errs
}

func validateTaints(taints []corev1.Taint, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	type identity struct {
		key    string
		effect corev1.TaintEffect
	}
	known := seen[identity]{}
	for i, t := range taints {
		at := at.Index(i)
		errs = append(errs, metavalidation.ValidateLabelName(t.Key, at.Child("key"))...)
		errs = append(errs, each(at.Child("value"), t.Value, validation.IsValidLabelValue(t.Value))...)
		errs = append(errs, validateTaintEffect(t.Effect, at.Child("effect"))...)
		if known.add(identity{t.Key, t.Effect}) {
			dup := field.Duplicate(at, t)
			dup.Detail = "taints must be unique by key and effect pair"
			errs = append(errs, dup)
		}
	}
	return errs
}

func validateTaintEffect(e corev1.TaintEffect, at *field.Path) field.ErrorList {
	return oneOf(e, at, corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute)
}

func validateNodeUpdate(updated, old *corev1.Node) field.ErrorList {
	errs := validateNode(updated)
	if len(old.Spec.PodCIDRs) > 0 && !slices.Equal(old.Spec.PodCIDRs, updated.Spec.PodCIDRs) {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "podCIDRs"), `node updates may not change podCIDR except from "" to valid`))
	}
	if old.Spec.ProviderID != "" && old.Spec.ProviderID != updated.Spec.ProviderID {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "providerID"), `node updates may not change providerID except from "" to valid`))
	}
	return errs
}

func validateNodeStatus(updated, _ *corev1.Node) field.ErrorList {
	errs := validateNodeResources(updated)
	at := field.NewPath("status", "addresses")
	known := seen[corev1.NodeAddress]{}
	for i, a := range updated.Status.Addresses {
		if known.add(a) {
			errs = append(errs, field.Duplicate(at.Index(i), a))
		}
	}
	return errs
}

func validateEvent(e *corev1.Event) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("involvedObject", "namespace")
	switch about := e.InvolvedObject.Namespace; {
	case about == "" && e.Namespace != "default" && e.Namespace != "kube-system":
		// Events about what has no namespace live in default.
		errs = append(errs, field.Invalid(at, about, "does not match event.namespace"))
	case about != "" && about != e.Namespace:
		errs = append(errs, field.Invalid(at, about, "does not match event.namespace"))
	}
	return append(errs, isSubdomain(e.Namespace, field.NewPath("namespace"))...)
}
