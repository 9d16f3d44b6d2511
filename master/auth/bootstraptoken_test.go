package auth

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestBootstrapTokens(t *testing.T) {
	const token = "abcdef.0123456789abcdef"
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	good := func() *corev1.Secret {
		return &corev1.Secret{Type: bootstrapType, Data: map[string][]byte{
			"token-id": []byte("abcdef"), "token-secret": []byte("0123456789abcdef"), "usage-bootstrap-authentication": []byte("true"),
			"expiration": []byte(now.Add(time.Hour).Format(time.RFC3339)), "auth-extra-groups": []byte("system:bootstrappers:crew,system:bootstrappers:b:c"),
		}}
	}
	ask := func(token string, kept *corev1.Secret, err error) (*User, error) {
		return BootstrapTokens{Now: func() time.Time { return now }, Secret: func(_ context.Context, name string) (*corev1.Secret, error) {
			if name != "bootstrap-token-abcdef" {
				return nil, apierrors.NewNotFound(corev1.Resource("secrets"), name)
			}
			return kept, err
		}}.User(t.Context(), token)
	}
	want := []string{"system:bootstrappers", "system:bootstrappers:crew", "system:bootstrappers:b:c"}
	if u, err := ask(token, good(), nil); err != nil || u.Name != "system:bootstrap:abcdef" || !slices.Equal(u.Groups, want) {
		t.Fatalf("%+v, %v", u, err)
	}
	for what, change := range map[string]func(*corev1.Secret){
		"another secret":       func(s *corev1.Secret) { s.Data["token-secret"] = []byte("0123456789abcdee") },
		"another id":           func(s *corev1.Secret) { s.Data["token-id"] = []byte("abcdeg") },
		"another type":         func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque },
		"no use":               func(s *corev1.Secret) { delete(s.Data, "usage-bootstrap-authentication") },
		"for signing only":     func(s *corev1.Secret) { s.Data["usage-bootstrap-authentication"] = []byte("false") },
		"over":                 func(s *corev1.Secret) { s.Data["expiration"] = []byte(now.Format(time.RFC3339)) },
		"over, who knows when": func(s *corev1.Secret) { s.Data["expiration"] = []byte("soon") },
		"being deleted":        func(s *corev1.Secret) { s.DeletionTimestamp = &metav1.Time{Time: now} },
		"a group not its to be": func(s *corev1.Secret) {
			s.Data["auth-extra-groups"] = []byte("system:bootstrappers:crew,system:masters")
		},
		"nothing": func(s *corev1.Secret) { s.Data = nil },
	} {
		s := good()
		change(s)
		if u, err := ask(token, s, nil); !errors.Is(err, ErrUnknownToken) {
			t.Errorf("%s: %+v, %v", what, u, err)
		}
	}
	endless := good()
	delete(endless.Data, "expiration")
	delete(endless.Data, "auth-extra-groups")
	if u, err := ask(token, endless, nil); err != nil || len(u.Groups) != 1 {
		t.Errorf("without an end: %+v, %v", u, err)
	}
	for _, other := range []string{"", "abcdef", "abcdeg.0123456789abcdef", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcdef0", "abcdef.0123456789abcdef\n"} {
		if u, err := ask(other, good(), nil); !errors.Is(err, ErrUnknownToken) {
			t.Errorf("%q: %+v, %v", other, u, err)
		}
	}
	if _, err := ask(token, nil, errors.New("no store")); err == nil || errors.Is(err, ErrUnknownToken) {
		t.Errorf("it cannot be told: %v", err)
	}
}
