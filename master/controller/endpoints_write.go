package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// maxPerSlice is how many endpoints a slice holds, as in Kubernetes: a change rewrites no more than that.
const maxPerSlice = 100

// endpointWriter writes the Endpoints and EndpointSlices of Services on behalf of one controller.
type endpointWriter struct {
	Config
	manager string // the value of the label that says who writes a slice
}

// slicesOf returns the slices that this writer made for the Service.
func (w *endpointWriter) slicesOf(key client.Key) []*discoveryv1.EndpointSlice {
	return slices.DeleteFunc(w.Caches.Slices.ByIndex(byService, key.String()), func(s *discoveryv1.EndpointSlice) bool {
		return s.Labels[discoveryv1.LabelManagedBy] != w.manager
	})
}

// write makes the stored endpoints of s be groups and subsets, and waits until the caches show it.
func (w *endpointWriter) write(ctx context.Context, s *corev1.Service, groups []sliceGroup, subsets []corev1.EndpointSubset, truncated bool) error {
	// Slices first: they are what moves traffic.
	return errors.Join(
		w.writeSlices(ctx, s, groups),
		w.writeEndpoints(ctx, s, subsets, truncated),
	)
}

func (w *endpointWriter) writeSlices(ctx context.Context, s *corev1.Service, groups []sliceGroup) error {
	put, remove := planSlices(groups, w.slicesOf(client.KeyOf(s)))
	var rev written
	err := each(ctx, put, func(ctx context.Context, slice *discoveryv1.EndpointSlice) error {
		w.dress(slice, s)
		return w.putSlice(ctx, slice, &rev)
	})
	// Only when the endpoints are elsewhere may the slice that held them go.
	if err == nil {
		err = each(ctx, remove, func(ctx context.Context, slice *discoveryv1.EndpointSlice) error {
			return deleteObject(ctx, w.Client, api.EndpointSlices, slice, nil, &rev)
		})
	}
	return errors.Join(err, rev.shown(ctx, w.Caches.Slices))
}

// dress sets everything of a slice that follows from its Service.
func (w *endpointWriter) dress(slice *discoveryv1.EndpointSlice, s *corev1.Service) {
	if slice.Name == "" {
		slice.GenerateName, slice.Namespace = s.Name+"-", s.Namespace
	}
	slice.Labels = serviceLabels(s)
	slice.Labels[discoveryv1.LabelServiceName] = s.Name
	slice.Labels[discoveryv1.LabelManagedBy] = w.manager
	slice.OwnerReferences = serviceOwner(s)
}

func (w *endpointWriter) putSlice(ctx context.Context, slice *discoveryv1.EndpointSlice, rev *written) error {
	if slice.ResourceVersion == "" {
		out, err := w.Client.Create(ctx, api.EndpointSlices, slice, client.CreateOptions{})
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return nil
		}
		return noteWrite(out, err, rev, "create endpoint slice")
	}
	old, ok := w.Caches.Slices.Get(client.KeyOf(slice))
	if ok && equality.Semantic.DeepEqual(old, slice) {
		return nil
	}
	out, err := w.Client.Update(ctx, api.EndpointSlices, slice, client.UpdateOptions{})
	return noteWrite(out, err, rev, "update endpoint slice")
}

