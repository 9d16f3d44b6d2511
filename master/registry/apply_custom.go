package registry

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"shoal/internal/api"
)

// customLocked makes the manager of a kind without a Go type, whose definition brings what it needs. Caller holds mu.
func (a *applier) customLocked(k *api.Kind, sub string) (*managedfields.FieldManager, error) {
	types, err := k.Custom.Types()
	if err != nil {
		return nil, internal(err)
	}
	form := oneForm{k}
	m, err := managedfields.NewDefaultCRDFieldManager(types, form, defaulter{k}, form, k.GroupVersionKind, k.GroupVersion(), sub, nil)
	if err != nil {
		return nil, internal(err)
	}
	a.managers[managerKey{k, sub}] = m
	return m, nil
}

// forget drops what was made for rows that are no longer served.
func (a *applier) forget(served map[*api.Kind]*feed) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for key := range a.managers {
		if served[key.kind] == nil {
			delete(a.managers, key)
		}
	}
}

// oneForm converts objects of a kind whose versions differ in nothing but their name.
type oneForm struct{ kind *api.Kind }

// New implements runtime.ObjectCreater.
func (f oneForm) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(gvk)
	return u, nil
}

// Convert implements runtime.ObjectConvertor.
func (f oneForm) Convert(_, _, _ any) error {
	return runtime.NewNotRegisteredErrForKind("", f.kind.GroupVersionKind)
}

// ConvertToVersion implements runtime.ObjectConvertor.
func (f oneForm) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	gvk, ok := target.KindForGroupVersionKinds([]schema.GroupVersionKind{in.GetObjectKind().GroupVersionKind(), f.kind.GroupVersionKind})
	if !ok {
		return nil, runtime.NewNotRegisteredErrForTarget("", nil, target)
	}
	out := in.DeepCopyObject()
	out.GetObjectKind().SetGroupVersionKind(gvk)
	return out, nil
}

// ConvertFieldLabel implements runtime.ObjectConvertor.
func (f oneForm) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}
