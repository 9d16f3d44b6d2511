package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"shoal/internal/api"
)

// revisionHeader carries the store revision of a write.
const revisionHeader = "X-Shoal-Revision"

// Path returns the URL path of a kind's objects, of one object, or of an object's subresource, as far as it is given.
func Path(k *api.Kind, key Key, subresource string) string {
	p := "/api/" + k.Version
	if k.Group != "" {
		p = "/apis/" + k.Group + "/" + k.Version
	}
	if k.Namespaced && key.Namespace != "" {
		p += "/namespaces/" + key.Namespace
	}
	p += "/" + k.Resource
	if key.Name != "" {
		p += "/" + key.Name
	}
	if subresource != "" {
		p += "/" + subresource
	}
	return p
}

// Get implements Interface.
func (h *HTTP) Get(ctx context.Context, k *api.Kind, key Key, o GetOptions) (api.Object, error) {
	if key.Name == "" {
		return nil, statusError(http.StatusBadRequest, metav1.StatusReasonBadRequest, "resource name may not be empty")
	}
	q := url.Values{}
	set(q, "resourceVersion", o.ResourceVersion)
	into, err := h.target(k, o.Subresource, nil)
	if err != nil {
		return nil, err
	}
	res, err := h.call(ctx, http.MethodGet, Path(k, key, o.Subresource), q, accept(into, false), nil)
	if err != nil {
		return nil, err
	}
	obj, err := h.read(ctx, res, into)
	if err != nil {
		return nil, err
	}
	out, ok := obj.(api.Object)
	if !ok {
		return nil, statusError(http.StatusInternalServerError, metav1.StatusReasonUnknown, fmt.Sprintf("answer is a %T", obj))
	}
	return out, nil
}

// List implements Interface.
func (h *HTTP) List(ctx context.Context, k *api.Kind, o ListOptions) (*List, error) {
	into := k.NewList()
	res, err := h.call(ctx, http.MethodGet, Path(k, Key{Namespace: o.Namespace}, ""), listQuery(o), accept(into, false), nil)
	if err != nil {
		return nil, err
	}
	if _, err := h.read(ctx, res, into); err != nil {
		return nil, err
	}
	m, err := meta.ListAccessor(into)
	if err != nil {
		return nil, internalError(err)
	}
	out := &List{ResourceVersion: m.GetResourceVersion(), Continue: m.GetContinue(), RemainingItemCount: m.GetRemainingItemCount()}
	err = meta.EachListItem(into, func(item runtime.Object) error {
		obj, ok := item.(api.Object)
		if !ok {
			return fmt.Errorf("list holds a %T", item)
		}
		out.Items = append(out.Items, obj)
		return nil
	})
	if err != nil {
		return nil, internalError(err)
	}
	return out, nil
}

// Create implements Interface.
func (h *HTTP) Create(ctx context.Context, k *api.Kind, obj runtime.Object, o CreateOptions) (runtime.Object, error) {
	key := o.Key
	if o.Subresource == "" {
		m, err := meta.Accessor(obj)
		if err != nil {
			return nil, internalError(err)
		}
		key = Key{Namespace: m.GetNamespace()}
	}
	q := writeQuery(o.DryRun, o.FieldManager, o.FieldValidation)
	return h.write(ctx, http.MethodPost, Path(k, key, o.Subresource), q, k, o.Subresource, obj)
}

// Update implements Interface.
func (h *HTTP) Update(ctx context.Context, k *api.Kind, obj runtime.Object, o UpdateOptions) (runtime.Object, error) {
	key := o.Key
	if key.Name == "" {
		m, err := meta.Accessor(obj)
		if err != nil {
			return nil, internalError(err)
		}
		key = Key{Namespace: m.GetNamespace(), Name: m.GetName()}
	}
	q := writeQuery(o.DryRun, o.FieldManager, o.FieldValidation)
	return h.write(ctx, http.MethodPut, Path(k, key, o.Subresource), q, k, o.Subresource, obj)
}

// Patch implements Interface.
func (h *HTTP) Patch(ctx context.Context, k *api.Kind, key Key, p Patch, o PatchOptions) (runtime.Object, error) {
	q := writeQuery(o.DryRun, o.FieldManager, o.FieldValidation)
	if o.Force {
		q.Set("force", "true")
	}
	into, err := h.target(k, o.Subresource, nil)
	if err != nil {
		return nil, err
	}
	header := accept(into, false)
	header.Set("Content-Type", string(p.Type))
	res, err := h.call(ctx, http.MethodPatch, Path(k, key, o.Subresource), q, header, p.Data)
	if err != nil {
		return nil, err
	}
	return h.read(ctx, res, into)
}

