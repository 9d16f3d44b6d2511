package admission

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"shoal/internal/api"
	"shoal/internal/client"
)

func TestOnlyAdministratorsGiveUsersTokens(t *testing.T) {
	_, s, err := api.NewUserToken("jane", nil, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	plain := s.DeepCopy()
	plain.Type = corev1.SecretTypeOpaque
	joe, admin := &User{Name: "joe", Groups: []string{"crew"}}, &User{Name: "admin", Groups: []string{masters}}
	for _, c := range []struct {
		what    string
		user    *User
		op      Operation
		object  *corev1.Secret
		refused bool
	}{
		{"an administrator", admin, Create, s, false},
		{"this process", nil, Create, s, false},
		{"anybody else", joe, Create, s, true},
		{"a change", joe, Update, s, true},
		{"another Secret", joe, Create, plain, false},
		{"its end", joe, Delete, nil, false},
	} {
		r := &Request{Operation: c.op, Kind: api.Secrets, Key: client.KeyOf(s), OldObject: s, User: c.user}
		if c.object != nil {
			r.Object = c.object
		}
		if err := New(Config{Reader: newShelf().put(api.Namespaces, namespace("kube-system", corev1.NamespaceActive))}).Admit(t.Context(), r); apierrors.IsForbidden(err) != c.refused {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}
