package node

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"shoal/node/runtime"
)

func TestRunAsNonRoot(t *testing.T) {
	yes, root, other := true, int64(0), int64(1000)
	for _, c := range []struct {
		image string
		pod   corev1.PodSecurityContext
		own   corev1.SecurityContext
		want  string // of the error; none when empty
	}{
		{image: "", want: ""},
		{image: "", pod: corev1.PodSecurityContext{RunAsNonRoot: &yes}, want: "image will run as root"},
		{image: "root", own: corev1.SecurityContext{RunAsNonRoot: &yes}, want: "image will run as root"},
		{image: "0", own: corev1.SecurityContext{RunAsNonRoot: &yes}, want: "image will run as root"},
		{image: "0:999", own: corev1.SecurityContext{RunAsNonRoot: &yes}, want: "image will run as root"},
		{image: "00:999", own: corev1.SecurityContext{RunAsNonRoot: &yes}, want: "image will run as root"},
		{image: ":999", own: corev1.SecurityContext{RunAsNonRoot: &yes}, want: "image will run as root"},
		{image: "root:999", own: corev1.SecurityContext{RunAsNonRoot: &yes}, want: "image will run as root"},
		{image: "999", own: corev1.SecurityContext{RunAsNonRoot: &yes}},
		{image: "999:999", own: corev1.SecurityContext{RunAsNonRoot: &yes}},
		{image: "999:web", own: corev1.SecurityContext{RunAsNonRoot: &yes}},
		{image: "web:999", own: corev1.SecurityContext{RunAsNonRoot: &yes}, want: "non-numeric user (web)"},
		{image: "web", own: corev1.SecurityContext{RunAsNonRoot: &yes, RunAsUser: &other}},
		{image: "999", own: corev1.SecurityContext{RunAsNonRoot: &yes, RunAsUser: &root}, want: "runAsUser breaks"},
		{image: "999", pod: corev1.PodSecurityContext{RunAsNonRoot: &yes, RunAsUser: &root}, own: corev1.SecurityContext{RunAsUser: &other}},
	} {
		p := &corev1.Pod{Spec: corev1.PodSpec{SecurityContext: &c.pod}}
		err := refusesRoot(p, &corev1.Container{SecurityContext: &c.own}, runtime.Image{User: c.image})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("image of %q, pod %+v, container %+v: %v, want %q", c.image, c.pod, c.own, err, c.want)
		}
	}
}
