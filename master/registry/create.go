package registry

import (
	"context"
	"errors"
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/fair"
)

// attempts is how often a write is computed again after another one overtook it.
const attempts = 8

// Create implements client.Interface.
func (r *Registry) Create(ctx context.Context, k *api.Kind, obj runtime.Object, o client.CreateOptions) (runtime.Object, error) {
	switch o.Subresource {
	case "":
		own, ok := obj.DeepCopyObject().(api.Object)
		if !ok {
			return nil, badRequest("a %T has no metadata", obj)
		}
		e, err := r.CreateEntry(ctx, k, own, o)
		if err != nil {
			return nil, err
		}
		return e.Object, nil
	case "binding":
		b, ok := obj.(*corev1.Binding)
		if !ok {
			return nil, badRequest("a pod is bound by a Binding, not by a %T", obj)
		}
		return r.bind(ctx, o.Key, b, o.DryRun)
	case "scale":
		s, ok := obj.(*autoscalingv1.Scale)
		if !ok {
			return nil, badRequest("a scale is set by a Scale, not by a %T", obj)
		}
		return r.updateScale(ctx, k, o.Key, s, client.UpdateOptions{DryRun: o.DryRun, FieldManager: o.FieldManager})
	}
	return nil, apierrors.NewMethodNotSupported(k.GVR().GroupResource(), "create "+o.Subresource)
}

// CreateEntry stores a new object. It owns obj from then on.
func (r *Registry) CreateEntry(ctx context.Context, k *api.Kind, obj api.Object, o client.CreateOptions) (*Entry, error) {
	obj.SetManagedFields(nil)
	return r.create(ctx, k, obj, o.DryRun)
}

// create stores a new object with the managedFields it has.
func (r *Registry) create(ctx context.Context, k *api.Kind, obj api.Object, dryRun bool) (*Entry, error) {
	if _, err := r.feed(k); err != nil {
		return nil, err
	}
	if k.Terminating {
		return nil, terminating(k)
	}
	if rv := obj.GetResourceVersion(); rv != "" && rv != "0" {
		return nil, badRequest("resourceVersion should not be set on objects to be created")
	}
	if k.Namespaced && obj.GetNamespace() == "" {
		return nil, badRequest("an object of kind %s needs a namespace", k.Kind)
	}
	if !k.Namespaced {
		obj.SetNamespace("")
	}
	prefix := obj.GetGenerateName()
	if obj.GetName() != "" || prefix == "" {
		e, err := r.createNamed(ctx, k, obj, dryRun)
		if errors.Is(err, errNameTaken) {
			err = apierrors.NewAlreadyExists(k.GVR().GroupResource(), obj.GetName())
		}
		return e, err
	}
	var name string
	for range attempts {
		// From the beginning with each name: what is filled in may depend on it, such as the labels of a job's pods.
		named := obj.DeepCopyObject().(api.Object)
		name = r.generate(prefix)
		named.SetName(name)
		e, err := r.createNamed(ctx, k, named, dryRun)
		if err == nil || !errors.Is(err, errNameTaken) {
			return e, err
		}
	}
	return nil, apierrors.NewGenerateNameConflict(k.GVR().GroupResource(), name, 1)
}

// createNamed stores a new object whose name is known, or returns errNameTaken.
func (r *Registry) createNamed(ctx context.Context, k *api.Kind, obj api.Object, dryRun bool) (*Entry, error) {
	if err := r.admitCreate(ctx, k, obj, dryRun); err != nil {
		return nil, err
	}
	return r.insert(ctx, k, obj, dryRun)
}

// admitCreate completes a new object and has it checked.
func (r *Registry) admitCreate(ctx context.Context, k *api.Kind, obj api.Object, dryRun bool) error {
	resetMeta(obj)
	obj.SetCreationTimestamp(r.now())
	obj.SetUID(newUID())
	obj.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
	if k.Default != nil {
		k.Default(obj)
	}
	if k.PrepareCreate != nil {
		k.PrepareCreate(obj)
	}
	if k.Generation {
		obj.SetGeneration(1)
	}
	a := &Admission{Operation: OpCreate, Kind: k, Key: keyFor(k, obj), Object: obj, DryRun: dryRun}
	if err := r.cfg.Admit(ctx, a); err != nil {
		return err
	}
	errs := k.ValidateMeta(obj)
	if k.Validate != nil {
		errs = append(errs, k.Validate(obj)...)
	}
	if len(errs) == 0 && k.Rules != nil {
		errs = k.Rules(ctx, obj, nil)
	}
	if len(errs) > 0 {
		return invalid(k, obj.GetName(), errs...)
	}
	return nil
}

