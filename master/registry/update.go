package registry

import (
	"bytes"
	"context"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/fair"
)

// edit computes the new state of an object from the stored one, which it must not change. It may be called again when
// another write came between. Returning old itself means nothing is to change.
type edit func(old *Entry) (api.Object, error)

// change of one object: what every way of updating shares.
type updating struct {
	kind    *api.Kind
	key     client.Key
	sub     string
	dryRun  bool
	manager string
	// tracked means that the edit has already done the bookkeeping of managedFields.
	tracked bool
}

// Update implements client.Interface.
func (r *Registry) Update(ctx context.Context, k *api.Kind, obj runtime.Object, o client.UpdateOptions) (runtime.Object, error) {
	if o.Subresource == "scale" {
		s, ok := obj.(*autoscalingv1.Scale)
		if !ok {
			return nil, badRequest("a scale is set by a Scale, not by a %T", obj)
		}
		if o.Key.Name == "" {
			o.Key = client.Key{Namespace: s.Namespace, Name: s.Name}
		}
		return r.updateScale(ctx, k, o.Key, s, o)
	}
	given, err := meta.Accessor(obj)
	if err != nil {
		return nil, badRequest("a %T has no metadata", obj)
	}
	if o.Key.Name == "" {
		o.Key = client.Key{Namespace: given.GetNamespace(), Name: given.GetName()}
	}
	own, ok := obj.DeepCopyObject().(api.Object)
	if !ok {
		return nil, badRequest("a %T has no metadata", obj)
	}
	e, _, err := r.UpdateEntry(ctx, k, own, o)
	if err != nil {
		return nil, err
	}
	return e.Object, nil
}

// UpdateEntry replaces an object or its status, and creates what is missing if the kind allows that; created tells so.
// It owns obj from then on.
func (r *Registry) UpdateEntry(ctx context.Context, k *api.Kind, obj api.Object, o client.UpdateOptions) (e *Entry, created bool, err error) {
	if _, err := r.feed(k); err != nil {
		return nil, false, err
	}
	rev, err := parseRev(obj.GetResourceVersion())
	if err != nil {
		return nil, false, err
	}
	if err := checkName(o.Key, obj); err != nil {
		return nil, false, err
	}
	u := updating{kind: k, key: o.Key, sub: o.Subresource, dryRun: o.DryRun, manager: o.FieldManager}
	for {
		e, err = r.update(ctx, u, func(old *Entry) (api.Object, error) {
			if uid := obj.GetUID(); uid != "" && uid != old.Object.GetUID() {
				return nil, otherUID(k, o.Key.Name, uid, old.Object.GetUID())
			}
			return obj.DeepCopyObject().(api.Object), nil
		})
		switch {
		case !apierrors.IsNotFound(err):
			return e, false, err
		case obj.GetUID() != "": // it was somebody's object, who should know that it is gone
			return nil, false, otherUID(k, o.Key.Name, obj.GetUID(), "")
		case !k.CreateOnUpdate || u.sub != "" || rev != 0:
			return nil, false, err
		}
		obj.SetNamespace(u.key.Namespace)
		e, err = r.CreateEntry(ctx, k, obj.DeepCopyObject().(api.Object), client.CreateOptions{DryRun: o.DryRun, FieldManager: o.FieldManager})
		if !apierrors.IsAlreadyExists(err) {
			return e, true, err
		}
	}
}

// update replaces an object by what f makes of it, as long as it takes for no other write to come between.
func (r *Registry) update(ctx context.Context, u updating, f edit) (*Entry, error) {
	skey := keyOf(u.kind, u.key)
	confirmed := false
	for range attempts {
		old, err := r.latest(ctx, u.kind, u.key)
		if err != nil {
			return nil, err
		}
		e, again, err := r.tryUpdate(ctx, u, skey, old, f)
		if err == nil && !again {
			return e, nil
		}
		if err != nil {
			// What was wrong may be wrong only because this replica is behind: look once more after a read index.
			if confirmed || !isConflict(err) {
				return nil, err
			}
			confirmed = true
			if rerr := r.reachStore(ctx); rerr != nil {
				return nil, err
			}
			if now, serr := r.stored(u.kind, skey); serr != nil || now == nil || now.Rev == old.Rev {
				return nil, err
			}
		}
	}
	return nil, stale(u.kind, u.key.Name)
}

