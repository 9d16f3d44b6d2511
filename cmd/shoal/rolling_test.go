package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
)

func rolledRC(u *api.RollingUpdate) *corev1.ReplicationController {
	rc := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "web"}}
	rc.Spec.Replicas = new(int32(3))
	rc.Spec.Template = &corev1.PodTemplateSpec{}
	rc.Spec.Template.Annotations = map[string]string{api.VersionAnnotation: "2"}
	if u != nil {
		text, _ := json.Marshal(u)
		rc.Annotations = map[string]string{api.RollingUpdateAnnotation: string(text)}
	}
	return rc
}

func podOf(rc, version string, ready bool, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: rc + "-x", Annotations: map[string]string{api.VersionAnnotation: version},
		OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicationController", Name: rc, UID: types.UID(rc), Controller: new(true)}},
	}}
	if ready {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func TestHowFarARollingUpdateIs(t *testing.T) {
	pulling := func(p *corev1.Pod) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}}}
	}
	for _, c := range []struct {
		name      string
		rc        *corev1.ReplicationController
		fromThere bool
		pods      []*corev1.Pod
		want      string
		done      bool
	}{
		{"none", rolledRC(nil), false, nil, "it is no longer rolled", true},
		{
			"half-way", rolledRC(&api.RollingUpdate{Surge: 1}), false,
			[]*corev1.Pod{podOf("web", "1", true), podOf("web", "1", true), podOf("web", "2", true), podOf("web", "2", false, pulling)},
			"2 of 3 pods are new, 1 of them ready, 2 old ones are there; web-x: ImagePullBackOff", false,
		},
		{
			"paused", rolledRC(&api.RollingUpdate{Surge: 1, Paused: true}), false,
			[]*corev1.Pod{podOf("web", "1", true)},
			"0 of 3 pods are new, 0 of them ready, 1 old ones are there; it is paused", false,
		},
		{
			"done", rolledRC(&api.RollingUpdate{Surge: 1}), false,
			[]*corev1.Pod{podOf("web", "2", true), podOf("web", "2", true), podOf("web", "2", true), podOf("other", "1", true)},
			"done, all 3 pods are new", true,
		},
		{
			"from another that is still there", rolledRC(&api.RollingUpdate{Surge: 1, From: "old", Replicas: 2}), true,
			[]*corev1.Pod{podOf("web", "2", true), podOf("web", "2", true)},
			"2 of 2 pods are new, 2 of them ready, 0 old ones are there", false,
		},
		{
			"from another that is gone", rolledRC(&api.RollingUpdate{Surge: 1, From: "old", Replicas: 2}), false,
			[]*corev1.Pod{podOf("web", "2", true), podOf("web", "2", true)},
			"done, all 2 pods are new", true,
		},
	} {
		if got, done := rollingProgress(c.rc, c.fromThere, c.pods); got != c.want || done != c.done {
			t.Errorf("%s: %q, %t; want %q, %t", c.name, got, done, c.want, c.done)
		}
	}
}

func TestWhichContainerGetsTheImage(t *testing.T) {
	for _, c := range []struct{ containers, container, want string }{
		{"main", "", "main=new"},
		{"main,side", "", "say with --container which of [main side]"},
		{"main,side", "side", "main=old,side=new"},
		{"main", "other", "its pods have only [main]"},
	} {
		template := &corev1.PodTemplateSpec{}
		for name := range strings.SplitSeq(c.containers, ",") {
			template.Spec.Containers = append(template.Spec.Containers, corev1.Container{Name: name, Image: "old"})
		}
		r := rollingUpdate{rollingUpdateCmd: rollingUpdateCmd{Image: "new", Container: c.container}}
		got := ""
		if err := r.setImage(template); err != nil {
			got = err.Error()
		} else {
			var images []string
			for _, ct := range template.Spec.Containers {
				images = append(images, fmt.Sprint(ct.Name, "=", ct.Image))
			}
			got = strings.Join(images, ",")
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.containers, got, c.want)
		}
	}
}
