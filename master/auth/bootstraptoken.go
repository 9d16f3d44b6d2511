package auth

import (
	"context"
	"crypto/subtle"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// What Kubernetes' bootstrap tokens are made of (kubernetes.io, "Authenticating with Bootstrap Tokens").
const (
	bootstrapType corev1.SecretType = "bootstrap.kubernetes.io/token"

	bootstrapName   = "bootstrap-token-"  // and ID, of the Secret
	bootstrapUser   = "system:bootstrap:" // and ID
	bootstrapGroup  = "system:bootstrappers"
	bootstrapID     = "token-id"
	bootstrapSecret = "token-secret"
	bootstrapEnds   = "expiration" // RFC 3339
	bootstrapUsage  = "usage-bootstrap-authentication"
	bootstrapGroups = "auth-extra-groups" // with commas
)

var (
	bootstrapToken      = regexp.MustCompile(`\A([a-z0-9]{6})\.([a-z0-9]{16})\z`)
	bootstrapExtraGroup = regexp.MustCompile(`\Asystem:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]\z`)
)

// BootstrapTokens is a TokenSource of Kubernetes' bootstrap tokens, which are Secrets of kube-system. Who has one is system:bootstrap:ID, who may do nothing
// until somebody lets that user or its groups.
type BootstrapTokens struct {
	// Secret reads a Secret of kube-system.
	Secret func(ctx context.Context, name string) (*corev1.Secret, error)
	Now    func() time.Time
}

// IsBootstrapToken reports whether a token has the form of one.
func IsBootstrapToken(token string) bool { return bootstrapToken.MatchString(token) }

// User implements TokenSource.
func (s BootstrapTokens) User(ctx context.Context, token string) (*User, error) {
	parts := bootstrapToken.FindStringSubmatch(token)
	if parts == nil {
		return nil, ErrUnknownToken
	}
	kept, err := s.Secret(ctx, bootstrapName+parts[1])
	if apierrors.IsNotFound(err) {
		return nil, ErrUnknownToken
	}
	if err != nil {
		return nil, err
	}
	has := func(key string) string { return string(kept.Data[key]) }
	groups, ok := bootstrapGroupsOf(has(bootstrapGroups))
	switch {
	case !ok, kept.DeletionTimestamp != nil, kept.Type != bootstrapType, has(bootstrapID) != parts[1], has(bootstrapUsage) != "true":
		return nil, ErrUnknownToken
	case subtle.ConstantTimeCompare(kept.Data[bootstrapSecret], []byte(parts[2])) != 1:
		return nil, ErrUnknownToken
	}
	if ends := has(bootstrapEnds); ends != "" {
		if at, err := time.Parse(time.RFC3339, ends); err != nil || !s.Now().Before(at) { // unreadable counts as over
			return nil, ErrUnknownToken
		}
	}
	return &User{Name: bootstrapUser + parts[1], Groups: groups}, nil
}

// bootstrapGroupsOf returns the groups of a token's bearer; false when one is none that a token may give.
func bootstrapGroupsOf(extra string) ([]string, bool) {
	groups := []string{bootstrapGroup}
	if extra == "" {
		return groups, true
	}
	for _, g := range strings.Split(extra, ",") {
		if !bootstrapExtraGroup.MatchString(g) {
			return nil, false
		}
		groups = append(groups, g)
	}
	return groups, true
}
