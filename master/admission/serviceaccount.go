package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"shoal/internal/api"
	"shoal/internal/client"
)

// defaultAccount is the service account of pods that name none. It need not exist: nothing is taken from it.
const defaultAccount = "default"

// serviceAccount gives new pods a service account, and that account's image pull secrets when they have none.
type serviceAccount struct{ reader Reader }

func (p serviceAccount) Admit(ctx context.Context, r *Request) error {
	if !r.is(api.Pods, Create) {
		return nil
	}
	pod := r.Object.(*corev1.Pod)
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return nil
	}
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = defaultAccount
	}
	name := pod.Spec.ServiceAccountName
	pod.Spec.DeprecatedServiceAccount = name
	o, err := p.account(ctx, client.Key{Namespace: r.Key.Namespace, Name: name})
	switch {
	case apierrors.IsNotFound(err) && name == defaultAccount:
		return nil
	case apierrors.IsNotFound(err):
		return r.forbidden(fmt.Errorf("error looking up service account %s/%s: serviceaccount %q not found", r.Key.Namespace, name, name))
	case err != nil:
		return err
	}
	if len(pod.Spec.ImagePullSecrets) == 0 {
		pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, o.(*corev1.ServiceAccount).ImagePullSecrets...)
	}
	return nil
}

// account does not ask twice for the default account: a cluster without one would pay for that with every pod.
func (p serviceAccount) account(ctx context.Context, key client.Key) (api.Object, error) {
	if key.Name == defaultAccount {
		return p.reader.Get(ctx, api.ServiceAccounts, key, client.GetOptions{ResourceVersion: "0"})
	}
	return find(ctx, p.reader, api.ServiceAccounts, key)
}
