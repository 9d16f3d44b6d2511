package auth

import (
	"context"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
)

// given are grants of a test.
type given []Grant

func (g given) Grants(context.Context, string) ([]Grant, error) { return g, nil }

func TestNobodyGrantsWhatTheyLack(t *testing.T) {
	reader := []rbacv1.PolicyRule{rule("", []string{"get", "list"}, "pods")}
	secrets := []rbacv1.PolicyRule{rule("", []string{"get"}, "secrets")}
	held := func(namespace string, rules ...rbacv1.PolicyRule) given {
		return given{{Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: "jane"}}, Namespace: namespace, Rules: rules}}
	}
	may := rbacv1.PolicyRule{Verbs: []string{"bind", "escalate"}, APIGroups: []string{rbacv1.GroupName}, Resources: []string{"roles", "clusterroles"}}
	for name, tc := range map[string]struct {
		user    *User
		has     given
		rules   []rbacv1.PolicyRule
		allowed bool
	}{
		"an administrator grants all":     {user: admin, rules: secrets, allowed: true},
		"what one has":                    {user: jane, has: held("", reader...), rules: reader, allowed: true},
		"less than one has":               {user: jane, has: held("", reader...), rules: []rbacv1.PolicyRule{rule("", []string{"get"}, "pods")}, allowed: true},
		"what one has in this namespace":  {user: jane, has: held("ns", reader...), rules: reader, allowed: true},
		"what one has in another":         {user: jane, has: held("other", reader...), rules: reader},
		"what one lacks":                  {user: jane, has: held("", reader...), rules: secrets},
		"more than one has":               {user: jane, has: held("", reader...), rules: append(secrets, reader...)},
		"whoever may bind and escalate":   {user: jane, has: held("", may), rules: secrets, allowed: true},
		"whoever may so in one namespace": {user: jane, has: held("ns", may), rules: secrets, allowed: true},
		"whoever may so in another's":     {user: jane, has: held("other", may), rules: secrets},
		"everything, having a part of it": {user: jane, has: held("", reader...), rules: []rbacv1.PolicyRule{rule("*", []string{"*"}, "*")}},
	} {
		t.Run(name, func(t *testing.T) {
			z := NewAuthorizer(nil, tc.has)
			if err := z.CheckRole(t.Context(), tc.user, "ns", "r", tc.rules); (err == nil) != tc.allowed {
				t.Errorf("role: %v", err)
			}
			if err := z.CheckBinding(t.Context(), tc.user, "ns", rbacv1.RoleRef{Kind: "Role", Name: "r"}, tc.rules, false); (err == nil) != tc.allowed {
				t.Errorf("binding: %v", err)
			}
		})
	}
}

// TestGatheringIsForThoseWhoMayDoEverything: it would give whatever others have whose labels say so.
func TestGatheringIsForThoseWhoMayDoEverything(t *testing.T) {
	gather := &rbacv1.ClusterRole{AggregationRule: &rbacv1.AggregationRule{}}
	pods := rule("", []string{"get"}, "pods")
	jane := &User{Name: "jane"}
	for name, tc := range map[string]struct {
		user    *User
		rules   []rbacv1.PolicyRule
		allowed bool
	}{
		"an administrator": {admin, nil, true},
		"who has little":   {jane, []rbacv1.PolicyRule{pods}, false},
		"who has all": {jane, []rbacv1.PolicyRule{
			rule("*", []string{"*"}, "*"), {Verbs: []string{"*"}, NonResourceURLs: []string{"*"}},
		}, true},
	} {
		z := NewAuthorizer(nil, given{{Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: "jane"}}, Rules: tc.rules}})
		if err := z.CheckClusterRole(t.Context(), tc.user, gather); (err == nil) != tc.allowed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNobodyBindsWhatIsNotThere: who makes the role later would give its rights to those who were bound without having them.
func TestNobodyBindsWhatIsNotThere(t *testing.T) {
	all := rbacv1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"rolebindings", "pods"}}
	may := rbacv1.PolicyRule{Verbs: []string{"bind"}, APIGroups: []string{rbacv1.GroupName}, Resources: []string{"roles"}}
	ref := rbacv1.RoleRef{Kind: "Role", Name: "later"}
	for _, tc := range []struct {
		user    *User
		rule    rbacv1.PolicyRule
		allowed bool
	}{{jane, all, false}, {jane, may, true}, {admin, all, true}} {
		z := NewAuthorizer(nil, given{{Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: "jane"}}, Rules: []rbacv1.PolicyRule{tc.rule}}})
		if err := z.CheckBinding(t.Context(), tc.user, "ns", ref, nil, true); (err == nil) != tc.allowed {
			t.Errorf("%s with %v: %v", tc.user.Name, tc.rule, err)
		}
	}
}
