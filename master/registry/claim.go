package registry

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"shoal/consensus/store"
	"shoal/internal/api"
)

// A claim is a key that only one object may own: a cluster IP, a node port, a pod CIDR. It is stored in the same
// transaction as its object, on condition that it is absent, so that nothing can be handed out twice; there is no
// allocator with a memory of its own. Its value is its owner's key.

const (
	claimIP   = "/allocations/clusterip/"
	claimPort = "/allocations/nodeport/"
	claimCIDR = "/allocations/podcidr/"
)

// claimsOf returns the keys that obj owns, sorted.
func claimsOf(obj api.Object) []store.Key {
	var out []store.Key
	switch o := obj.(type) {
	case *corev1.Service:
		if api.HasClusterIP(o) {
			out = append(out, claimIP+store.Key(o.Spec.ClusterIP))
		}
		if api.NeedsNodePorts(o) {
			for _, p := range o.Spec.Ports {
				if p.NodePort != 0 {
					out = append(out, portClaim(p.NodePort))
				}
			}
		}
		if p := o.Spec.HealthCheckNodePort; p != 0 {
			out = append(out, portClaim(p))
		}
	case *corev1.Node:
		if o.Spec.PodCIDR != "" {
			out = append(out, claimCIDR+store.Key(o.Spec.PodCIDR))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func portClaim(port int32) store.Key {
	return claimPort + store.Key(strconv.Itoa(int(port)))
}

// claim adds to t what changes an object's claims from old to now: new ones must be absent, dropped ones are deleted.
// The compares of new claims are the last of t, in the order of now.
func claim(t *store.Txn, now, old []store.Key, owner store.Key) {
	for _, c := range now {
		if !slices.Contains(old, c) {
			t.Compares = append(t.Compares, store.Compare{Key: c})
			t.Ops = append(t.Ops, store.Op{Key: c, Value: []byte(owner)})
		}
	}
	for _, c := range old {
		if !slices.Contains(now, c) {
			t.Ops = append(t.Ops, store.Op{Key: c, Delete: true})
		}
	}
}

// claimTaken is the error of asking for what another object owns.
func claimTaken(k *api.Kind, obj api.Object, c store.Key) error {
	path, value := field.NewPath("spec"), string(c)
	switch o := obj.(type) {
	case *corev1.Service:
		if ip, ok := cutKey(c, claimIP); ok {
			return invalid(k, obj.GetName(), field.Invalid(path.Child("clusterIPs"), []string{ip},
				"failed to allocate IP "+ip+": provided IP is already allocated"))
		}
		for i, p := range o.Spec.Ports {
			if portClaim(p.NodePort) == c {
				return invalid(k, obj.GetName(), field.Invalid(path.Child("ports").Index(i).Child("nodePort"), p.NodePort,
					"provided port is already allocated"))
			}
		}
	case *corev1.Node:
		return invalid(k, obj.GetName(), field.Invalid(path.Child("podCIDR"), o.Spec.PodCIDR, "it belongs to another node"))
	}
	return invalid(k, obj.GetName(), field.Invalid(path, value, "it is already allocated"))
}

func cutKey(k store.Key, prefix string) (string, bool) {
	if len(k) > len(prefix) && string(k[:len(prefix)]) == prefix {
		return string(k[len(prefix):]), true
	}
	return "", false
}
