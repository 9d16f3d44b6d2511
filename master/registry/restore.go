package registry

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/consensus/store"
	"shoal/internal/api"
)

// left are the keys that a restore neither brings nor removes: they are of machines and not of the cluster, or of the moment. The peers' own
// records below /shoal/ are not the registry's at all.
var left = []store.Key{
	"/shoal/", claimCIDR, prefixOf(api.Nodes, ""), "/csinodes.storage.k8s.io/", prefixOf(api.Leases, "kube-node-lease"), prefixOf(api.Events, ""),
}

// derived are the keys of what controllers make of other objects: a restore brings what is missing, and leaves the rest to them.
var derived = []store.Key{prefixOf(api.Endpoints, ""), prefixOf(api.EndpointSlices, "")}

func within(key store.Key, prefixes []store.Key) bool {
	return slices.ContainsFunc(prefixes, func(p store.Key) bool { return strings.HasPrefix(string(key), string(p)) })
}

func isPod(key store.Key) bool { return strings.HasPrefix(string(key), string(prefixOf(api.Pods, ""))) }

// Restorable returns what of a backup can be put into a cluster of whatever machines, by key: everything, or what is in one namespace, the
// namespace itself, and what its Services claim. Pods that a controller made are not in it, as that makes new ones; others are as if they
// had never been bound to a Node.
func Restorable(from *store.Store, namespace string) (map[store.Key][]byte, error) {
	page, err := from.List("", "", 0, 0)
	if err != nil {
		return nil, err
	}
	out := map[store.Key][]byte{}
	for _, kv := range page.KVs {
		if within(kv.Key, left) || !inScope(kv.Key, kv.Value, namespace) {
			continue
		}
		value := kv.Value
		if isPod(kv.Key) {
			if value, err = unbound(kv); err != nil {
				return nil, err
			}
		}
		if value != nil {
			out[kv.Key] = value
		}
	}
	return out, nil
}

// Stored returns all objects of a kind in a store that no registry serves.
func Stored(from *store.Store, k *api.Kind) ([]api.Object, error) {
	page, err := from.List(prefixOf(k, ""), "", 0, 0)
	if err != nil {
		return nil, err
	}
	var out []api.Object
	for _, kv := range page.KVs {
		o, err := decodeStored(k, kv.Value)
		if err != nil {
			return nil, fmt.Errorf("decode %s: %w", kv.Key, err)
		}
		if k.Loaded != nil {
			k.Loaded(o)
		}
		out = append(out, o)
	}
	return out, nil
}

// inScope reports whether a key is in a namespace; an empty one means all. A claim is where its owner is.
func inScope(key store.Key, value []byte, namespace string) bool {
	if namespace == "" {
		return true
	}
	path, rest := splitKey(key)
	switch {
	case path == "allocations":
		return inScope(store.Key(value), nil, namespace)
	case key == keyOf(api.Namespaces, objectKey(namespace)):
		return true
	}
	return strings.HasPrefix(rest, namespace+"/")
}

// unbound returns a pod as if it were new, or nil when its controller makes another one.
func unbound(kv store.KV) ([]byte, error) {
	o, err := decodeStored(api.Pods, kv.Value)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", kv.Key, err)
	}
	p := o.(*corev1.Pod)
	if metav1.GetControllerOf(p) != nil || p.DeletionTimestamp != nil {
		return nil, nil
	}
	p.Spec.NodeName = ""
	p.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: p.Status.QOSClass}
	return encodeStored(api.Pods, p)
}

// Restore makes the cluster's objects, or those of one namespace, those of a backup: what the backup has not is deleted. When an
// address or port that a Service had is another one's by now, it does nothing and says so in Taken. It writes in steps of a few hundred
// objects, each all or nothing: after an error, or when another write came between, doing it again ends it. Only on the Master.
func (r *Registry) Restore(ctx context.Context, from *store.Store, namespace string, dryRun bool) (api.Restored, error) {
	want, err := Restorable(from, namespace)
	if err != nil {
		return api.Restored{}, badRequest("the backup cannot be read: %v", err)
	}
	if namespace != "" && len(want) == 0 {
		return api.Restored{}, badRequest("the backup has no namespace %q", namespace)
	}
	plan, err := r.planRestore(want, namespace)
	if err != nil || dryRun || len(plan.Taken) > 0 {
		return plan.Restored, err
	}
	for _, t := range plan.steps {
		res, err := r.propose(ctx, t)
		if err != nil {
			return plan.Restored, err
		}
		if !res.OK {
			return plan.Restored, Unavailable("somebody wrote " + nameOf([]byte(t.Compares[res.Failed].Key)) + " meanwhile: restore again to end it")
		}
	}
	plan.Done = true
	return plan.Restored, nil
}

// restorePlan is the steps of a restore.
type restorePlan struct {
	api.Restored
	steps []store.Txn
	bytes int // in the last step
}

// How much one step writes.
const (
	stepOps   = 512
	stepBytes = 1 << 20
)

// planRestore compares what is there with what is wanted.
func (r *Registry) planRestore(want map[store.Key][]byte, namespace string) (*restorePlan, error) {
	page, err := r.cfg.Log.Store().List("", "", 0, 0)
	if err != nil {
		return nil, err
	}
	p := &restorePlan{}
	has := make(map[store.Key]store.KV, len(page.KVs))
	for _, kv := range page.KVs {
		has[kv.Key] = kv
		_, wanted := want[kv.Key]
		if wanted || within(kv.Key, left) || within(kv.Key, derived) || !inScope(kv.Key, kv.Value, namespace) {
			continue
		}
		if isPod(kv.Key) {
			// Its controller decides, or goes itself.
			if made, err := unbound(kv); err != nil || made == nil {
				continue
			}
		}
		p.Deleted++
		p.add(store.Op{Key: kv.Key, Delete: true}, kv.Mod)
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		kv, there := has[key]
		value := want[key]
		is, _, err := r.cfg.Transform.Open(key, kv.Value)
		if err != nil {
			return nil, internal(err)
		}
		switch {
		case there && (bytes.Equal(is, value) || within(key, derived) || isPod(key)): // a pod that is there has containers
			p.Same++
			continue
		case there && strings.HasPrefix(string(key), "/allocations/"):
			_, what := splitKey(key)
			p.Taken = append(p.Taken, fmt.Sprintf("%s of %s belongs to %s now", what, nameOf(value), nameOf(kv.Value)))
			continue
		case there:
			p.Replaced++
		default:
			p.Created++
		}
		if value, err = r.sealed(key, value); err != nil {
			return nil, err
		}
		p.add(store.Op{Key: key, Value: value}, kv.Mod)
	}
	return p, nil
}

// nameOf writes an owner's key for people.
func nameOf(key []byte) string { return strings.TrimPrefix(string(key), "/") }

// add puts one operation into the last step, or a new one.
func (p *restorePlan) add(op store.Op, mod store.Rev) {
	size := len(op.Key) + len(op.Value)
	last := len(p.steps) - 1
	if last < 0 || len(p.steps[last].Ops) == stepOps || p.bytes+size > stepBytes {
		p.steps = append(p.steps, store.Txn{})
		last, p.bytes = last+1, 0
	}
	t := &p.steps[last]
	t.Compares = append(t.Compares, store.Compare{Key: op.Key, Mod: mod})
	t.Ops = append(t.Ops, op)
	p.bytes += size
}
