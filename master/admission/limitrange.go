package admission

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"

	"shoal/internal/api"
	"shoal/internal/client"
)

// limitRanges returns those of a namespace, in the order of their names.
func limitRanges(ctx context.Context, from Reader, namespace string) ([]*corev1.LimitRange, error) {
	l, err := from.List(ctx, api.LimitRanges, client.ListOptions{Namespace: namespace, ResourceVersion: "0"})
	if err != nil {
		return nil, err
	}
	var out []*corev1.LimitRange
	for _, o := range l.Items {
		if r, ok := o.(*corev1.LimitRange); ok {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *corev1.LimitRange) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// limitDefaults gives the containers of new pods the requests and limits that a LimitRange has for those that give none.
type limitDefaults struct{ reader Reader }

// limitAnnotation says what was set, for people.
const limitAnnotation = "kubernetes.io/limit-ranger"

func (p limitDefaults) Admit(ctx context.Context, r *Request) error {
	if !r.is(api.Pods, Create) {
		return nil
	}
	ranges, err := limitRanges(ctx, p.reader, r.Key.Namespace)
	if err != nil {
		return err
	}
	pod := r.Object.(*corev1.Pod)
	for _, l := range ranges {
		var said []string
		for i := range l.Spec.Limits {
			item := &l.Spec.Limits[i]
			if item.Type != corev1.LimitTypeContainer {
				continue
			}
			for j := range pod.Spec.Containers {
				said = append(said, giveDefaults(&pod.Spec.Containers[j], item, "container ")...)
			}
			for j := range pod.Spec.InitContainers {
				said = append(said, giveDefaults(&pod.Spec.InitContainers[j], item, "init container ")...)
			}
		}
		if len(said) > 0 {
			if pod.Annotations == nil {
				pod.Annotations = map[string]string{}
			}
			pod.Annotations[limitAnnotation] = "LimitRanger plugin set: " + strings.Join(said, "; ")
		}
	}
	return nil
}

// giveDefaults returns what it has set.
func giveDefaults(c *corev1.Container, item *corev1.LimitRangeItem, which string) (said []string) {
	set := func(to *corev1.ResourceList, from corev1.ResourceList, what string) {
		var names []string
		for _, name := range slices.Sorted(maps.Keys(from)) {
			if _, has := (*to)[name]; has {
				continue
			}
			if *to == nil {
				*to = corev1.ResourceList{}
			}
			(*to)[name] = from[name].DeepCopy()
			names = append(names, string(name))
		}
		if len(names) > 0 {
			said = append(said, strings.Join(names, ", ")+" "+what+" for "+which+c.Name)
		}
	}
	set(&c.Resources.Requests, item.DefaultRequest, "request")
	set(&c.Resources.Limits, item.Default, "limit")
	return said
}

// limitBounds refuses pods and claims that a LimitRange finds too small or too big.
type limitBounds struct{ reader Reader }

func (p limitBounds) Admit(ctx context.Context, r *Request) error {
	switch {
	case r.is(api.Pods, Create), r.Kind == api.Pods && r.Subresource == "resize":
	case r.is(api.PersistentVolumeClaims, Create), r.is(api.PersistentVolumeClaims, Update):
	default:
		return nil
	}
	ranges, err := limitRanges(ctx, p.reader, r.Key.Namespace)
	if err != nil {
		return err
	}
	for _, l := range ranges {
		var errs []error
		for i := range l.Spec.Limits {
			errs = append(errs, outOf(&l.Spec.Limits[i], r.Object)...)
		}
		if err := utilerrors.NewAggregate(errs); err != nil {
			return r.forbidden(err)
		}
	}
	return nil
}

// outOf returns how an object leaves the bounds of one item.
func outOf(item *corev1.LimitRangeItem, o api.Object) (errs []error) {
	switch o := o.(type) {
	case *corev1.Pod:
		switch item.Type {
		case corev1.LimitTypeContainer:
			for _, list := range [][]corev1.Container{o.Spec.Containers, o.Spec.InitContainers} {
				for i := range list {
					errs = append(errs, outOfBounds(item, list[i].Resources.Requests, list[i].Resources.Limits)...)
				}
			}
		case corev1.LimitTypePod:
			errs = outOfBounds(item, api.PodRequests(o), api.PodLimits(o))
		}
	case *corev1.PersistentVolumeClaim:
		if item.Type != corev1.LimitTypePersistentVolumeClaim {
			return nil
		}
		requests := o.Spec.Resources.Requests
		errs = each(item.Min, func(name corev1.ResourceName, least resource.Quantity) error {
			return atLeast(item.Type, name, least, requests, nil)
		})
		errs = append(errs, each(item.Max, func(name corev1.ResourceName, most resource.Quantity) error {
			return atMost(item.Type, name, most, requests, "request")
		})...)
	}
	return errs
}

// each calls f for the amounts in the order of their names.
func each(amounts corev1.ResourceList, f func(corev1.ResourceName, resource.Quantity) error) (errs []error) {
	for _, name := range slices.Sorted(maps.Keys(amounts)) {
		if err := f(name, amounts[name]); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func outOfBounds(item *corev1.LimitRangeItem, requests, limits corev1.ResourceList) []error {
	errs := each(item.Min, func(name corev1.ResourceName, least resource.Quantity) error {
		return atLeast(item.Type, name, least, requests, limits)
	})
	errs = append(errs, each(item.Max, func(name corev1.ResourceName, most resource.Quantity) error {
		if err := atMost(item.Type, name, most, limits, "limit"); err != nil {
			return err
		}
		if _, given := requests[name]; !given {
			return nil
		}
		return atMost(item.Type, name, most, requests, "request")
	})...)
	return append(errs, each(item.MaxLimitRequestRatio, func(name corev1.ResourceName, most resource.Quantity) error {
		return ratio(item.Type, name, most, requests, limits)
	})...)
}

func atLeast(t corev1.LimitType, name corev1.ResourceName, least resource.Quantity, requests, limits corev1.ResourceList) error {
	request, given := requests[name]
	if !given {
		return fmt.Errorf("minimum %s usage per %s is %s.  No request is specified", name, t, least.String())
	}
	if request.Cmp(least) < 0 {
		return fmt.Errorf("minimum %s usage per %s is %s, but request is %s", name, t, least.String(), request.String())
	}
	if limit, given := limits[name]; given && limit.Cmp(least) < 0 {
		return fmt.Errorf("minimum %s usage per %s is %s, but limit is %s", name, t, least.String(), limit.String())
	}
	return nil
}

// atMost wants an amount to be given, and to be no more than most; what says which amount it is.
func atMost(t corev1.LimitType, name corev1.ResourceName, most resource.Quantity, amounts corev1.ResourceList, what string) error {
	q, given := amounts[name]
	if !given {
		return fmt.Errorf("maximum %s usage per %s is %s.  No %s is specified", name, t, most.String(), what)
	}
	if q.Cmp(most) > 0 {
		return fmt.Errorf("maximum %s usage per %s is %s, but %s is %s", name, t, most.String(), what, q.String())
	}
	return nil
}

func ratio(t corev1.LimitType, name corev1.ResourceName, most resource.Quantity, requests, limits corev1.ResourceList) error {
	request, limit := requests[name], limits[name]
	if request.IsZero() {
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no request is specified or request is 0", name, t, most.String())
	}
	if limit.IsZero() {
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no limit is specified or limit is 0", name, t, most.String())
	}
	if is := limit.AsApproximateFloat64() / request.AsApproximateFloat64(); is > most.AsApproximateFloat64() {
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but provided ratio is %f", name, t, most.String(), is)
	}
	return nil
}
