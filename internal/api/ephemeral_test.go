package api

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestEphemeralContainersMayOnlyBeAdded(t *testing.T) {
	e := func(name, target string, change ...func(*corev1.EphemeralContainer)) corev1.EphemeralContainer {
		c := corev1.EphemeralContainer{TargetContainerName: target, EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name: name, Image: "i", ImagePullPolicy: corev1.PullAlways, TerminationMessagePolicy: corev1.TerminationMessageReadFile,
		}}
		for _, f := range change {
			f(&c)
		}
		return c
	}
	pod := func(list ...corev1.EphemeralContainer) *corev1.Pod {
		return &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "i"}}, EphemeralContainers: list}}
	}
	for name, c := range map[string]struct {
		old, updated *corev1.Pod
		want         []string
	}{
		"the first":        {pod(), pod(e("a", "main")), nil},
		"one more":         {pod(e("a", "")), pod(e("a", ""), e("b", "")), nil},
		"none":             {pod(e("a", "")), pod(e("a", "")), nil},
		"one taken away":   {pod(e("a", ""), e("b", "")), pod(e("b", "")), []string{"spec.ephemeralContainers"}},
		"one changed":      {pod(e("a", "")), pod(e("a", "main")), []string{"spec.ephemeralContainers[0]"}},
		"another's name":   {pod(), pod(e("main", "")), []string{"spec.ephemeralContainers[0].name"}},
		"no such target":   {pod(), pod(e("a", "none")), []string{"spec.ephemeralContainers[0].targetContainerName"}},
		"a name and image": {pod(), pod(e("", "", func(c *corev1.EphemeralContainer) { c.Image = "" })), []string{"spec.ephemeralContainers[0].name", "spec.ephemeralContainers[0].image"}},
		"what only others have": {pod(), pod(e("a", "", func(c *corev1.EphemeralContainer) {
			c.Ports = []corev1.ContainerPort{{ContainerPort: 80, Protocol: corev1.ProtocolTCP}}
			c.LivenessProbe, c.Lifecycle = &corev1.Probe{}, &corev1.Lifecycle{}
		})), []string{"spec.ephemeralContainers[0].ports", "spec.ephemeralContainers[0].livenessProbe", "spec.ephemeralContainers[0].lifecycle"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, err := range validateEphemeralUpdate(c.updated, c.old) {
				got = append(got, err.Field)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
