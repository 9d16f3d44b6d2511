package auth

import (
	"context"
	"errors"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
)

func node(name string) *User {
	return &User{Name: NodePrefix + name, Groups: []string{NodesGroup, AuthenticatedGroup}}
}

var (
	admin     = &User{Name: "admin", Groups: []string{MastersGroup, AuthenticatedGroup}}
	jane      = &User{Name: "jane", Groups: []string{AuthenticatedGroup}}
	anonymous = &User{Name: Anonymous, Groups: []string{UnauthenticatedGroup}}
)

// do reads "verb resource[.group][/sub] [namespace/]name" or "verb /path".
func do(s string) *Attributes {
	f := strings.Fields(s)
	a := &Attributes{Verb: f[0]}
	if strings.HasPrefix(f[1], "/") {
		a.Path = f[1]
		return a
	}
	a.IsResource = true
	a.Resource, a.Subresource, _ = strings.Cut(f[1], "/")
	a.Resource, a.Group, _ = strings.Cut(a.Resource, ".")
	if len(f) > 2 {
		a.Name = f[2]
		if ns, name, ok := strings.Cut(f[2], "/"); ok {
			a.Namespace, a.Name = ns, name
		}
	}
	return a
}

// world has pods "mine" on node a, "theirs" on b and "free" on none; mine refers to secret and configmap "used".
func world() *NodeRestriction {
	return &NodeRestriction{
		PodNode: func(_ context.Context, _, name string) (string, bool, error) {
			switch name {
			case "mine":
				return "a", true, nil
			case "theirs":
				return "b", true, nil
			case "free":
				return "", true, nil
			case "broken":
				return "", false, errors.New("the replica is not ready")
			}
			return "", false, nil
		},
		Holds: func(_ context.Context, node, volume string) (bool, error) {
			return node == "a" && volume == "used", nil
		},
		Refers: func(_ context.Context, node, _, ns, name string) (bool, error) {
			return node == "a" && ns == "ns" && name == "used", nil
		},
	}
}

func TestAuthorize(t *testing.T) {
	z := NewAuthorizer(world())
	for _, tc := range []struct {
		user *User
		do   string
		code int32 // 0 is allowed
	}{
		{admin, "delete nodes a", 0},
		{admin, "create anything.example.com/sub ns/x", 0},
		{admin, "post /debug/pprof", 0},
		{admin, "get /metrics", 0},

		{jane, "get pods ns/x", 403},
		{jane, "get /metrics", 403},
		{jane, "get /apis/apps/v1", 0},
		{jane, "get /openapi/v3", 0},
		{jane, "get /version", 0},
		{jane, "get /readyz/etcd", 403},
		{jane, "post /version", 403},
		{jane, "create selfsubjectaccessreviews.authorization.k8s.io", 0},
		{jane, "create subjectaccessreviews.authorization.k8s.io", 403},

		{anonymous, "get /healthz", 0},
		{anonymous, "get /livez", 0},
		{anonymous, "get /readyz", 0},
		{anonymous, "get /version", 0},
		{anonymous, "get /healthz/x", 401},
		{anonymous, "get /api", 401},
		{anonymous, "list pods", 401},
		{nil, "get /healthz", 401},

		{node("a"), "list pods", 0},
		{node("a"), "watch endpointslices.discovery.k8s.io", 0},
		{node("a"), "list endpointslices", 403},
		{node("a"), "get nodes b", 0},
		{node("a"), "create nodes", 0},
		{node("a"), "update nodes a", 0},
		{node("a"), "patch nodes/status a", 0},
		{node("a"), "update nodes b", 403},
		{node("a"), "patch nodes/status b", 403},
		{node("a"), "delete nodes a", 403},
		{node("a"), "update pods/status ns/mine", 0},
		{node("a"), "patch pods/status ns/theirs", 403},
		{node("a"), "patch pods/status ns/free", 403},
		{node("a"), "patch pods/status ns/broken", 403},
		{node("a"), "patch pods/status ns/missing", 0},
		{node("a"), "update pods ns/mine", 403},
		{node("a"), "delete pods ns/mine", 0},
		{node("a"), "delete pods ns/theirs", 403},
		{node("a"), "deletecollection pods ns/", 403},
		{node("a"), "create pods ns/", 0},
		{node("a"), "create pods/binding ns/free", 403},
		{node("a"), "create pods/exec ns/mine", 403},
		{node("a"), "get secrets ns/used", 0},
		{node("a"), "watch secrets ns/used", 0},
		{node("a"), "get secrets ns/other", 403},
		{node("a"), "get secrets else/used", 403},
		{node("a"), "list secrets ns/", 403},
		{node("a"), "list secrets", 403},
		{node("b"), "get secrets ns/used", 403},
		{node("a"), "update secrets ns/used", 403},
		{node("a"), "get configmaps ns/used", 0},
		{node("a"), "list configmaps", 403},
		{node("a"), "get serviceaccounts ns/used", 0},
		{node("a"), "create serviceaccounts/token ns/used", 0},
		{node("a"), "create serviceaccounts/token ns/admin", 403},
		{node("a"), "create events ns/", 0},
		{node("a"), "patch events.events.k8s.io ns/e", 0},
		{node("a"), "delete events ns/e", 403},
		{node("a"), "create deployments.apps ns/x", 403},
		// Its name alone makes nobody a node, nor the group alone.
		{&User{Name: "system:node:a", Groups: []string{AuthenticatedGroup}}, "list pods", 403},
	} {
		err := z.Authorize(t.Context(), tc.user, do(tc.do))
		if code := codeOf(err); code != tc.code || (err == nil) != (tc.code == 0) {
			t.Errorf("%+v %s: %v, want code %d", tc.user, tc.do, err, tc.code)
		}
	}
}

