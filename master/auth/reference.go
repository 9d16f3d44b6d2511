package auth

import (
	"iter"

	corev1 "k8s.io/api/core/v1"
)

// Reference is an object that a pod needs, in the pod's namespace.
type Reference struct{ Resource, Name string }

// References yields what a pod's node must read to run it; an object may come more than once. Persistent volumes are
// referred to by claims, not by pods, and are not among them.
func References(pod *corev1.Pod) iter.Seq[Reference] {
	return func(yield func(Reference) bool) {
		all := func(resource string, names ...string) bool {
			for _, n := range names {
				if n != "" && !yield(Reference{resource, n}) {
					return false
				}
			}
			return true
		}
		if !all("serviceaccounts", pod.Spec.ServiceAccountName) {
			return
		}
		for _, s := range pod.Spec.ImagePullSecrets {
			if !all("secrets", s.Name) {
				return
			}
		}
		for i := range pod.Spec.Volumes {
			if !ofVolume(&pod.Spec.Volumes[i], pod.Name, all) {
				return
			}
		}
		for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
			for i := range list {
				if !ofEnv(list[i].Env, list[i].EnvFrom, all) {
					return
				}
			}
		}
		for i := range pod.Spec.EphemeralContainers {
			c := &pod.Spec.EphemeralContainers[i]
			if !ofEnv(c.Env, c.EnvFrom, all) {
				return
			}
		}
	}
}

func ofVolume(v *corev1.Volume, pod string, all func(string, ...string) bool) bool {
	switch {
	case v.Secret != nil:
		return all("secrets", v.Secret.SecretName)
	case v.ConfigMap != nil:
		return all("configmaps", v.ConfigMap.Name)
	case v.PersistentVolumeClaim != nil:
		return all("persistentvolumeclaims", v.PersistentVolumeClaim.ClaimName)
	case v.Ephemeral != nil:
		return all("persistentvolumeclaims", pod+"-"+v.Name)
	case v.CSI != nil && v.CSI.NodePublishSecretRef != nil:
		return all("secrets", v.CSI.NodePublishSecretRef.Name)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if s.Secret != nil && !all("secrets", s.Secret.Name) || s.ConfigMap != nil && !all("configmaps", s.ConfigMap.Name) {
				return false
			}
		}
	}
	return true
}

func ofEnv(env []corev1.EnvVar, from []corev1.EnvFromSource, all func(string, ...string) bool) bool {
	for _, e := range env {
		if e.ValueFrom == nil {
			continue
		}
		if k := e.ValueFrom.SecretKeyRef; k != nil && !all("secrets", k.Name) {
			return false
		}
		if k := e.ValueFrom.ConfigMapKeyRef; k != nil && !all("configmaps", k.Name) {
			return false
		}
	}
	for _, f := range from {
		if f.SecretRef != nil && !all("secrets", f.SecretRef.Name) || f.ConfigMapRef != nil && !all("configmaps", f.ConfigMapRef.Name) {
			return false
		}
	}
	return true
}
