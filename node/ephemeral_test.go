package node

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"shoal/node/runtime"
)

// peeked is a pod whose container "c" never starts again, and that somebody looks into with "peek".
func peeked(target string) *corev1.Pod {
	p := newPod("a")
	p.Spec.RestartPolicy = corev1.RestartPolicyAlways
	p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "app"}}
	p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{
		EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "peek", Image: "app"}, TargetContainerName: target,
	}}
	return p
}

func TestEphemeralContainersStartOnceWhateverBecomesOfTheOthers(t *testing.T) {
	for name, c := range map[string]struct {
		target string
		runs   []runtime.Container
		want   action
	}{
		"before the init containers":        {"", nil, action{verb: start, name: "peek"}},
		"once its target runs":              {"c", []runtime.Container{run("c", 0, -1)}, action{verb: start, name: "peek"}},
		"not before its target":             {"c", nil, action{verb: start, name: "i"}},
		"only once, although others do so":  {"", []runtime.Container{run("peek", 0, 1)}, action{verb: start, name: "i"}},
		"and it holds nothing up meanwhile": {"", []runtime.Container{run("peek", 0, -1)}, action{verb: start, name: "i"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := step(desired{pod: peeked(c.target)}, up(c.runs...), at(20))
			if got.verb != c.want.verb || got.name != c.want.name || got.attempt != 0 {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestAPodEndsWithoutItsEphemeralContainers(t *testing.T) {
	p := peeked("")
	p.Spec.RestartPolicy, p.Spec.InitContainers = corev1.RestartPolicyNever, nil
	got := step(desired{pod: p}, up(run("c", 0, 0), run("peek", 0, -1)), at(20))
	if got.verb != stop || len(got.runs) != 1 || got.runs[0].Name != "peek" {
		t.Errorf("%+v", got)
	}
}

func TestStatusOfEphemeralContainers(t *testing.T) {
	p := peeked("")
	for name, c := range map[string]struct {
		runs  []runtime.Container
		right func(corev1.ContainerState) bool
	}{
		"none":    {nil, func(s corev1.ContainerState) bool { return s.Waiting != nil && s.Waiting.Reason == "ContainerCreating" }},
		"running": {[]runtime.Container{run("peek", 0, -1)}, func(s corev1.ContainerState) bool { return s.Running != nil }},
		"ended": {[]runtime.Container{run("peek", 0, 3)}, func(s corev1.ContainerState) bool {
			return s.Terminated != nil && s.Terminated.ExitCode == 3
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := status(desired{pod: p}, up(c.runs...), nil, host{}, at(20))
			if len(s.EphemeralContainerStatuses) != 1 {
				t.Fatalf("%+v", s.EphemeralContainerStatuses)
			}
			if cs := s.EphemeralContainerStatuses[0]; cs.Name != "peek" || cs.Ready || !c.right(cs.State) {
				t.Errorf("%+v", cs)
			}
			if s.Phase != corev1.PodPending {
				t.Errorf("phase %s", s.Phase)
			}
		})
	}
}