func TestForbiddenSaysWhoWhatAndWhere(t *testing.T) {
	err := NewAuthorizer(world()).Authorize(t.Context(), node("a"), do("patch pods/status ns/theirs"))
	for _, want := range []string{`"system:node:a"`, "patch", `"pods/status"`, `namespace "ns"`, `bound to "b"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %s", err, want)
		}
	}
}

func TestAllows(t *testing.T) {
	rules := func(verbs, groups, resources string, names ...string) []rbacv1.PolicyRule {
		return []rbacv1.PolicyRule{{
			Verbs: strings.Split(verbs, ","), APIGroups: strings.Split(groups, ","),
			Resources: strings.Split(resources, ","), ResourceNames: names,
		}}
	}
	sub := func(kind, ns, name string) []rbacv1.Subject {
		return []rbacv1.Subject{{Kind: kind, Namespace: ns, Name: name}}
	}
	sa := &User{Name: "system:serviceaccount:ns:bot", Groups: []string{"system:serviceaccounts"}}
	for _, tc := range []struct {
		name  string
		grant Grant
		user  *User
		do    string
		want  bool
	}{
		{"user", Grant{Subjects: sub("User", "", "jane"), Rules: rules("get", "", "pods")}, jane, "get pods ns/x", true},
		{"another user", Grant{Subjects: sub("User", "", "joe"), Rules: rules("get", "", "pods")}, jane, "get pods ns/x", false},
		{"a group is no user", Grant{Subjects: sub("User", "", AuthenticatedGroup), Rules: rules("get", "", "pods")}, jane, "get pods ns/x", false},
		{"group", Grant{Subjects: sub("Group", "", AuthenticatedGroup), Rules: rules("get", "", "pods")}, jane, "get pods ns/x", true},
		{"service account", Grant{Subjects: sub("ServiceAccount", "ns", "bot"), Rules: rules("*", "*", "*")}, sa, "delete pods ns/x", true},
		{"service account of the binding's namespace", Grant{Namespace: "ns", Subjects: sub("ServiceAccount", "", "bot"), Rules: rules("*", "*", "*")}, sa, "delete pods ns/x", true},
		{"service account elsewhere", Grant{Subjects: sub("ServiceAccount", "other", "bot"), Rules: rules("*", "*", "*")}, sa, "delete pods ns/x", false},
		{"in the namespace", Grant{Namespace: "ns", Subjects: sub("User", "", "jane"), Rules: rules("get", "", "pods")}, jane, "get pods ns/x", true},
		{"in another namespace", Grant{Namespace: "other", Subjects: sub("User", "", "jane"), Rules: rules("get", "", "pods")}, jane, "get pods ns/x", false},
		{"a namespace's grant for all namespaces", Grant{Namespace: "ns", Subjects: sub("User", "", "jane"), Rules: rules("list", "", "pods")}, jane, "list pods", false},
		{"another verb", Grant{Subjects: sub("User", "", "jane"), Rules: rules("get,list", "", "pods")}, jane, "watch pods", false},
		{"another API group", Grant{Subjects: sub("User", "", "jane"), Rules: rules("get", "apps", "pods")}, jane, "get pods ns/x", false},
		{"no subresource", Grant{Subjects: sub("User", "", "jane"), Rules: rules("get", "", "pods")}, jane, "get pods/log ns/x", false},
		{"subresource", Grant{Subjects: sub("User", "", "jane"), Rules: rules("get", "", "pods/log")}, jane, "get pods/log ns/x", true},
		{"every subresource of a name", Grant{Subjects: sub("User", "", "jane"), Rules: rules("get", "", "*/scale")}, jane, "get things/scale ns/x", true},
		{"name", Grant{Subjects: sub("User", "", "jane"), Rules: rules("get", "", "pods", "x")}, jane, "get pods ns/x", true},
		{"another name", Grant{Subjects: sub("User", "", "jane"), Rules: rules("get", "", "pods", "x")}, jane, "get pods ns/y", false},
		{"no name", Grant{Subjects: sub("User", "", "jane"), Rules: rules("list", "", "pods", "x")}, jane, "list pods ns/", false},
		{"a resource rule is not for paths", Grant{Subjects: sub("User", "", "jane"), Rules: rules("*", "*", "*")}, jane, "get /metrics", false},
		{"a namespace's grant is not for paths", Grant{Namespace: "ns", Subjects: sub("User", "", "jane"), Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"*"}}}}, jane, "get /metrics", false},
		{"nobody", Grant{Subjects: sub("User", "", ""), Rules: rules("*", "*", "*")}, nil, "get pods ns/x", false},
	} {
		if got := Allows([]Grant{tc.grant}, tc.user, do(tc.do)); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

type fakeGrants struct {
	grants []Grant
	err    error
}

func (f fakeGrants) Grants(context.Context, string) ([]Grant, error) { return f.grants, f.err }

func TestSourcesAddRights(t *testing.T) {
	source := fakeGrants{grants: []Grant{{
		Subjects: []rbacv1.Subject{{Kind: "User", Name: "jane"}}, Rules: []rbacv1.PolicyRule{rule("", readVerbs, "pods")},
	}}}
	if err := NewAuthorizer(world(), source).Authorize(t.Context(), jane, do("list pods")); err != nil {
		t.Error(err)
	}
	broken := NewAuthorizer(world(), fakeGrants{err: errors.New("no replica")})
	if err := broken.Authorize(t.Context(), jane, do("list pods")); codeOf(err) != 503 {
		t.Errorf("got %v", err)
	}
	if err := broken.Authorize(t.Context(), admin, do("list pods")); err != nil {
		t.Errorf("an administrator depends on the source: %v", err)
	}
}

// A grant that is too wide must not free a node from its restriction.
func TestNodesStayRestrictedWhateverIsGranted(t *testing.T) {
	source := fakeGrants{grants: []Grant{{
		Subjects: groups(NodesGroup), Rules: []rbacv1.PolicyRule{{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}},
	}}}
	if err := NewAuthorizer(world(), source).Authorize(t.Context(), node("b"), do("get secrets ns/used")); codeOf(err) != 403 {
		t.Errorf("got %v", err)
	}
}

// some are grants of one namespace.
type some []Grant

func (s some) Grants(_ context.Context, namespace string) (out []Grant, err error) {
	for _, g := range s {
		if g.Namespace == "" || g.Namespace == namespace {
			out = append(out, g)
		}
	}
	return out, nil
}

func TestWhoCan(t *testing.T) {
	z := NewAuthorizer(nil, some{
		{
			Namespace: "team", Binding: "rolebinding/readers", Rules: []rbacv1.PolicyRule{rule("", []string{"get"}, "pods", "pods/log")},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: "jane"}, {Kind: rbacv1.ServiceAccountKind, Name: "ci"}},
		},
		{
			Namespace: "team", Binding: "rolebinding/one", Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}, ResourceNames: []string{"web"}}},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: "joe"}},
		},
		{
			Binding: "clusterrolebinding/ops", Rules: []rbacv1.PolicyRule{rule("", []string{"*"}, "*"), paths("/metrics")},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.GroupKind, Name: "ops"}},
		},
	})
	for question, want := range map[string]string{
		"get pods team/":        "Group ops, Group system:masters, Group system:nodes, ServiceAccount team/ci, User jane",
		"get pods team/web":     "Group ops, Group system:masters, Group system:nodes, ServiceAccount team/ci, User jane, User joe",
		"get pods/log team/":    "Group ops, Group system:masters, ServiceAccount team/ci, User jane",
		"delete pods other/":    "Group ops, Group system:masters, Group system:nodes",
		"get /metrics":          "Group ops, Group system:masters, Group system:monitoring, Group system:nodes",
		"create foos.example /": "Group system:masters",
	} {
		all, err := z.WhoCan(t.Context(), do(question))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, h := range all {
			name := h.Subject.Kind + " " + h.Subject.Name
			if h.Subject.Namespace != "" {
				name = h.Subject.Kind + " " + h.Subject.Namespace + "/" + h.Subject.Name
			}
			got = append(got, name)
			// What is listed is what is decided.
			u := &User{Name: h.Subject.Name}
			switch h.Subject.Kind {
			case rbacv1.GroupKind:
				u = &User{Name: "somebody", Groups: []string{h.Subject.Name}}
			case rbacv1.ServiceAccountKind:
				u = AccountUser(h.Subject.Namespace, h.Subject.Name, "")
			}
			if err := z.Authorize(t.Context(), u, do(question)); err != nil {
				t.Errorf("%s: %s may not: %v", question, name, err)
			}
		}
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("%s:\n%s, want\n%s", question, s, want)
		}
	}
}
