package api

import "testing"

const (
	goodRole        = `{metadata: {name: r}, rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]}`
	goodBinding     = `{metadata: {name: b}, roleRef: {kind: Role, name: r}, subjects: [{kind: User, name: bob}]}`
	goodClusterWide = `{metadata: {name: b}, roleRef: {kind: ClusterRole, name: r}, subjects: [{kind: Group, name: g}]}`
)

func TestLeases(t *testing.T) {
	const good = `{metadata: {name: l}, spec: {holderIdentity: me, leaseDurationSeconds: 15}}`
	positive, counted := []string{"spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"}, []string{"spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0"}
	testCreation(t, Leases, good,
		rule{"a lease lasts", `{spec: {leaseDurationSeconds: 0}}`, positive},
		rule{"transitions are counted", `{spec: {leaseTransitions: -1}}`, counted},
		rule{"all is optional", `{spec: null}`, nil},
		rule{"what is not used is dropped, not checked", `{spec: {strategy: "a/b/c", preferredHolder: x}}`, nil})
	testUpdate(t, Leases, "", good,
		rule{"a lease lasts", `{spec: {leaseDurationSeconds: 0}}`, positive},
		rule{"everything may change", `{spec: {holderIdentity: you, leaseTransitions: 3}}`, nil})
	testDefaults(t, Leases, `{metadata: {name: l}, spec: {strategy: OldestEmulationVersion, preferredHolder: x}}`, `{spec: {strategy: null, preferredHolder: null}}`)
	testCells(t, Leases, good, "l", "me", "60m")
	testCells(t, Leases, `{metadata: {name: l}}`, "l", "", "60m")
}

func TestRoles(t *testing.T) {
	testCreation(t, Roles, goodRole,
		rule{"a name is a path segment", `{metadata: {name: "system:R_1"}}`, nil},
		rule{"a name has no slash", `{metadata: {name: a/b}}`, []string{"metadata.name: Invalid value"}},
		rule{"verbs are needed", `{rules: [{apiGroups: [""], resources: [pods]}]}`, []string{"rules[0].verbs: Required value: verbs must contain at least one value"}},
		rule{"groups and resources are needed", `{rules: [{verbs: [get]}]}`, []string{
			"rules[0].apiGroups: Required value: resource rules must supply at least one api group",
			"rules[0].resources: Required value: resource rules must supply at least one resource",
		}},
		rule{"other paths are the cluster's", `{rules: [{verbs: [get], nonResourceURLs: [/x]}]}`, []string{"rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs"}},
		rule{"no rules are allowed", `{rules: null}`, nil})
	testUpdate(t, Roles, "", goodRole,
		rule{"rules may change", `{rules: [{apiGroups: ["*"], resources: ["*"], verbs: ["*"]}]}`, nil},
		rule{"verbs are needed", `{rules: [{apiGroups: [""], resources: [pods]}]}`, []string{"rules[0].verbs: Required value"}})
	testCells(t, Roles, goodRole, "r", "2020-09-13T12:26:40Z")
}

func TestClusterRoles(t *testing.T) {
	testCreation(t, ClusterRoles, goodRole,
		rule{"other paths", `{rules: [{verbs: [get], nonResourceURLs: [/x]}]}`, nil},
		rule{"a rule is about one or the other", `{rules: [{verbs: [get], resources: [pods], nonResourceURLs: [/x]}]}`, []string{"rules[0].nonResourceURLs: Invalid value: [\"/x\"]: rules cannot apply to both"}},
		rule{"an aggregation selects", `{aggregationRule: {}}`, []string{"aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector"}},
		rule{"a selector is valid", `{aggregationRule: {clusterRoleSelectors: [{matchExpressions: [{key: a, operator: Foo}]}]}}`, []string{"aggregationRule.clusterRoleSelectors[0].matchExpressions[0].operator: Invalid value"}},
		rule{"aggregated", `{rules: null, aggregationRule: {clusterRoleSelectors: [{matchLabels: {a: b}}]}}`, nil})
	testUpdate(t, ClusterRoles, "", goodRole,
		rule{"an aggregation selects", `{aggregationRule: {}}`, []string{"aggregationRule.clusterRoleSelectors: Required value"}})
	testCells(t, ClusterRoles, goodRole, "r", "2020-09-13T12:26:40Z")
}

