package clienttest

import (
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

func subresourceLaws() []law {
	return []law{
		{"AnUpdateLeavesTheStatus", updateLeavesStatus},
		{"AStatusUpdateLeavesTheSpec", statusLeavesSpec},
		{"AStatusUpdateWithAnOldRevisionIsConflict", statusStale},
		{"ScaleReadsAndWritesReplicas", scale},
		{"ScaleWithAnOldRevisionIsConflict", scaleStale},
		{"BindingGivesAPodItsNodeOnce", binding},
		{"BindingOfAMissingPodIsNotFound", bindingMissing},
	}
}

func updateLeavesStatus(e *env) {
	p := create(e, api.Pods, e.pod("a"))
	p.Status.Message = "by the way"
	p.Labels = map[string]string{"new": "label"}
	if p = update(e, api.Pods, p, ""); p.Status.Message != "" || p.Labels["new"] != "label" {
		e.Fatalf("status %q, labels %v", p.Status.Message, p.Labels)
	}
}

func statusLeavesSpec(e *env) {
	p := create(e, api.Pods, e.pod("a"))
	p.Status.Message = "said properly"
	p.Spec.Containers[0].Image = "example.org/other:2"
	p = update(e, api.Pods, p, "status")
	if p.Status.Message != "said properly" || p.Spec.Containers[0].Image != "example.org/main:1" {
		e.Fatalf("status %q, image %s", p.Status.Message, p.Spec.Containers[0].Image)
	}
	if got := get[*corev1.Pod](e, api.Pods, "a"); !same(p, got) {
		e.Fatalf("wrote %+v\ngot   %+v", p, got)
	}
}

func statusStale(e *env) {
	p := create(e, api.Pods, e.pod("a"))
	first, second := p.DeepCopy(), p.DeepCopy()
	first.Status.Message, second.Status.Message = "first", "second"
	update(e, api.Pods, first, "status")
	_, err := e.c.Update(e.ctx, api.Pods, second, client.UpdateOptions{Subresource: "status"})
	e.wantReason(err, metav1.StatusReasonConflict)
}

func (e *env) scale(name string) *autoscalingv1.Scale {
	e.Helper()
	out, err := e.c.Get(e.ctx, api.ReplicationControllers, e.key(name), client.GetOptions{Subresource: "scale"})
	return must[*autoscalingv1.Scale](e, out, err)
}

func scale(e *env) {
	rc := e.controller("a")
	rc.Spec.Replicas = new(int32(2))
	rc.Spec.Template.Spec.SchedulerName = "nobody"
	create(e, api.ReplicationControllers, rc)
	s := e.scale("a")
	if s.Spec.Replicas != 2 || s.Name != "a" || s.Status.Selector != "app=a" {
		e.Fatalf("scale is %+v", s)
	}
	s.Spec.Replicas, s.ResourceVersion = 0, ""
	out, err := e.c.Update(e.ctx, api.ReplicationControllers, s, client.UpdateOptions{Subresource: "scale", Key: e.key("a")})
	if got := must[*autoscalingv1.Scale](e, out, err); got.Spec.Replicas != 0 {
		e.Fatalf("scaled to %d", got.Spec.Replicas)
	}
	if rc = get[*corev1.ReplicationController](e, api.ReplicationControllers, "a"); *rc.Spec.Replicas != 0 || rc.Generation != 2 {
		e.Fatalf("replicas %d, generation %d", *rc.Spec.Replicas, rc.Generation)
	}
}

func scaleStale(e *env) {
	create(e, api.ReplicationControllers, e.controller("a"))
	s := e.scale("a")
	s.ResourceVersion = "1"
	s.Spec.Replicas = 1
	_, err := e.c.Update(e.ctx, api.ReplicationControllers, s, client.UpdateOptions{Subresource: "scale", Key: e.key("a")})
	e.wantReason(err, metav1.StatusReasonConflict)
}

func (e *env) bind(pod, node string) error {
	_, err := e.c.Create(e.ctx, api.Pods, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: pod},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}, client.CreateOptions{Subresource: "binding", Key: e.key(pod)})
	return err
}

func binding(e *env) {
	create(e, api.Pods, e.pod("a"))
	if err := e.bind("a", "law-node"); err != nil {
		e.Fatal(err)
	}
	p := get[*corev1.Pod](e, api.Pods, "a")
	if c := api.PodCondition(p, corev1.PodScheduled); p.Spec.NodeName != "law-node" || c == nil || c.Status != corev1.ConditionTrue {
		e.Fatalf("node %q, conditions %v", p.Spec.NodeName, p.Status.Conditions)
	}
	e.wantReason(e.bind("a", "other-node"), metav1.StatusReasonConflict)
	if p = get[*corev1.Pod](e, api.Pods, "a"); p.Spec.NodeName != "law-node" {
		e.Fatalf("moved to %q", p.Spec.NodeName)
	}
	e.forcePodGone("a")
}

func bindingMissing(e *env) {
	e.wantReason(e.bind("none", "law-node"), metav1.StatusReasonNotFound)
}
