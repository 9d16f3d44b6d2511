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

	"shoal/internal/api"
)

func TestUsersByToken(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	token, kept, err := api.NewUserToken("jane", []string{"crew"}, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	broken := error(nil)
	source := UserTokens{Now: func() time.Time { return now }, Secret: func(_ context.Context, name string) (*corev1.Secret, error) {
		switch {
		case broken != nil:
			return nil, broken
		case name != kept.Name:
			return nil, apierrors.NewNotFound(corev1.Resource("secrets"), name)
		}
		return kept, nil
	}}
	ask := func(token string) (*User, error) { return source.User(t.Context(), token) }
	if u, err := ask(token); err != nil || u.Name != "jane" || !slices.Equal(u.Groups, []string{"crew"}) {
		t.Errorf("%+v, %v", u, err)
	}
	other, _, err := api.NewUserToken("jane", nil, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	unknown := func(what, token string) {
		t.Helper()
		if u, err := ask(token); !errors.Is(err, ErrUnknownToken) {
			t.Errorf("%s: %+v, %v", what, u, err)
		}
	}
	unknown("another one", other)
	unknown("a wrong secret", token+"0")
	unknown("nonsense", "nonsense")
	broken = errors.New("no store")
	if _, err := ask(token); err == nil || errors.Is(err, ErrUnknownToken) {
		t.Errorf("it cannot be told: %v", err)
	}
	broken = nil
	now = now.Add(time.Hour)
	unknown("one that is over", token)
	now = now.Add(-time.Minute)
	kept.Type = corev1.SecretTypeOpaque
	unknown("a Secret of another kind", token)
	kept.Type = api.UserTokenType
	kept.DeletionTimestamp = &metav1.Time{Time: now}
	unknown("one that is being deleted", token)
}
