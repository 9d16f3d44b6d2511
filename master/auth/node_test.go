package auth

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestReferencesAreAllThatTheNodeMustRead(t *testing.T) {
	ref := func(n string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: n} }
	container := func(s string) corev1.Container {
		return corev1.Container{
			Env: []corev1.EnvVar{
				{Name: "plain", Value: "x"},
				{ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref(s + "-env")}}},
				{ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: ref(s + "-env")}}},
				{ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
			},
			EnvFrom: []corev1.EnvFromSource{
				{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref(s + "-from")}},
				{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref(s + "-from")}},
			},
		}
	}
	volume := func(s corev1.VolumeSource) corev1.Volume { return corev1.Volume{Name: "v", VolumeSource: s} }
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{
		ServiceAccountName: "sa",
		ImagePullSecrets:   []corev1.LocalObjectReference{ref("pull")},
		Volumes: []corev1.Volume{
			volume(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}),
			volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "vol"}}),
			volume(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref("vol")}}),
			volume(corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim"}}),
			volume(corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}),
			volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{Secret: &corev1.SecretProjection{LocalObjectReference: ref("projected")}},
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: ref("projected")}},
			}}}),
		},
		InitContainers:      []corev1.Container{container("init")},
		Containers:          []corev1.Container{container("app")},
		EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Env: container("debug").Env, EnvFrom: container("debug").EnvFrom}}},
	}}
	got := map[string][]string{}
	for r := range References(pod) {
		got[r.Resource] = append(got[r.Resource], r.Name)
	}
	for _, names := range got {
		slices.Sort(names)
	}
	both := []string{"app-env", "app-from", "debug-env", "debug-from", "init-env", "init-from", "projected"}
	want := map[string][]string{
		"serviceaccounts":        {"sa"},
		"secrets":                append(slices.Clone(both), "pull", "vol"),
		"configmaps":             append(slices.Clone(both), "vol"),
		"persistentvolumeclaims": {"claim", "p-v"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for range References(pod) {
		break // an early end must not go on yielding
	}
}

func TestCheckMirror(t *testing.T) {
	mirror := func(change func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{}
		p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "hash"}
		p.Spec.NodeName = "a"
		change(p)
		return p
	}
	for name, tc := range map[string]struct {
		user *User
		pod  *corev1.Pod
		ok   bool
	}{
		"mirror":                {node("a"), mirror(func(*corev1.Pod) {}), true},
		"not a mirror":          {node("a"), mirror(func(p *corev1.Pod) { p.Annotations = nil }), false},
		"on another node":       {node("b"), mirror(func(*corev1.Pod) {}), false},
		"on no node":            {node("a"), mirror(func(p *corev1.Pod) { p.Spec.NodeName = "" }), false},
		"with service account":  {node("a"), mirror(func(p *corev1.Pod) { p.Spec.ServiceAccountName = "x" }), false},
		"with a secret":         {node("a"), mirror(func(p *corev1.Pod) { p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "s"}} }), false},
		"not asked for by node": {jane, mirror(func(p *corev1.Pod) { p.Annotations = nil }), true},
	} {
		if err := CheckMirror(tc.user, tc.pod); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if CheckNode(node("a"), "a") != nil || CheckNode(node("a"), "b") == nil || CheckNode(jane, "b") != nil {
		t.Error("a node writes its own Node and no other")
	}
}
