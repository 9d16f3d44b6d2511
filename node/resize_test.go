package node

import (
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/node/runtime"
	"shoal/node/runtime/fake"
)

// needs makes a pod's container ask for and be limited to that.
func needs(cpu, memory string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		r := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: r, Limits: r.DeepCopy()}
	}
}

// resized asks for other resources.
func (w *world) resized(name, cpu, memory string) {
	w.t.Helper()
	p := w.get(name).DeepCopy()
	needs(cpu, memory)(p)
	if _, err := w.api.Update(w.t.Context(), api.Pods, p, client.UpdateOptions{Subresource: "resize"}); err != nil {
		w.t.Fatal(err)
	}
	w.settle()
}

// wantSize demands what a pod's one container has, and that this is its run of that number.
func (w *world) wantSize(name, cpu, memory string, restarts int32) {
	w.t.Helper()
	p := w.wantRunning(name)
	c, quantity := p.Status.ContainerStatuses[0], resource.MustParse
	q, m := quantity(cpu), quantity(memory)
	for what, list := range map[string]corev1.ResourceList{"allocated": c.AllocatedResources, "requests": c.Resources.Requests, "limits": c.Resources.Limits} {
		if list.Cpu().Cmp(q) != 0 || list.Memory().Cmp(m) != 0 {
			w.t.Errorf("%s: %s is %v, want %s, %s", name, what, list, cpu, memory)
		}
	}
	if c.RestartCount != restarts {
		w.t.Errorf("%s: %d restarts, want %d", name, c.RestartCount, restarts)
	}
	for _, held := range w.held() {
		if held.Name != name {
			continue
		}
		has := held.Containers[0].Resources
		if has.MemoryBytes != m.Value() || has.CPUQuota != q.MilliValue()*100 {
			w.t.Errorf("%s: its container has %+v, want %s, %s", name, has, cpu, memory)
		}
	}
}

func (w *world) wantCondition(name string, t corev1.PodConditionType, reason string) {
	w.t.Helper()
	c := api.PodCondition(w.get(name), t)
	if got := c; (got == nil) != (reason == "") || got != nil && got.Reason != reason {
		w.t.Errorf("%s: %s is %+v, want %q", name, t, c, reason)
	}
}

// sized is a world of a machine with 4 CPUs and 4 GiB.
func sized(w *world) {
	w.halt()
	w.config = func(c *Config) {
		c.Machine.Capacity = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("4Gi")}
	}
	w.start()
}

func TestARunningPodIsResized(t *testing.T) {
	inWorld(t, func(w *world) {
		sized(w)
		p := w.pod("a", needs("1", "1Gi"))
		w.settle()
		w.wantSize("a", "1", "1Gi", 0)
		w.resized("a", "2", "512Mi")
		w.wantSize("a", "2", "512Mi", 0)
		if got := w.runtime.Resources(p.UID); got.CPUQuota != 200_000 || got.MemoryBytes != 512<<20 {
			t.Errorf("the pod's cgroup has %+v", got)
		}
		if got := w.get("a"); got.Status.ObservedGeneration != 2 {
			t.Errorf("generation %d was observed, want 2", got.Status.ObservedGeneration)
		}
		w.wantCondition("a", corev1.PodResizePending, "")
		w.wantCondition("a", corev1.PodResizeInProgress, "")
		t.Log("the next life of the node changes nothing")
		w.halt()
		w.start()
		w.wantSize("a", "2", "512Mi", 0)
	})
}

func TestAResizeWaitsForRoom(t *testing.T) {
	inWorld(t, func(w *world) {
		sized(w)
		w.pod("a", needs("1", "1Gi"))
		w.pod("b", needs("2", "1Gi"))
		w.settle()
		w.resized("a", "3", "1Gi")
		w.wantSize("a", "1", "1Gi", 0)
		w.wantCondition("a", corev1.PodResizePending, corev1.PodReasonDeferred)
		w.resized("a", "5", "1Gi")
		w.wantCondition("a", corev1.PodResizePending, corev1.PodReasonInfeasible)
		w.wantSize("a", "1", "1Gi", 0)
		w.resized("a", "3", "1Gi")
		w.wantCondition("a", corev1.PodResizePending, corev1.PodReasonDeferred)
		t.Log("what is not there yet is not forgotten by the next life")
		w.halt()
		w.start()
		w.wantSize("a", "1", "1Gi", 0)
		w.wantCondition("a", corev1.PodResizePending, corev1.PodReasonDeferred)
		t.Log("a smaller neighbour makes room")
		w.resized("b", "1", "1Gi")
		w.wantSize("a", "3", "1Gi", 0)
		w.wantCondition("a", corev1.PodResizePending, "")
		t.Log("and so does one that goes")
		w.resized("b", "2", "1Gi")
		w.wantCondition("b", corev1.PodResizePending, corev1.PodReasonDeferred)
		w.delete("a", 0)
		w.settle()
		w.wantSize("b", "2", "1Gi", 0)
		t.Log("nobody gets what is set aside")
		w.pod("c", needs("3", "1Gi"))
		w.settle()
		if p := w.get("c"); p.Status.Reason != "OutOfcpu" {
			t.Errorf("%s", brief(p))
		}
	})
}

func TestAContainerMayWantToBeRestartedForItsResources(t *testing.T) {
	inWorld(t, func(w *world) {
		w.pod("a", func(p *corev1.Pod) {
			needs("1", "1Gi")(p)
			p.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{
				{ResourceName: corev1.ResourceCPU, RestartPolicy: corev1.NotRequired}, {ResourceName: corev1.ResourceMemory, RestartPolicy: corev1.RestartContainer},
			}
		})
		w.settle()
		w.resized("a", "2", "1Gi")
		w.wantSize("a", "2", "1Gi", 0)
		w.resized("a", "2", "2Gi")
		w.wantSize("a", "2", "2Gi", 1)
	})
}

func TestAResizeThatFailsIsSaidAndTriedAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		w.pod("a", needs("1", "1Gi"))
		w.settle()
		for range 12 {
			w.runtime.Fail(fake.Resize, errors.New("uses too much"))
		}
		w.resized("a", "1", "512Mi")
		w.wantCondition("a", corev1.PodResizeInProgress, corev1.PodReasonError)
		p := w.wantRunning("a")
		if c := p.Status.ContainerStatuses[0]; c.AllocatedResources.Memory().Value() != 512<<20 || c.Resources.Limits.Memory().Value() != 1<<30 {
			t.Errorf("allocated %v, has %+v", c.AllocatedResources, c.Resources)
		}
		t.Log("whoever takes it back sees nothing of it")
		w.resized("a", "1", "1Gi")
		w.wantCondition("a", corev1.PodResizeInProgress, "")
		w.wantSize("a", "1", "1Gi", 0)
		w.resized("a", "1", "512Mi")
		w.wantCondition("a", corev1.PodResizeInProgress, corev1.PodReasonError)
		w.pass(backoffMost)
		w.wantSize("a", "1", "512Mi", 0)
		w.wantCondition("a", corev1.PodResizeInProgress, "")
	})
}

func TestContainersOfAnEarlierReleaseAreLeftAloneUntilResized(t *testing.T) {
	p := newPod("a")
	needs("1", "1Gi")(p)
	r := run("c", 0, -1)
	r.Resources = runtime.Resources{}
	for generation, want := range map[int64]verb{0: wait, 1: wait, 2: resize} {
		p.Generation = generation
		o := up(r)
		if got := o.refit(p, at(20)); got.verb != want {
			t.Errorf("generation %d: %s, want %s", generation, got.verb, want)
		}
	}
}
