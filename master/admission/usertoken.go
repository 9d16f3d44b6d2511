package admission

import (
	"context"
	"errors"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
)

// masters is the group of administrators.
const masters = "system:masters"

// userTokens lets only administrators give users tokens: who may write Secrets in kube-system does not become everybody by it.
type userTokens struct{}

func (userTokens) Admit(_ context.Context, r *Request) error {
	if r.Kind != api.Secrets || r.Object == nil || r.User == nil || slices.Contains(r.User.Groups, masters) {
		return nil
	}
	if s, ok := r.Object.(*corev1.Secret); ok && s.Type == api.UserTokenType {
		return r.forbidden(errors.New("only administrators (group " + masters + ") may give users tokens"))
	}
	return nil
}
