package registry

import (
	"context"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/applyconfigurations"
	"sigs.k8s.io/yaml"

	"shoal/internal/api"
	"shoal/internal/client"
)

// applier does server-side apply and keeps managedFields. Both need a schema of all types that takes 16 MB and 92 ms
// to build, so it is built at the first apply; and managedFields are only kept for objects that were once applied, so
// that plain creates and updates cost nothing.
type applier struct {
	mu       sync.Mutex
	scheme   *runtime.Scheme
	types    managedfields.TypeConverter
	managers map[managerKey]*managedfields.FieldManager
}

type managerKey struct {
	kind *api.Kind
	sub  string
}

func (a *applier) manager(k *api.Kind, sub string) (*managedfields.FieldManager, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if m := a.managers[managerKey{k, sub}]; m != nil {
		return m, nil
	}
	if a.managers == nil {
		a.managers = map[managerKey]*managedfields.FieldManager{}
	}
	if k.Custom != nil {
		return a.customLocked(k, sub)
	}
	if a.types == nil {
		a.scheme = api.NewScheme()
		a.types = applyconfigurations.NewTypeConverter(a.scheme)
	}
	types := a.types
	if k == api.CustomResourceDefinitions {
		types = managedfields.NewDeducedTypeConverter() // client-go has no schema of it; its lists are replaced as a whole in any case
	}
	m, err := managedfields.NewDefaultFieldManager(types, a.scheme, defaulter{k}, a.scheme, k.GroupVersionKind, k.GroupVersion(), sub, nil)
	if err != nil {
		return nil, internal(err)
	}
	a.managers[managerKey{k, sub}] = m
	return m, nil
}

// defaulter fills in a kind's defaults before ownership is computed.
type defaulter struct{ kind *api.Kind }

func (d defaulter) Default(o runtime.Object) {
	if obj, ok := o.(api.Object); ok && d.kind.Default != nil {
		d.kind.Default(obj)
	}
}

// track notes in updated who changed what since old, when old is an object that was once applied.
func (a *applier) track(u updating, old, updated api.Object) api.Object {
	if len(old.GetManagedFields()) == 0 {
		updated.SetManagedFields(nil)
		return updated
	}
	m, err := a.manager(u.kind, u.sub)
	if err != nil {
		updated.SetManagedFields(old.GetManagedFields())
		return updated
	}
	manager := u.manager
	if manager == "" {
		manager = "unknown"
	}
	out, ok := m.UpdateNoErrors(old, updated, manager).(api.Object)
	if !ok {
		return updated
	}
	return out
}

// applyPatch is server-side apply: it merges what a manager wants into the stored object, or creates it.
func (r *Registry) applyPatch(ctx context.Context, k *api.Kind, key client.Key, p client.Patch, o client.PatchOptions) (*Patched, error) {
	if o.FieldManager == "" {
		gk := schema.GroupKind{Group: metav1.GroupName, Kind: "PatchOptions"}
		return nil, apierrors.NewInvalid(gk, "", field.ErrorList{field.Required(field.NewPath("fieldManager"), "is required for apply patch")})
	}
	if err := api.CheckYAML(p.Data); err != nil {
		return nil, err
	}
	wanted := &unstructured.Unstructured{}
	if err := yaml.UnmarshalStrict(p.Data, &wanted.Object); err != nil {
		return nil, badRequest("error decoding YAML: %v", err)
	}
	if wanted.Object == nil {
		wanted.Object = map[string]any{}
	}
	if o.Subresource == "scale" {
		scaled, err := scaleApplied(k, key, wanted)
		if err != nil {
			return nil, err
		}
		wanted = scaled
	}
	if err := checkApplied(k, key, wanted); err != nil {
		return nil, err
	}
	m, err := r.apply.manager(k, o.Subresource)
	if err != nil {
		return nil, err
	}
	for range attempts {
		res, err := r.applyOnce(ctx, k, key, wanted, m, o)
		if !apierrors.IsAlreadyExists(err) {
			return res, err
		}
	}
	return nil, stale(k, key.Name)
}