// resetMeta removes what clients may not set on a new object.
func resetMeta(obj api.Object) {
	obj.SetResourceVersion("")
	obj.SetSelfLink("")
	obj.SetGeneration(0)
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
}

// errNameTaken means that an object of that name exists.
var errNameTaken = errors.New("name is taken")

// insert proposes a new object together with its allocations, choosing others when somebody was faster.
func (r *Registry) insert(ctx context.Context, k *api.Kind, obj api.Object, dryRun bool) (*Entry, error) {
	key := keyFor(k, obj)
	skey := keyOf(k, key)
	fee, err := r.charge(ctx, k, key, nil, obj)
	if err != nil {
		return nil, err
	}
	defer fee.over()
	for range attempts {
		undo, err := r.allocate(k, obj, nil)
		if err != nil {
			return nil, err
		}
		claims := claimsOf(obj)
		if dryRun {
			return r.dryInsert(k, key, skey, obj)
		}
		value, err := r.value(k, skey, obj)
		if err != nil {
			return nil, err
		}
		t := store.Txn{
			Compares: []store.Compare{{Key: skey}},
			Ops:      []store.Op{{Key: skey, Value: value}},
		}
		claim(&t, claims, nil, skey)
		res, err := r.proposeCharged(ctx, k, t, fee)
		switch {
		case err != nil:
			return nil, err
		case res.OK:
			return newEntry(k, key, obj, res.Revs[0]), nil
		case res.Failed == 0:
			return nil, errNameTaken
		case !undo.chose(claims[res.Failed-1]):
			return nil, claimTaken(k, obj, claims[res.Failed-1])
		}
		undo.release()
	}
	return nil, conflict(k, key.Name, "no free address or port could be had after %d attempts", attempts)
}

func (r *Registry) dryInsert(k *api.Kind, key client.Key, skey store.Key, obj api.Object) (*Entry, error) {
	_, exists, err := r.cfg.Log.Store().Get(skey, 0)
	if err != nil {
		return nil, internal(err)
	}
	if exists {
		return nil, errNameTaken
	}
	e := newEntry(k, key, obj, 0)
	e.Object.SetResourceVersion("")
	return e, nil
}

// value returns what to store for obj.
func (r *Registry) value(k *api.Kind, skey store.Key, obj api.Object) ([]byte, error) {
	b, err := encodeStored(k, obj)
	if err != nil {
		return nil, internal(fmt.Errorf("encode %s: %w", skey, err))
	}
	return r.sealed(skey, b)
}

func (r *Registry) now() metav1.Time {
	t := metav1.NewTime(r.cfg.Now())
	return t.Rfc3339Copy()
}

type termKey struct{}

// InTerm returns a context whose writes are refused once the term is over, even if this peer leads again by then.
func InTerm(ctx context.Context, term uint64) context.Context {
	return context.WithValue(ctx, termKey{}, term)
}

func (r *Registry) propose(ctx context.Context, t store.Txn) (store.Result, error) {
	t.Term, _ = ctx.Value(termKey{}).(uint64)
	defer fair.Yield(ctx)()
	res, err := r.cfg.Log.Propose(ctx, t)
	return res, fromLog(ctx, err)
}

// proposeObject proposes what creates or changes an object of a kind.
func (r *Registry) proposeObject(ctx context.Context, k *api.Kind, t store.Txn) (store.Result, error) {
	if k != api.Events && k.Stored != api.Events {
		return r.propose(ctx, t)
	}
	defer fair.Yield(ctx)()
	res, err := r.events.Propose(ctx, t)
	return res, fromLog(ctx, err)
}

// generate returns prefix with a random end, cut so that the name fits a label.
func (r *Registry) generate(prefix string) string {
	const alphabet, n = "bcdfghjklmnpqrstvwxz2456789", 5
	if limit := 63 - n; len(prefix) > limit {
		prefix = prefix[:limit]
	}
	end := make([]byte, n)
	for i := range end {
		end[i] = alphabet[r.pick(len(alphabet))]
	}
	return prefix + string(end)
}
