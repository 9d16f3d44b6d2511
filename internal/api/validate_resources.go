package api

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateResources(r *corev1.ResourceRequirements, claims map[string]bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	limits, requests := at.Child("limits"), at.Child("requests")
	huge, compute := false, false
	note := func(name corev1.ResourceName) {
		huge = huge || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
		compute = compute || name == corev1.ResourceCPU || name == corev1.ResourceMemory
	}
	for _, name := range slices.Sorted(maps.Keys(r.Limits)) {
		at := limits.Key(string(name))
		errs = append(errs, validateContainerResource(name, at)...)
		errs = append(errs, validateQuantity(name, r.Limits[name], at)...)
		note(name)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Requests)) {
		at := requests.Key(string(name))
		request := r.Requests[name]
		errs = append(errs, validateContainerResource(name, at)...)
		errs = append(errs, validateQuantity(name, request, at)...)
		note(name)
		limit, limited := r.Limits[name]
		switch {
		case limited && !mayOvercommit(name) && request.Cmp(limit) != 0:
			errs = append(errs, field.Invalid(requests, request.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String())))
		case limited && request.Cmp(limit) > 0:
			errs = append(errs, field.Invalid(requests, request.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String())))
		case !limited && !mayOvercommit(name):
			errs = append(errs, field.Required(limits, "Limit must be set for non overcommitable resources"))
		}
	}
	if huge && !compute {
		errs = append(errs, field.Forbidden(at, "HugePages require cpu or memory"))
	}
	for i, c := range r.Claims {
		if !claims[c.Name] {
			errs = append(errs, field.NotFound(at.Child("claims").Index(i), c.Name))
		}
	}
	return errs
}

// native resources are Kubernetes' own; the others are extended resources.
func isNative(name corev1.ResourceName) bool {
	domain, _, ok := strings.Cut(string(name), "/")
	return !ok || strings.HasSuffix(domain, corev1.ResourceDefaultNamespacePrefix[:len(corev1.ResourceDefaultNamespacePrefix)-1])
}

func mayOvercommit(name corev1.ResourceName) bool {
	return isNative(name) && !strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

func validateContainerResource(name corev1.ResourceName, at *field.Path) field.ErrorList {
	errs := validateResourceName(name, at)
	if strings.Contains(string(name), "/") {
		if !isNative(name) {
			return errs
		}
		return append(errs, field.Invalid(at, string(name), "doesn't follow extended resource name standard"))
	}
	switch {
	case name == corev1.ResourceCPU, name == corev1.ResourceMemory, name == corev1.ResourceEphemeralStorage:
	case strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix):
	default:
		errs = append(errs, field.Invalid(at, string(name), "must be a standard resource for containers"))
	}
	return errs
}

func validateResourceName(name corev1.ResourceName, at *field.Path) field.ErrorList {
	errs := isQualifiedName(string(name), at)
	if len(errs) == 0 && !strings.Contains(string(name), "/") && !isStandard(name) {
		errs = append(errs, field.Invalid(at, string(name), "must be a standard resource type or fully qualified"))
	}
	return errs
}

func isStandard(name corev1.ResourceName) bool {
	return slices.Contains([]corev1.ResourceName{
		corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, corev1.ResourceStorage,
		corev1.ResourcePods, corev1.ResourceServices, corev1.ResourceReplicationControllers, corev1.ResourceQuotas,
		corev1.ResourceSecrets, corev1.ResourceConfigMaps, corev1.ResourcePersistentVolumeClaims,
		corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsStorage, corev1.ResourceRequestsEphemeralStorage,
		corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage,
		corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers,
	}, name) || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) || strings.HasPrefix(string(name), corev1.ResourceRequestsHugePagesPrefix)
}

// validateQuantity: never negative, and whole where pieces make no sense.
func validateQuantity(name corev1.ResourceName, q resource.Quantity, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if q.Sign() < 0 {
		errs = append(errs, field.Invalid(at, q.String(), "must be greater than or equal to 0"))
	}
	if !isNative(name) || name == corev1.ResourcePods {
		if q.MilliValue()%1000 != 0 {
			errs = append(errs, field.Invalid(at, q, "must be an integer"))
		}
	}
	return errs
}