// latest returns the stored object, making sure before it says that there is none.
func (r *Registry) latest(ctx context.Context, k *api.Kind, key client.Key) (*Entry, error) {
	skey := keyOf(k, key)
	e, err := r.stored(k, skey)
	if err != nil || e != nil {
		return e, err
	}
	if err := r.reachStore(ctx); err != nil {
		return nil, err
	}
	e, err = r.stored(k, skey)
	if err != nil {
		return nil, err
	}
	if e == nil {
		return nil, notFound(k, key.Name)
	}
	return e, nil
}

// reachStore waits until the store holds every write acknowledged before the call.
func (r *Registry) reachStore(ctx context.Context) error {
	defer fair.Yield(ctx)()
	rev, err := r.cfg.Log.ReadIndex(ctx)
	if err == nil {
		err = r.cfg.Log.Store().WaitRev(ctx, rev)
	}
	return fromLog(ctx, err)
}

// tryUpdate makes one attempt; again means that another write came between.
func (r *Registry) tryUpdate(ctx context.Context, u updating, skey store.Key, old *Entry, f edit) (e *Entry, again bool, err error) {
	obj, err := f(old)
	if err != nil || obj == old.Object {
		return old, false, err
	}
	if obj, err = r.prepare(ctx, u, old, obj); err != nil {
		return nil, false, err
	}
	c, err := r.allocate(u.kind, obj, old.Object)
	if err != nil {
		return nil, false, err
	}
	if (u.sub == "" || u.kind.Part(u.sub) != nil) && raisesGeneration(u.kind, obj, old.Object) {
		obj.SetGeneration(old.Object.GetGeneration() + 1)
	}
	plain, err := encodeStored(u.kind, obj)
	if err != nil {
		return nil, false, internal(err)
	}
	due := deletionDue(obj)
	if !due {
		was, err := encodeStored(u.kind, clone(old))
		if err != nil {
			return nil, false, internal(err)
		}
		if bytes.Equal(was, plain) {
			return old, false, nil
		}
	}
	var fee *toll
	if !due && u.sub != "status" && u.sub != "binding" { // which take nothing
		if fee, err = r.charge(ctx, u.kind, u.key, old.Object, obj); err != nil {
			return nil, false, err
		}
		defer fee.over()
	}
	if u.dryRun {
		return newEntry(u.kind, u.key, obj, old.Rev), false, nil
	}
	if due {
		e, again, err := r.remove(ctx, u.kind, u.key, old, obj)
		return e, again, err
	}
	value, err := r.sealed(skey, plain)
	if err != nil {
		return nil, false, err
	}
	t := store.Txn{
		Compares: []store.Compare{{Key: skey, Mod: old.Rev}},
		Ops:      []store.Op{{Key: skey, Value: value}},
	}
	claims, had := claimsOf(obj), claimsOf(old.Object)
	claim(&t, claims, had, skey)
	res, err := r.proposeCharged(ctx, u.kind, t, fee)
	switch {
	case err != nil:
		return nil, false, err
	case res.OK:
		return newEntry(u.kind, u.key, obj, res.Revs[0]), false, nil
	case res.Failed > 0 && !c.chose(t.Compares[res.Failed].Key):
		return nil, false, claimTaken(u.kind, obj, t.Compares[res.Failed].Key)
	}
	return nil, true, nil
}

