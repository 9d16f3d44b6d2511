package auth

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"shoal/internal/api"
)

// UserTokens is a TokenSource of the users that "shoal user" makes.
type UserTokens struct {
	// Secret reads a Secret of kube-system.
	Secret func(ctx context.Context, name string) (*corev1.Secret, error)
	Now    func() time.Time
}

// User implements TokenSource.
func (s UserTokens) User(ctx context.Context, token string) (*User, error) {
	name, secret, ok := api.SplitUserToken(token)
	if !ok {
		return nil, ErrUnknownToken
	}
	kept, err := s.Secret(ctx, name)
	if apierrors.IsNotFound(err) {
		return nil, ErrUnknownToken
	}
	if err != nil {
		return nil, err
	}
	t, err := api.UserTokenOf(kept)
	if err != nil || !t.Matches(secret) || kept.DeletionTimestamp != nil || !t.Expires.IsZero() && !s.Now().Before(t.Expires) {
		return nil, ErrUnknownToken
	}
	return &User{Name: t.User, Groups: t.Groups}, nil
}
