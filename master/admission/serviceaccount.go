package admission

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilrand "k8s.io/apimachinery/pkg/util/rand"

	"shoal/internal/api"
	"shoal/internal/client"
)

// defaultAccount is the service account of pods that name none. It need not exist yet: the Master makes it in every
// namespace, and a pod's machine waits for it.
const defaultAccount = "default"

// serviceAccount gives new pods a service account, that account's image pull secrets when they have none, and, unless
// the pod or the account says no, the account's token where client libraries look for it.
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
		o = &corev1.ServiceAccount{}
	case apierrors.IsNotFound(err):
		return r.forbidden(fmt.Errorf("error looking up service account %s/%s: serviceaccount %q not found", r.Key.Namespace, name, name))
	case err != nil:
		return err
	}
	account := o.(*corev1.ServiceAccount)
	if len(pod.Spec.ImagePullSecrets) == 0 {
		pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, account.ImagePullSecrets...)
	}
	if mayMount(account, pod) {
		mountToken(&pod.Spec)
	}
	return nil
}

// mayMount reports whether the token is wanted: the pod's word counts more than the account's.
func mayMount(account *corev1.ServiceAccount, pod *corev1.Pod) bool {
	switch {
	case pod.Spec.AutomountServiceAccountToken != nil:
		return *pod.Spec.AutomountServiceAccountToken
	case account.AutomountServiceAccountToken != nil:
		return *account.AutomountServiceAccountToken
	}
	return true
}

const (
	// tokenVolume begins the name of the volume that holds the token; clients know it by that.
	tokenVolume = "kube-api-access-"
	// tokenPath is where client libraries look for the token, the CA and their namespace.
	tokenPath = "/var/run/secrets/kubernetes.io/serviceaccount"
	// tokenSeconds is Kubernetes' own: an hour, and some seconds by which such tokens can be told from others.
	tokenSeconds = 3607
)

// mountToken mounts a volume with the token in every container that has nothing of its own in that place.
func mountToken(s *corev1.PodSpec) {
	name, exists := "", false
	for i := range s.Volumes {
		if strings.HasPrefix(s.Volumes[i].Name, tokenVolume) {
			name, exists = s.Volumes[i].Name, true
		}
	}
	if !exists {
		name = tokenVolume + utilrand.String(5)
	}
	used := false
	for _, list := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range list {
			if !mounts(&list[i], tokenPath) {
				list[i].VolumeMounts = append(list[i].VolumeMounts, corev1.VolumeMount{Name: name, ReadOnly: true, MountPath: tokenPath})
				used = true
			}
		}
	}
	if used && !exists {
		s.Volumes = append(s.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: tokenSource()}})
	}
}

func mounts(c *corev1.Container, path string) bool {
	for i := range c.VolumeMounts {
		if c.VolumeMounts[i].MountPath == path {
			return true
		}
	}
	return false
}

func tokenSource() *corev1.ProjectedVolumeSource {
	seconds, mode := int64(tokenSeconds), corev1.ProjectedVolumeSourceDefaultMode
	return &corev1.ProjectedVolumeSource{
		DefaultMode: &mode,
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: corev1.ServiceAccountTokenKey, ExpirationSeconds: &seconds}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: api.RootCAName},
				Items:                []corev1.KeyToPath{{Key: corev1.ServiceAccountRootCAKey, Path: corev1.ServiceAccountRootCAKey}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
				Path: corev1.ServiceAccountNamespaceKey, FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
			}}}},
		},
	}
}

// account does not ask twice for the default account: a cluster without one would pay for that with every pod.
func (p serviceAccount) account(ctx context.Context, key client.Key) (api.Object, error) {
	if key.Name == defaultAccount {
		return p.reader.Get(ctx, api.ServiceAccounts, key, client.GetOptions{ResourceVersion: "0"})
	}
	return find(ctx, p.reader, api.ServiceAccounts, key)
}