// prepare completes an update, has it admitted and checks it against the stored object.
func (r *Registry) prepare(ctx context.Context, u updating, old *Entry, obj api.Object) (api.Object, error) {
	k, name := u.kind, u.key.Name
	if err := checkIdentity(k, u.key, old, obj); err != nil {
		return nil, err
	}
	obj.SetNamespace(u.key.Namespace)
	keepMeta(obj, old.Object)
	if k.Default != nil {
		k.Default(obj)
	}
	obj = prepareUpdate(k, obj, old.Object, u.sub)
	if !u.tracked {
		obj = r.apply.track(u, old.Object, obj)
	}
	a := &Admission{Operation: OpUpdate, Kind: k, Key: u.key, Subresource: u.sub, Object: obj, Old: old.Object, DryRun: u.dryRun}
	if err := r.cfg.Admit(ctx, a); err != nil {
		return nil, err
	}
	obj.SetResourceVersion(old.Rev.String()) // so that the metadata check has one
	errs, part := k.ValidateMetaUpdate(obj, old.Object), k.Part(u.sub)
	switch {
	case (u.sub == "status" || u.sub == "approval") && k.ValidateStatus != nil:
		errs = append(errs, k.ValidateStatus(obj, old.Object)...)
	case part != nil && part.Validate != nil:
		errs = append(errs, part.Validate(obj, old.Object)...)
	case u.sub == "" && k.ValidateUpdate != nil:
		errs = append(errs, k.ValidateUpdate(obj, old.Object)...)
	}
	if len(errs) == 0 && k.Rules != nil {
		errs = k.Rules(ctx, obj, old.Object)
	}
	if len(errs) > 0 {
		return nil, invalid(k, name, errs...)
	}
	return obj, nil
}

// checkIdentity demands that an update means the stored object, at its stored revision when it names one.
func checkIdentity(k *api.Kind, key client.Key, old *Entry, obj api.Object) error {
	if err := checkName(key, obj); err != nil {
		return err
	}
	if ns := obj.GetNamespace(); k.Namespaced && ns != "" && ns != key.Namespace {
		return badRequest("the namespace of the object (%s) does not match the namespace on the request (%s)", ns, key.Namespace)
	}
	rev, err := parseRev(obj.GetResourceVersion())
	if err != nil {
		return err
	}
	if rev == 0 && k.NeedsVersion {
		problem := field.Invalid(field.NewPath("metadata", "resourceVersion"), uint64(0), "must be specified for an update")
		// Clients know it under the name of the resource.
		return apierrors.NewInvalid(schema.GroupKind{Group: k.Group, Kind: k.Resource}, key.Name, field.ErrorList{problem})
	}
	if rev != 0 && rev != old.Rev {
		return stale(k, key.Name)
	}
	return nil
}

func checkName(key client.Key, obj api.Object) error {
	switch obj.GetName() {
	case key.Name:
		return nil
	case "":
		return badRequest("the name of the object (%s based on URL) was undeterminable: name must be provided", key.Name)
	}
	return badRequest("the name of the object (%s) does not match the name on the URL (%s)", obj.GetName(), key.Name)
}

func otherUID(k *api.Kind, name string, want, is types.UID) error {
	return conflict(k, name, "Precondition failed: UID in precondition: %v, UID in object meta: %v", want, is)
}

// keepMeta carries over the metadata that only the system changes. What a client says otherwise is overruled, or left for validation to
// refuse, as Kubernetes does it field by field.
func keepMeta(obj, old api.Object) {
	if obj.GetUID() == "" {
		obj.SetUID(old.GetUID())
	}
	obj.SetCreationTimestamp(old.GetCreationTimestamp())
	obj.SetGeneration(old.GetGeneration())
	if t := old.GetDeletionTimestamp(); t != nil {
		obj.SetDeletionTimestamp(t)
	}
	if obj.GetDeletionGracePeriodSeconds() == nil {
		obj.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	}
	obj.SetSelfLink("")
	if obj.GetGenerateName() == "" {
		obj.SetGenerateName(old.GetGenerateName())
	}
}

// updateScale sets the number of replicas of an object.
func (r *Registry) updateScale(ctx context.Context, k *api.Kind, key client.Key, s *autoscalingv1.Scale, o client.UpdateOptions) (runtime.Object, error) {
	if s.Name != "" && s.Name != key.Name {
		return nil, badRequest("the name of the object (%s) does not match the name on the URL (%s)", s.Name, key.Name)
	}
	u := updating{kind: k, key: key, dryRun: o.DryRun, manager: o.FieldManager}
	e, err := r.update(ctx, u, func(old *Entry) (api.Object, error) {
		obj := clone(old)
		return obj, applyScale(k, obj, s)
	})
	if err != nil {
		return nil, err
	}
	return ScaleOf(k, e.Object)
}

func isConflict(err error) bool {
	s, ok := err.(interface{ Status() metav1.Status })
	return ok && s.Status().Reason == metav1.StatusReasonConflict
}
