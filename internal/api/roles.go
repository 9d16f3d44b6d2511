package api

import (
	"maps"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// workloadRules are what the roles of a namespace's people are about, by group. The lists are those of Kubernetes' default roles; what no
// peer serves is left out.
var workloadRules = []struct {
	group string
	// written may be read and changed, read only read.
	written, read []string
}{
	{
		"",
		[]string{"configmaps", "events", "persistentvolumeclaims", "pods", "replicationcontrollers", "replicationcontrollers/scale", "serviceaccounts", "services"},
		[]string{
			"bindings", "endpoints", "limitranges", "namespaces", "namespaces/status", "persistentvolumeclaims/status", "pods/log",
			"pods/status", "replicationcontrollers/status", "resourcequotas", "resourcequotas/status", "services/status",
		},
	},
	{
		"apps",
		[]string{"daemonsets", "deployments", "deployments/scale", "replicasets", "replicasets/scale", "statefulsets", "statefulsets/scale"},
		[]string{"controllerrevisions", "daemonsets/status", "deployments/status", "replicasets/status", "statefulsets/status"},
	},
	{"autoscaling", []string{"horizontalpodautoscalers"}, []string{"horizontalpodautoscalers/status"}},
	{"batch", []string{"cronjobs", "jobs"}, []string{"cronjobs/status", "jobs/status"}},
	{"discovery.k8s.io", nil, []string{"endpointslices"}},
	{"metrics.k8s.io", nil, []string{"nodes", "pods"}},
	{"networking.k8s.io", []string{"ingresses", "networkpolicies"}, []string{"ingresses/status"}},
	{"policy", []string{"poddisruptionbudgets"}, []string{"poddisruptionbudgets/status"}},
}

var (
	roleReads  = []string{"get", "list", "watch"}
	roleWrites = []string{"create", "delete", "deletecollection", "patch", "update"}
)

// DefaultClusterRoles returns new objects for the roles that every cluster has to bind people to: cluster-admin may do everything; admin,
// edit and view are meant for a RoleBinding in a namespace. View shows no Secrets, because they hold the tokens of others. The last three gather what
// other roles have whose labels say so, as in Kubernetes: those of custom kinds join them that way. Their rules are here what the Master would gather.
func DefaultClusterRoles() []*rbacv1.ClusterRole {
	var view, edit []rbacv1.PolicyRule
	for _, w := range workloadRules {
		view = append(view, resources(w.group, roleReads, slices.Concat(w.written, w.read)...))
		if w.written != nil {
			edit = append(edit, resources(w.group, roleWrites, w.written...))
		}
	}
	edit = append(edit,
		resources("", slices.Concat(roleReads, roleWrites), "secrets", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "services/proxy"),
		resources("", []string{"create"}, "pods/eviction", "serviceaccounts/token"),
		resources("", []string{"impersonate"}, "serviceaccounts"),
		resources("coordination.k8s.io", slices.Concat(roleReads, roleWrites), "leases"),
	)
	admin := []rbacv1.PolicyRule{
		resources(rbacv1.GroupName, slices.Concat(roleReads, roleWrites), "rolebindings", "roles"),
		resources("authorization.k8s.io", []string{"create"}, "localsubjectaccessreviews"),
	}
	return []*rbacv1.ClusterRole{
		clusterRole("cluster-admin", []rbacv1.PolicyRule{
			resources("*", []string{"*"}, "*"),
			{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}},
		}),
		gathered("admin", "", slices.Concat(edit, view, admin)), gathered("edit", "admin", slices.Concat(edit, view)), gathered("view", "edit", view),
		labelledRole(clusterRole("system:aggregate-to-admin", admin), "admin"),
		labelledRole(clusterRole("system:aggregate-to-edit", edit), "edit"),
		labelledRole(clusterRole("system:aggregate-to-view", view), "view"),
	}
}

// aggregateTo is the label of what belongs to a role.
func aggregateTo(role string) map[string]string {
	return map[string]string{"rbac.authorization.k8s.io/aggregate-to-" + role: "true"}
}

// gathered is a role that has what others have, and belongs to another one itself unless that is empty.
func gathered(name, to string, rules []rbacv1.PolicyRule) *rbacv1.ClusterRole {
	r := clusterRole(name, rules)
	r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: aggregateTo(name)}}}
	if to == "" {
		return r
	}
	return labelledRole(r, to)
}

func labelledRole(r *rbacv1.ClusterRole, to string) *rbacv1.ClusterRole {
	maps.Copy(r.Labels, aggregateTo(to))
	return r
}

func resources(group string, verbs []string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: verbs, APIGroups: []string{group}, Resources: names}
}

func clusterRole(name string, rules []rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{"kubernetes.io/bootstrapping": "rbac-defaults"},
			Annotations: map[string]string{rbacv1.AutoUpdateAnnotationKey: "true"},
		},
		Rules: rules,
	}
}
