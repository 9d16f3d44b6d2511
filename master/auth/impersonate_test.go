package auth

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
)

func TestWhoMayActAsWhom(t *testing.T) {
	z := NewAuthorizer(world(), given{
		{Subjects: []rbacv1.Subject{{Kind: "User", Name: "jane"}}, Rules: []rbacv1.PolicyRule{
			{Verbs: []string{"impersonate"}, APIGroups: []string{""}, Resources: []string{"users"}, ResourceNames: []string{"joe", Anonymous}},
			{Verbs: []string{"impersonate"}, APIGroups: []string{""}, Resources: []string{"groups"}, ResourceNames: []string{"crew"}},
			{Verbs: []string{"impersonate"}, APIGroups: []string{""}, Resources: []string{"serviceaccounts"}, ResourceNames: []string{"robot"}},
			{Verbs: []string{"impersonate"}, APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"userextras/deck"}},
		}},
	})
	tests := []struct {
		name    string
		from    *User
		headers string // NAME=VALUE, separated by blanks
		as      string // NAME groups…
		refused string // part of the message
	}{
		{"nothing", jane, "", "jane system:authenticated", ""},
		{"a user", jane, "User=joe", "joe system:authenticated", ""},
		{"a user in a group", jane, "User=joe Group=crew", "joe crew system:authenticated", ""},
		{"another user", jane, "User=admin", "", `users "admin" is forbidden: User "jane" cannot impersonate resource "users"`},
		{"another group", jane, "User=joe Group=system:masters", "", `groups "system:masters" is forbidden`},
		{"one group of two", jane, "User=joe Group=crew Group=captains", "", `groups "captains" is forbidden`},
		{"nobody", jane, "User=" + Anonymous, Anonymous + " system:unauthenticated", ""},
		{"an account", jane, "User=system:serviceaccount:ns:robot", "system:serviceaccount:ns:robot system:serviceaccounts system:serviceaccounts:ns system:authenticated", ""},
		{"an account in other groups", jane, "User=system:serviceaccount:ns:robot Group=crew", "system:serviceaccount:ns:robot crew system:authenticated", ""},
		{"another account", jane, "User=system:serviceaccount:ns:root", "", `serviceaccounts "root" is forbidden`},
		{"an account is no user", jane, "User=system:serviceaccount:joe", "", `users "system:serviceaccount:joe" is forbidden`},
		{"an extra", jane, "User=joe Extra-Deck=upper", "joe system:authenticated deck=upper", ""},
		{"an encoded extra", admin, "User=joe Extra-A%2fB=c", "joe system:authenticated a/b=c", ""},
		{"another extra", jane, "User=joe Extra-Cabin=1", "", `userextras.authentication.k8s.io "1" is forbidden`},
		{"a uid", jane, "User=joe Uid=7", "", `uids.authentication.k8s.io "7" is forbidden`},
		{"a group without a user", admin, "Group=crew", "", "set Impersonate-User"},
		{"an administrator as anyone", admin, "User=joe Group=captains", "joe captains system:authenticated", ""},
		{"anonymous as anyone", anonymous, "User=joe", "", "Unauthorized"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := http.Header{}
			for _, f := range strings.Fields(tt.headers) {
				name, value, _ := strings.Cut(f, "=")
				h.Add("Impersonate-"+name, value)
			}
			u, err := z.Impersonate(t.Context(), tt.from, h)
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) {
					t.Fatalf("%v, want %s", err, tt.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := append([]string{u.Name}, u.Groups...)
			for k, v := range u.Extra {
				got = append(got, k+"="+strings.Join(v, ","))
			}
			if !slices.Equal(got, strings.Fields(tt.as)) {
				t.Errorf("acts as %v, want %v", got, tt.as)
			}
		})
	}
}

// The peer that serves a forwarded request checks a token itself, and whom its bearer wants to act as. Of a certificate it only has
// the first peer's word, which is about who acts.
func TestForwardedImpersonationIsDecidedOnce(t *testing.T) {
	h := http.Header{"Impersonate-User": {"joe"}, "Impersonate-Group": {"crew"}}
	byToken := h.Clone()
	byToken.Set("Authorization", "Bearer x")
	Forward(byToken, jane)
	if byToken.Get("Impersonate-User") != "joe" {
		t.Error("the wish of a token's bearer was dropped")
	}
	Forward(h, jane)
	if as, needs := impersonated(h); as != nil || len(needs) > 0 {
		t.Errorf("the wish of a certificate's owner is still there: %v", h)
	}
}