func checkApplied(k *api.Kind, key client.Key, wanted *unstructured.Unstructured) error {
	gvk := wanted.GroupVersionKind()
	switch name := wanted.GetName(); {
	case gvk.GroupVersion() != k.GroupVersion():
		return badRequest("Incorrect version specified in apply patch. Specified patch version: %s, expected: %s", gvk.GroupVersion(), k.GroupVersion())
	case gvk.Kind != k.Kind:
		return badRequest("the kind in the apply patch (%s) does not match the expected kind (%s)", gvk.Kind, k.Kind)
	case name == "":
		return badRequest("the name of the object (%s based on URL) was undeterminable: name must be provided", key.Name)
	case name != key.Name:
		return badRequest("the name of the object (%s) does not match the name on the URL (%s)", name, key.Name)
	}
	if ns := wanted.GetNamespace(); k.Namespaced && ns != "" && ns != key.Namespace {
		return badRequest("the namespace of the object (%s) does not match the namespace on the request (%s)", ns, key.Namespace)
	}
	return nil
}

func (r *Registry) applyOnce(ctx context.Context, k *api.Kind, key client.Key, wanted *unstructured.Unstructured,
	m *managedfields.FieldManager, o client.PatchOptions,
) (*Patched, error) {
	merge := func(live api.Object) (api.Object, error) {
		merged, err := m.Apply(remembered(k, m, live), wanted.DeepCopy(), o.FieldManager, o.Force)
		if err != nil {
			return nil, applyError(err)
		}
		if merged == nil { // nothing to change
			return live, nil
		}
		obj, ok := merged.(api.Object)
		if !ok {
			return nil, internal(fmt.Errorf("apply made a %T", merged))
		}
		if k.Prune != nil {
			k.Prune(obj)
		}
		return obj, nil
	}
	if _, err := r.latest(ctx, k, key); apierrors.IsNotFound(err) && o.Subresource == "" {
		return r.applyNew(ctx, k, key, wanted, merge, o)
	}
	u := updating{kind: k, key: key, sub: o.Subresource, dryRun: o.DryRun, manager: o.FieldManager, tracked: true}
	if u.sub == "scale" { // its part of the object, owned under the subresource's name
		u.sub = ""
	}
	e, err := r.update(ctx, u, func(old *Entry) (api.Object, error) {
		if rv := wanted.GetResourceVersion(); rv != "" && rv != old.Rev.String() {
			return nil, stale(k, key.Name)
		}
		return merge(clone(old))
	})
	if err != nil {
		return nil, err
	}
	out := &Patched{Entry: e}
	if o.Subresource == "scale" {
		out.Scale, err = ScaleOf(k, e.Object)
	}
	return out, err
}

func (r *Registry) applyNew(ctx context.Context, k *api.Kind, key client.Key, wanted *unstructured.Unstructured,
	merge func(api.Object) (api.Object, error), o client.PatchOptions,
) (*Patched, error) {
	if uid := wanted.GetUID(); uid != "" {
		return nil, conflict(k, key.Name, "uid mismatch: the provided object specified uid %s, and no existing object was found", uid)
	}
	live := k.New()
	live.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
	live.SetName(key.Name)
	live.SetNamespace(key.Namespace)
	obj, err := merge(live)
	if err != nil {
		return nil, err
	}
	obj.SetName(key.Name)
	obj.SetNamespace(key.Namespace)
	e, err := r.create(ctx, k, obj, o.DryRun)
	if err != nil {
		return nil, err
	}
	return &Patched{Entry: e, Created: true}, nil
}

// applyError gives a mistake of the client its code; conflicts of managers have theirs.
func applyError(err error) error {
	if _, ok := err.(apierrors.APIStatus); ok {
		return err
	}
	return badRequest("%v", err)
}
