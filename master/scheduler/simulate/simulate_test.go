package simulate

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func node(name, zone string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name, corev1.LabelTopologyZone: zone}}}
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("10"),
	}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	return n
}

func pod(name, on, owner string, priority int32) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}}
	p.Spec.NodeName, p.Spec.Priority = on, &priority
	p.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}}}}
	if owner != "" {
		p.OwnerReferences = []metav1.OwnerReference{{Kind: owner, Name: "owner", UID: "owner", Controller: new(true)}}
	}
	return p
}

func cluster() Objects {
	return Objects{
		Nodes: []*corev1.Node{node("a1", "a"), node("b1", "b"), node("b2", "b")},
		Pods: []*corev1.Pod{
			pod("web-1", "a1", "ReplicationController", 0), pod("web-2", "b1", "ReplicationController", 0), pod("low", "b2", "ReplicationController", -10),
			pod("daemon", "a1", "DaemonSet", 0), pod("bare", "b1", "", 0),
		},
	}
}

func tell(list []Placed) string {
	var out []string
	for _, p := range list {
		out = append(out, fmt.Sprintf("%s %s>%s %s", strings.TrimPrefix(p.Pod, "default/"), p.From, p.To, p.Why))
	}
	return strings.Join(out, "; ")
}

func TestLosingAZone(t *testing.T) {
	out := New(cluster()).Lose(func(n *corev1.Node) bool { return n.Labels[corev1.LabelTopologyZone] == "a" })
	if strings.Join(out.Lost, ",") != "a1" || tell(out.Placed) != "web-1 a1>b2 " || len(out.Stuck) != 0 ||
		tell(out.Gone) != "daemon a1> its DaemonSet runs one on each node" {
		t.Errorf("%+v", out)
	}
	out = New(cluster()).Lose(func(n *corev1.Node) bool { return n.Labels[corev1.LabelTopologyZone] == "b" })
	if tell(out.Placed) != "" || !strings.Contains(tell(out.Stuck), "0/1 nodes are available: 1 Insufficient cpu.") || len(out.Stuck) != 2 ||
		tell(out.Gone) != "bare b1> it has no controller that would make another one" {
		t.Errorf("%+v", out)
	}
}

func TestWhatFits(t *testing.T) {
	pods := []*corev1.Pod{pod("more-1", "", "Job", 0), pod("more-2", "", "Job", 0)}
	out := New(cluster()).Fit(pods)
	if tell(out.Placed) != "more-1 >b2 ; more-2 >b2 in the place of default/low" || tell(out.Stuck) != "low b2> 0/3 nodes are available: 3 Insufficient cpu." {
		t.Errorf("placed %s\nstuck %s", tell(out.Placed), tell(out.Stuck))
	}
}

func TestWhyLeavesThePictureAsItIs(t *testing.T) {
	o := cluster()
	p := New(o)
	before := fmt.Sprint(p.Why(pod("new", "", "Job", 0)))
	for _, v := range p.Why(o.Pods[0]) {
		if len(v.Objections) > 0 && v.Node == "a1" {
			t.Errorf("where it is now it does not fit: %v", v)
		}
	}
	if after := fmt.Sprint(p.Why(pod("new", "", "Job", 0))); after != before {
		t.Errorf("before %s\nafter %s", before, after)
	}
}
