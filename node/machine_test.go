package node

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestWhatIsReservedIsNotForPods(t *testing.T) {
	inWorld(t, func(w *world) {
		w.halt()
		w.config = func(c *Config) {
			c.Machine.Capacity = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("4Gi")}
			c.Machine.Reserved = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1500m"), corev1.ResourceMemory: resource.MustParse("5Gi")}
		}
		w.start()
		s := w.self().Status
		if s.Capacity.Cpu().String() != "4" || s.Allocatable.Cpu().String() != "2500m" || s.Allocatable.Memory().Sign() != 0 || s.Allocatable.Pods().Value() != maxPods {
			t.Errorf("capacity %v, allocatable %v", s.Capacity, s.Allocatable)
		}
		for name, cpu := range map[string]string{"fits": "2500m", "none": "2501m"} {
			w.pod(name, func(p *corev1.Pod) {
				p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
			})
			w.settle()
			if got := w.get(name); (got.Status.Reason == "OutOfcpu") != (name == "none") {
				t.Errorf("%s: %s", name, brief(got))
			}
			w.delete(name, 0)
			w.settle()
		}
	})
}
