package auth

import (
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
)

func TestWhoMayApproveForWhichSigner(t *testing.T) {
	may := func(names ...string) given {
		return given{{Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: "jane"}}, Rules: []rbacv1.PolicyRule{
			{Verbs: []string{"approve"}, APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"signers"}, ResourceNames: names},
		}}}
	}
	for name, tc := range map[string]struct {
		user    *User
		has     given
		verb    string
		allowed bool
	}{
		"an administrator":        {admin, nil, "sign", true},
		"nobody else":             {jane, nil, "approve", false},
		"for the signer":          {jane, may("example.com/crew"), "approve", true},
		"for all of its domain":   {jane, may("example.com/*"), "approve", true},
		"for another":             {jane, may("example.com/captains", "example.org/*"), "approve", false},
		"to approve, not to sign": {jane, may("example.com/crew"), "sign", false},
	} {
		if err := NewAuthorizer(nil, tc.has).CheckSigner(t.Context(), tc.user, tc.verb, "example.com/crew"); (err == nil) != tc.allowed {
			t.Errorf("%s: %v", name, err)
		}
	}
}
