package auth

import (
	"slices"
	"testing"

	"shoal/internal/api"
)

// A kind that is served gives nobody a right: what is not listed here is forbidden. A node may change pods and its Node,
// and read, by name, what its pods refer to.
func TestKindsGiveNoRights(t *testing.T) {
	z := NewAuthorizer(world())
	nodes := map[string][]string{
		"configmaps": {"get", "list", "watch"}, "secrets": {"get", "list", "watch"}, "serviceaccounts": {"get"},
		"persistentvolumeclaims": {"get", "list", "watch"}, "persistentvolumes": {"get", "list", "watch", "update"},
		"endpoints": {"get", "list", "watch"}, "endpointslices": {"get", "list", "watch"}, "namespaces": {"get", "list", "watch"},
		"networkpolicies": {"get", "list", "watch"}, "services": {"get", "list", "watch"},
		"nodes": {"get", "list", "watch", "create"}, "pods": {"get", "list", "watch", "create"}, "events": {"create", "update", "patch"},
		"serviceaccounts/token": {"create"}, "runtimeclasses": {"get", "list", "watch"},
		"csidrivers": {"get", "list", "watch"}, "volumeattachments": {"get", "list", "watch"}, "csinodes": {"get", "list", "watch", "create"},
	}
	for _, k := range api.Kinds() {
		for _, verb := range []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"} {
			for _, sub := range append([]string{""}, subresources(k)...) {
				a := &Attributes{IsResource: true, Verb: verb, Group: k.Group, Version: k.Version, Resource: k.Resource, Subresource: sub, Namespace: "ns", Name: "used"}
				for _, u := range []*User{jane, anonymous} {
					if z.Authorize(t.Context(), u, a) == nil {
						t.Errorf("%s may %s %s/%s", u.Name, verb, k.Resource, sub)
					}
				}
				// A pod of that name does not exist, and the answer to that is 404.
				if k == api.Pods && verb != "get" && sub != "" || k == api.Pods && verb == "delete" {
					continue
				}
				allowed := z.Authorize(t.Context(), node("a"), a) == nil
				resource := k.Resource
				if sub != "" {
					resource += "/" + sub
				}
				if want := slices.Contains(nodes[resource], verb); allowed != want {
					t.Errorf("a node may %s %s/%s: %v", verb, k.Resource, sub, allowed)
				}
			}
		}
	}
}

func subresources(k *api.Kind) []string {
	var all []string
	for _, s := range k.Subresources {
		all = append(all, s.Name)
	}
	return all
}
