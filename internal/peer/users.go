package peer

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/auth"
)

// users knows the tokens that "shoal user" makes, by this peer's replica, or by the Master when that does not have one yet.
func users(p *Peer) auth.TokenSource {
	return auth.UserTokens{Now: p.now, Secret: func(ctx context.Context, name string) (*corev1.Secret, error) {
		key := client.Key{Namespace: metav1.NamespaceSystem, Name: name}
		o, err := p.registry.Get(ctx, api.Secrets, key, anyRevision)
		if apierrors.IsNotFound(err) {
			o, err = p.registry.Get(ctx, api.Secrets, key, client.GetOptions{})
		}
		if err != nil {
			return nil, err
		}
		return o.(*corev1.Secret), nil
	}}
}