// planSlices spreads groups over the existing slices, moving as few endpoints as it can. It returns the slices as
// they should be (those without resourceVersion are new, unchanged ones included) and those not needed.
func planSlices(groups []sliceGroup, existing []*discoveryv1.EndpointSlice) (put, remove []*discoveryv1.EndpointSlice) {
	slices.SortFunc(existing, func(a, b *discoveryv1.EndpointSlice) int {
		return cmp.Compare(a.Name, b.Name)
	})
	used := map[string]bool{}
	for _, g := range groups {
		wanted := map[string]discoveryv1.Endpoint{}
		for _, e := range g.endpoints {
			wanted[endpointKey(e)] = e
		}
		var mine []*discoveryv1.EndpointSlice
		for _, old := range existing {
			if old.AddressType != g.family || portsKey(old.Ports) != portsKey(g.ports) {
				continue
			}
			slice := old.DeepCopy()
			slice.Endpoints = slice.Endpoints[:0]
			for _, e := range old.Endpoints {
				if want, ok := wanted[endpointKey(e)]; ok && len(slice.Endpoints) < maxPerSlice {
					slice.Endpoints = append(slice.Endpoints, want)
					delete(wanted, endpointKey(e))
				}
			}
			mine = append(mine, slice)
		}
		for _, e := range g.endpoints { // in order, so that new slices are filled the same way every time
			if _, missing := wanted[endpointKey(e)]; !missing {
				continue
			}
			i := slices.IndexFunc(mine, func(s *discoveryv1.EndpointSlice) bool { return len(s.Endpoints) < maxPerSlice })
			if i < 0 {
				i = len(mine)
				mine = append(mine, &discoveryv1.EndpointSlice{AddressType: g.family, Ports: g.ports})
			}
			mine[i].Endpoints = append(mine[i].Endpoints, e)
		}
		for _, slice := range mine {
			if len(slice.Endpoints) > 0 {
				put = append(put, slice)
				used[slice.Name] = true
			}
		}
	}
	for _, old := range existing {
		if !used[old.Name] {
			remove = append(remove, old)
		}
	}
	return put, remove
}

// endpointKey tells endpoints apart: an address that went to another pod is another endpoint.
func endpointKey(e discoveryv1.Endpoint) string {
	key := deref(e.NodeName)
	if e.TargetRef != nil {
		key = string(e.TargetRef.UID)
	}
	for _, a := range e.Addresses {
		key += "," + a
	}
	return key
}

func (w *endpointWriter) writeEndpoints(ctx context.Context, s *corev1.Service, subsets []corev1.EndpointSubset, truncated bool) error {
	old, had := w.Caches.Endpoints.Get(client.KeyOf(s))
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: s.Name, Namespace: s.Namespace}}
	if had {
		e = old.DeepCopy()
	}
	e.Subsets = subsets
	e.Labels = serviceLabels(s)
	e.Labels[endpointsManagedBy] = endpointsManager
	delete(e.Annotations, corev1.EndpointsOverCapacity)
	if truncated {
		if e.Annotations == nil {
			e.Annotations = map[string]string{}
		}
		e.Annotations[corev1.EndpointsOverCapacity] = "truncated"
	}
	if had && equality.Semantic.DeepEqual(old, e) {
		return nil
	}
	var rev written
	if !had {
		out, err := w.Client.Create(ctx, api.Endpoints, e, client.CreateOptions{})
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return nil
		}
		return errors.Join(noteWrite(out, err, &rev, "create endpoints"), rev.shown(ctx, w.Caches.Endpoints))
	}
	out, err := w.Client.Update(ctx, api.Endpoints, e, client.UpdateOptions{})
	return errors.Join(noteWrite(out, err, &rev, "update endpoints"), rev.shown(ctx, w.Caches.Endpoints))
}

// Labels of Endpoints objects that a controller writes.
const (
	endpointsManagedBy = "endpoints.kubernetes.io/managed-by"
	endpointsManager   = "endpoint-controller"
)

// serviceLabels returns a copy of the Service's labels with the mark of a headless one.
func serviceLabels(s *corev1.Service) map[string]string {
	l := maps.Clone(s.Labels)
	if l == nil {
		l = map[string]string{}
	}
	delete(l, corev1.IsHeadlessService)
	if s.Spec.ClusterIP == corev1.ClusterIPNone {
		l[corev1.IsHeadlessService] = ""
	}
	return l
}

// noteWrite folds the answer of a write into rev.
func noteWrite(out any, err error, rev *written, what string) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if m, ok := out.(api.Object); ok {
		rev.note(m.GetResourceVersion())
	}
	return nil
}

// deleteObject deletes o unless it is gone or another of its name took its place. grace may be nil.
func deleteObject(ctx context.Context, c client.Interface, k *api.Kind, o api.Object, grace *int64, rev *written) error {
	uid := o.GetUID()
	out, err := c.Delete(ctx, k, client.KeyOf(o), client.DeleteOptions{
		GracePeriodSeconds: grace, Preconditions: &metav1.Preconditions{UID: &uid},
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return noteWrite(out, err, rev, "delete "+k.Singular+" "+o.GetName())
}
