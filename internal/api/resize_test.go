package api

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// asks returns what a container asks for: requests and limits, each as CPU, memory.
func asks(quantities ...string) corev1.ResourceRequirements {
	list := func(q []string) corev1.ResourceList {
		out := corev1.ResourceList{}
		for i, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			if i < len(q) && q[i] != "" {
				out[name] = resource.MustParse(q[i])
			}
		}
		return out
	}
	return corev1.ResourceRequirements{Requests: list(quantities[:min(2, len(quantities))]), Limits: list(quantities[min(2, len(quantities)):])}
}

// asking is a pod of containers that ask for that.
func asking(all ...corev1.ResourceRequirements) *corev1.Pod {
	p := &corev1.Pod{}
	for i, r := range all {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: string(rune('a' + i)), Image: "i", Resources: r})
	}
	return p
}

func TestResizeMayChangeWhatIsAskedForAndNothingElse(t *testing.T) {
	small := asking(asks("1", "1Gi", "2", "2Gi"))
	for name, c := range map[string]struct {
		old    *corev1.Pod
		change func(*corev1.Pod)
		want   []string
	}{
		"nothing":             {small, func(*corev1.Pod) {}, nil},
		"more":                {small, func(p *corev1.Pod) { p.Spec.Containers[0].Resources = asks("2", "2Gi", "4", "4Gi") }, nil},
		"less":                {small, func(p *corev1.Pod) { p.Spec.Containers[0].Resources = asks("100m", "1Mi", "1", "1Gi") }, nil},
		"more than the limit": {small, func(p *corev1.Pod) { p.Spec.Containers[0].Resources = asks("3", "1Gi", "2", "2Gi") }, []string{"spec.containers[0].resources.requests"}},
		"another class":       {small, func(p *corev1.Pod) { p.Spec.Containers[0].Resources = asks("2", "2Gi", "2", "2Gi") }, []string{"spec"}},
		"out of nothing":      {asking(asks()), func(p *corev1.Pod) { p.Spec.Containers[0].Resources = asks("1") }, []string{"spec"}},
		"one asks no more": {
			asking(asks("1"), asks("1")), func(p *corev1.Pod) { p.Spec.Containers[0].Resources = asks() },
			[]string{"spec.containers[0].resources.requests"},
		},
		"one is limited no more": {
			asking(asks("1", "", "2"), asks("1")), func(p *corev1.Pod) { p.Spec.Containers[0].Resources = asks("1") },
			[]string{"spec.containers[0].resources.limits"},
		},
		"disk": {small, func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests[corev1.ResourceEphemeralStorage] = resource.MustParse("1Gi")
		}, []string{"spec"}},
		"the policy": {small, func(p *corev1.Pod) {
			p.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceCPU, RestartPolicy: corev1.RestartContainer}}
		}, []string{"spec"}},
		"one more":                   {small, func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, p.Spec.Containers[0]) }, []string{"spec.containers"}},
		"another name":               {small, func(p *corev1.Pod) { p.Spec.Containers[0].Name = "z" }, []string{"spec.containers[0].name"}},
		"the image is not looked at": {small, func(p *corev1.Pod) { p.Spec.Containers[0].Image = "other" }, nil},
		"the pod as a whole":         {small, func(p *corev1.Pod) { r := asks("1", "1Gi", "3", "3Gi"); p.Spec.Resources = &r }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			given := c.old.DeepCopy()
			c.change(given)
			updated := c.old.DeepCopy()
			copyResources(updated, given)
			if updated.Spec.Containers[0].Image != "i" {
				t.Error("the image was changed")
			}
			var got []string
			for _, err := range validateResize(updated, c.old) {
				got = append(got, err.Field)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
	mirror := small.DeepCopy()
	mirror.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	if len(validateResize(mirror, mirror)) != 1 {
		t.Error("a static pod was resized")
	}
	old := small.DeepCopy()
	old.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "a", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	if len(validateResize(old, old)) != 1 {
		t.Error("a pod of a machine that cannot do it was resized")
	}
}

func TestAPodReservesWhatItHasUntilItIsResized(t *testing.T) {
	has := func(p *corev1.Pod, reason string, all ...corev1.ResourceRequirements) *corev1.Pod {
		for i, r := range all {
			p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: string(rune('a' + i)), AllocatedResources: r.Requests})
		}
		if reason != "" {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: reason}}
		}
		return p
	}
	for name, c := range map[string]struct {
		pod         *corev1.Pod
		cpu, memory string
	}{
		"nobody said":         {asking(asks("1", "1Gi")), "1", "1Gi"},
		"as asked":            {has(asking(asks("1", "1Gi")), "", asks("1", "1Gi")), "1", "1Gi"},
		"to be more":          {has(asking(asks("2", "1Gi")), "", asks("1", "2Gi")), "2", "2Gi"},
		"to be more, one day": {has(asking(asks("2", "1Gi")), corev1.PodReasonDeferred, asks("1", "2Gi")), "2", "2Gi"},
		"never":               {has(asking(asks("200", "1Gi"), asks("1")), corev1.PodReasonInfeasible, asks("1", "2Gi"), asks("1")), "2", "2Gi"},
	} {
		t.Run(name, func(t *testing.T) {
			got := PodReserves(c.pod)
			if got.Cpu().Cmp(resource.MustParse(c.cpu)) != 0 || got.Memory().Cmp(resource.MustParse(c.memory)) != 0 {
				t.Errorf("%v, want %s, %s", got, c.cpu, c.memory)
			}
		})
	}
}