func TestRoleBindings(t *testing.T) {
	testCreation(t, RoleBindings, goodBinding,
		rule{"a role or a cluster role", `{roleRef: {kind: ClusterRole}}`, nil},
		rule{"nothing else", `{roleRef: {kind: Pod}}`, []string{`roleRef.kind: Unsupported value: "Pod": supported values: "Role", "ClusterRole"`}},
		rule{"of this group", `{roleRef: {apiGroup: x}}`, []string{`roleRef.apiGroup: Unsupported value: "x": supported values: "rbac.authorization.k8s.io"`}},
		rule{"with a name", `{roleRef: {name: ""}}`, []string{"roleRef.name: Required value"}},
		rule{"that can be one", `{roleRef: {name: a/b}}`, []string{"roleRef.name: Invalid value"}},
		rule{"a subject has a name", `{subjects: [{kind: User}]}`, []string{"subjects[0].name: Required value"}},
		rule{"a subject has a kind", `{subjects: [{name: x}]}`, []string{`subjects[0].kind: Unsupported value: "": supported values: "ServiceAccount", "User", "Group"`}},
		rule{"an account has no group", `{subjects: [{kind: ServiceAccount, name: x, apiGroup: z}]}`, []string{`subjects[0].apiGroup: Unsupported value: "z": supported values: ""`}},
		rule{"an account's name", `{subjects: [{kind: ServiceAccount, name: X}]}`, []string{"subjects[0].name: Invalid value"}},
		rule{"an account of this namespace", `{subjects: [{kind: ServiceAccount, name: x}]}`, nil},
		rule{"a user is of this group", `{subjects: [{kind: User, name: x, apiGroup: z}]}`, []string{"subjects[0].apiGroup: Unsupported value"}})
	testUpdate(t, RoleBindings, "", goodBinding,
		rule{"the role stays", `{roleRef: {name: other}}`, []string{"roleRef: Invalid value"}},
		rule{"subjects may change", `{subjects: null}`, nil})
	testDefaults(t, RoleBindings, `{metadata: {name: b}, roleRef: {kind: Role, name: r}, subjects: [{kind: User, name: u}, {kind: Group, name: g}, {kind: ServiceAccount, name: s}]}`,
		`{roleRef: {apiGroup: rbac.authorization.k8s.io}, subjects: [{apiGroup: rbac.authorization.k8s.io}, {apiGroup: rbac.authorization.k8s.io}, {apiGroup: null}]}`)
	testCells(t, RoleBindings, `{metadata: {name: b}, roleRef: {kind: Role, name: r}, subjects: [{kind: User, name: u}, {kind: User, name: v}, {kind: Group, name: g}, {kind: ServiceAccount, namespace: ns, name: s}]}`,
		"b", "Role/r", "60m", "u, v", "g", "ns/s")
}

func TestClusterRoleBindings(t *testing.T) {
	testCreation(t, ClusterRoleBindings, goodClusterWide,
		rule{"a cluster role only", `{roleRef: {kind: Role}}`, []string{`roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"`}},
		rule{"an account of which namespace", `{subjects: [{kind: ServiceAccount, name: x}]}`, []string{"subjects[0].namespace: Required value"}})
	testUpdate(t, ClusterRoleBindings, "", goodClusterWide,
		rule{"the role stays", `{roleRef: {name: other}}`, []string{"roleRef: Invalid value"}})
	testDefaults(t, ClusterRoleBindings, goodClusterWide, `{roleRef: {apiGroup: rbac.authorization.k8s.io}, subjects: [{apiGroup: rbac.authorization.k8s.io}]}`)
	testCells(t, ClusterRoleBindings, goodClusterWide, "b", "ClusterRole/r", "60m", "", "g", "")
}