// Delete implements Interface. From servers that answer with a Status it returns an object with only its name, and
// the revision of the deletion when the server tells it.
func (h *HTTP) Delete(ctx context.Context, k *api.Kind, key Key, o DeleteOptions) (api.Object, error) {
	do := &metav1.DeleteOptions{GracePeriodSeconds: o.GracePeriodSeconds, Preconditions: o.Preconditions, PropagationPolicy: o.Propagation}
	if o.DryRun {
		do.DryRun = []string{metav1.DryRunAll}
	}
	do.SetGroupVersionKind(metav1.SchemeGroupVersion.WithKind("DeleteOptions"))
	body, contentType, err := h.encode(do)
	if err != nil {
		return nil, internalError(err)
	}
	into := k.New()
	header := accept(into, false)
	header.Set("Content-Type", contentType)
	res, err := h.call(ctx, http.MethodDelete, Path(k, key, ""), writeQuery(o.DryRun, "", ""), header, body)
	if err != nil {
		return nil, err
	}
	rev := res.Header.Get(revisionHeader)
	obj, err := h.read(ctx, res, into)
	if err != nil {
		return nil, err
	}
	switch got := obj.(type) {
	case *metav1.Status:
		out := k.New()
		out.SetNamespace(key.Namespace)
		out.SetName(key.Name)
		out.SetResourceVersion(rev)
		if got.Details != nil {
			out.SetUID(got.Details.UID)
		}
		return out, nil
	case api.Object:
		return got, nil
	}
	return nil, internalError(fmt.Errorf("answer is a %T", obj))
}

func (h *HTTP) write(ctx context.Context, method, path string, q url.Values, k *api.Kind, subresource string, obj runtime.Object) (runtime.Object, error) {
	body, contentType, err := h.encode(obj)
	if err != nil {
		return nil, internalError(err)
	}
	into, err := h.target(k, subresource, obj)
	if err != nil {
		return nil, err
	}
	header := accept(into, false)
	header.Set("Content-Type", contentType)
	res, err := h.call(ctx, method, path, q, header, body)
	if err != nil {
		return nil, err
	}
	return h.read(ctx, res, into)
}

// read decodes a successful answer into obj and returns it, or the Status that came instead.
func (h *HTTP) read(ctx context.Context, res *http.Response, obj runtime.Object) (runtime.Object, error) {
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, statusError(http.StatusGatewayTimeout, metav1.StatusReasonTimeout, "answer broke off: "+err.Error())
	}
	st, err := decode(res.Header.Get("Content-Type"), body, obj)
	if err != nil {
		return nil, internalError(err)
	}
	if st != nil {
		return st, nil
	}
	return obj, nil
}

// target returns an empty object of the type that k or its subresource answers with; sent is what a write sends.
func (h *HTTP) target(k *api.Kind, subresource string, sent runtime.Object) (runtime.Object, error) {
	for _, s := range k.Subresources {
		if s.Name != subresource || s.Kind == "" || s.Kind == k.Kind {
			continue
		}
		gvk := k.GroupVersionKind
		gvk.Kind = s.Kind
		if s.Group != "" {
			gvk.Group = s.Group
		}
		for _, v := range []string{k.Version, "v1"} {
			gvk.Version = v
			if obj, err := h.cfg.Scheme.New(gvk); err == nil {
				return obj, nil
			}
		}
	}
	if sent != nil && subresource != "" && subresource != "status" {
		if kinds, _, err := h.cfg.Scheme.ObjectKinds(sent); err == nil {
			if obj, err := h.cfg.Scheme.New(kinds[0]); err == nil {
				return obj, nil
			}
		}
	}
	return k.New(), nil
}

func listQuery(o ListOptions) url.Values {
	q := url.Values{}
	if o.Labels != nil && !o.Labels.Empty() {
		q.Set("labelSelector", o.Labels.String())
	}
	if o.Fields != nil && !o.Fields.Empty() {
		q.Set("fieldSelector", o.Fields.String())
	}
	set(q, "resourceVersion", o.ResourceVersion)
	set(q, "resourceVersionMatch", string(o.ResourceVersionMatch))
	set(q, "continue", o.Continue)
	if o.Limit > 0 {
		q.Set("limit", strconv.FormatInt(o.Limit, 10))
	}
	return q
}

func writeQuery(dryRun bool, manager, validation string) url.Values {
	q := url.Values{}
	if dryRun {
		q.Set("dryRun", metav1.DryRunAll)
	}
	set(q, "fieldManager", manager)
	set(q, "fieldValidation", validation)
	return q
}

func set(q url.Values, key, value string) {
	if value != "" {
		q.Set(key, value)
	}
}

func internalError(err error) error {
	return statusError(http.StatusInternalServerError, metav1.StatusReasonInternalError, err.Error())
}
