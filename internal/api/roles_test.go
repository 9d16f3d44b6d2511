package api

import (
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
)

// TestDefaultRolesNameWhatIsServed keeps a misspelt resource out of a role, where nobody would notice it.
func TestDefaultRolesNameWhatIsServed(t *testing.T) {
	served := map[string]bool{"metrics.k8s.io/pods": true, "metrics.k8s.io/nodes": true, "/bindings": true, "authorization.k8s.io/localsubjectaccessreviews": true}
	for _, k := range Kinds() {
		served[k.Group+"/"+k.Resource] = true
		for _, s := range k.Subresources {
			served[k.Group+"/"+k.Resource+"/"+s.Name] = true
		}
	}
	for _, role := range DefaultClusterRoles() {
		if role.Name == "cluster-admin" {
			continue
		}
		for _, rule := range role.Rules {
			for _, r := range rule.Resources {
				if !served[rule.APIGroups[0]+"/"+r] {
					t.Errorf("%s: %s/%s is not served", role.Name, rule.APIGroups[0], r)
				}
			}
		}
	}
}

func TestDefaultRolesGrowFromViewToAdmin(t *testing.T) {
	can := func(role *rbacv1.ClusterRole, verb, group, resource string) bool {
		return slices.ContainsFunc(role.Rules, func(r rbacv1.PolicyRule) bool {
			return slices.Contains(r.APIGroups, group) && slices.Contains(r.Verbs, verb) && slices.Contains(r.Resources, resource)
		})
	}
	roles := map[string]*rbacv1.ClusterRole{}
	for _, r := range DefaultClusterRoles() {
		roles[r.Name] = r
	}
	for _, c := range []struct {
		verb, group, resource string
		who                   string // of view, edit and admin
	}{
		{"get", "", "pods", "view edit admin"},
		{"get", "", "secrets", "edit admin"},
		{"create", "apps", "deployments", "edit admin"},
		{"create", "", "pods/exec", "edit admin"},
		{"update", "", "resourcequotas", ""},
		{"create", rbacv1.GroupName, "rolebindings", "admin"},
		{"bind", rbacv1.GroupName, "roles", ""},
		{"get", "", "nodes", ""},
		{"get", "", "events", "view edit admin"},
		{"delete", "", "events", "edit admin"},
		{"get", "coordination.k8s.io", "leases", "edit admin"},
		{"update", "coordination.k8s.io", "leases", "edit admin"},
		{"list", "metrics.k8s.io", "nodes", "view edit admin"},
	} {
		var who []string
		for _, name := range []string{"view", "edit", "admin"} {
			if can(roles[name], c.verb, c.group, c.resource) {
				who = append(who, name)
			}
		}
		if got := strings.Join(who, " "); got != c.who {
			t.Errorf("%s %s/%s: %q may, want %q", c.verb, c.group, c.resource, got, c.who)
		}
	}
}
