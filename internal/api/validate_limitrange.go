package api

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateLimitRange(l *corev1.LimitRange) field.ErrorList {
	var errs field.ErrorList
	types := seen[corev1.LimitType]{}
	for i := range l.Spec.Limits {
		item, at := &l.Spec.Limits[i], field.NewPath("spec", "limits").Index(i)
		errs = append(errs, validateLimitType(item.Type, at.Child("type"))...)
		if types.add(item.Type) {
			errs = append(errs, field.Duplicate(at.Child("type"), item.Type))
		}
		errs = append(errs, validateLimitItem(item, at)...)
	}
	return errs
}

func validateLimitRangeUpdate(updated, _ *corev1.LimitRange) field.ErrorList {
	return validateLimitRange(updated)
}

func validateLimitType(t corev1.LimitType, at *field.Path) field.ErrorList {
	errs := isQualifiedName(string(t), at)
	if len(errs) > 0 || strings.Contains(string(t), "/") {
		return errs
	}
	switch t {
	case corev1.LimitTypePod, corev1.LimitTypeContainer, corev1.LimitTypePersistentVolumeClaim:
		return nil
	}
	return field.ErrorList{field.Invalid(at, t, "must be a standard limit type or fully qualified")}
}

func validateLimitItem(l *corev1.LimitRangeItem, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := sets.New[corev1.ResourceName]()
	note := func(list corev1.ResourceList, at *field.Path) {
		for _, name := range slices.Sorted(maps.Keys(list)) {
			names.Insert(name)
			if l.Type == corev1.LimitTypePod || l.Type == corev1.LimitTypeContainer {
				errs = append(errs, validateContainerResource(name, at.Key(string(name)))...)
			} else {
				errs = append(errs, validateResourceName(name, at.Key(string(name)))...)
			}
		}
	}
	note(l.Max, at.Child("max"))
	note(l.Min, at.Child("min"))
	defaults, requests := l.Default, l.DefaultRequest
	if l.Type == corev1.LimitTypePod {
		// A pod's resources are those of its containers, so that none can be given to it.
		if len(defaults) > 0 {
			errs = append(errs, field.Forbidden(at.Child("default"), "may not be specified when `type` is 'Pod'"))
		}
		if len(requests) > 0 {
			errs = append(errs, field.Forbidden(at.Child("defaultRequest"), "may not be specified when `type` is 'Pod'"))
		}
		defaults, requests = nil, nil
	}
	note(defaults, at.Child("default"))
	note(requests, at.Child("defaultRequest"))
	if l.Type == corev1.LimitTypePersistentVolumeClaim {
		_, atLeast := l.Min[corev1.ResourceStorage]
		_, atMost := l.Max[corev1.ResourceStorage]
		if !atLeast && !atMost {
			errs = append(errs, field.Required(at.Child("limits"), "either minimum or maximum storage value is required, but neither was provided"))
		}
	}
	note(l.MaxLimitRequestRatio, at.Child("maxLimitRequestRatio"))
	for _, name := range sets.List(names) {
		b := &bounds{name: name, at: at}
		b.least, b.most = amount(l.Min, name), amount(l.Max, name)
		b.limit, b.request = amount(defaults, name), amount(requests, name)
		b.ratio = amount(l.MaxLimitRequestRatio, name)
		errs = append(errs, b.validate()...)
	}
	return errs
}

func amount(l corev1.ResourceList, name corev1.ResourceName) *resource.Quantity {
	if q, ok := l[name]; ok {
		return &q
	}
	return nil
}

// bounds are what a limit range says of one resource; nil is nothing.
type bounds struct {
	name           corev1.ResourceName
	at             *field.Path
	least, most    *resource.Quantity
	limit, request *resource.Quantity // what a container gets that says nothing
	ratio          *resource.Quantity
}

func exceeds(a, b *resource.Quantity) bool { return a != nil && b != nil && a.Cmp(*b) > 0 }

func (b *bounds) validate() field.ErrorList {
	var errs field.ErrorList
	wrong := func(child string, value *resource.Quantity, format string, args ...any) {
		errs = append(errs, field.Invalid(b.at.Child(child).Key(string(b.name)), *value, fmt.Sprintf(format, args...)))
	}
	if exceeds(b.least, b.most) {
		wrong("min", b.least, "min value %s is greater than max value %s", b.least, b.most)
	}
	if exceeds(b.least, b.request) {
		wrong("defaultRequest", b.request, "min value %s is greater than default request value %s", b.least, b.request)
	}
	if exceeds(b.request, b.most) {
		wrong("defaultRequest", b.request, "default request value %s is greater than max value %s", b.request, b.most)
	}
	if exceeds(b.request, b.limit) {
		wrong("defaultRequest", b.request, "default request value %s is greater than default limit value %s", b.request, b.limit)
	}
	if exceeds(b.least, b.limit) {
		wrong("default", b.least, "min value %s is greater than default value %s", b.least, b.limit)
	}
	if exceeds(b.limit, b.most) {
		wrong("default", b.most, "default value %s is greater than max value %s", b.limit, b.most)
	}
	if b.ratio != nil && b.ratio.Cmp(*resource.NewQuantity(1, resource.DecimalSI)) < 0 {
		wrong("maxLimitRequestRatio", b.ratio, "ratio %s is less than 1", b.ratio)
	}
	if b.ratio != nil && b.least != nil && b.most != nil {
		if most := b.largestRatio(); b.ratio.AsApproximateFloat64() > most {
			wrong("maxLimitRequestRatio", b.ratio, "ratio %s is greater than max/min = %f", b.ratio, most)
		}
	}
	if !mayOvercommit(b.name) && b.limit != nil && b.request != nil && b.limit.Cmp(*b.request) != 0 {
		wrong("defaultRequest", b.request, "default value %s must equal to defaultRequest value %s in %s", b.limit, b.request, b.name)
	}
	return errs
}

// largestRatio is between the most and the least that a container may have.
func (b *bounds) largestRatio() float64 {
	return b.most.AsApproximateFloat64() / b.least.AsApproximateFloat64()
}
