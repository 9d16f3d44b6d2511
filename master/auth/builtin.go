package auth

import rbacv1 "k8s.io/api/rbac/v1"

var (
	readVerbs  = []string{"get", "list", "watch"}
	writeVerbs = []string{"create", "update", "patch"}
)

// Builtin returns the grants that hold in every cluster.
func Builtin() []Grant {
	return []Grant{
		{Subjects: groups(MastersGroup), Rules: []rbacv1.PolicyRule{
			{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
			{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}},
		}},
		{Subjects: groups(NodesGroup), Rules: nodeRules()},
		// Whoever is somebody may find out what there is, and what they may do themselves.
		{Subjects: groups(AuthenticatedGroup), Rules: []rbacv1.PolicyRule{
			paths("/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", "/.well-known/openid-configuration", "/openid/v1/jwks"),
			{
				Verbs: []string{"create"}, APIGroups: []string{"authorization.k8s.io"},
				Resources: []string{"selfsubjectaccessreviews", "selfsubjectrulesreviews"},
			},
			rule("authentication.k8s.io", []string{"create"}, "selfsubjectreviews"),
		}},
		{Subjects: groups("system:monitoring"), Rules: []rbacv1.PolicyRule{
			paths("/metrics", "/healthz", "/healthz/*", "/livez", "/livez/*", "/readyz", "/readyz/*"),
		}},
		{Subjects: groups(AuthenticatedGroup, UnauthenticatedGroup), Rules: []rbacv1.PolicyRule{
			paths("/healthz", "/livez", "/readyz", "/version", "/version/"),
		}},
	}
}

// nodeRules are what the node agent, the proxy and DNS of a peer need. NodeRestriction narrows them to the node's own.
func nodeRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule("", readVerbs, "nodes", "services", "endpoints", "namespaces", "pods"),
		rule("discovery.k8s.io", readVerbs, "endpointslices"),
		rule("networking.k8s.io", readVerbs, "networkpolicies"),
		rule("", writeVerbs, "nodes"),
		rule("", []string{"update", "patch"}, "nodes/status", "pods/status"),
		rule("", []string{"create", "delete"}, "pods"), // create: mirrors of pods that the node runs by itself
		rule("", readVerbs, "secrets", "configmaps", "persistentvolumeclaims", "persistentvolumes"),
		rule("", []string{"get"}, "serviceaccounts"),
		rule("", []string{"update"}, "persistentvolumes"), // to say of its own that they hold data
		rule("", []string{"create"}, "serviceaccounts/token"),
		rule("", writeVerbs, "events"),
		rule("events.k8s.io", writeVerbs, "events"),
		rule("node.k8s.io", readVerbs, "runtimeclasses"),
		rule("storage.k8s.io", readVerbs, "csidrivers", "volumeattachments", "csinodes"),
		rule("storage.k8s.io", []string{"create", "update", "patch"}, "csinodes"),
		paths("/stats/summary", "/metrics"), // of every machine: whichever peer is asked asks them
	}
}

func rule(group string, verbs []string, resources ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: verbs, APIGroups: []string{group}, Resources: resources}
}

func paths(urls ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: []string{"get", "head"}, NonResourceURLs: urls}
}

func groups(names ...string) []rbacv1.Subject {
	var subjects []rbacv1.Subject
	for _, n := range names {
		subjects = append(subjects, rbacv1.Subject{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: n})
	}
	return subjects
}
