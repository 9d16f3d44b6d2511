package placement

import (
	"math/rand/v2"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// node is a ready Node of 4 CPUs, 8 GiB and 10 pods, changed by all of f.
func node(name string, f ...func(*corev1.Node)) *corev1.Node {
	o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
	o.Status.Allocatable = resources("4", "8Gi")
	o.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("10")
	o.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	for _, change := range f {
		change(o)
	}
	return o
}

// cluster has the nodes.
func cluster(nodes ...*corev1.Node) *Cluster {
	c := NewCluster(rand.New(rand.NewPCG(1, 2)))
	for _, n := range nodes {
		c.SetNode(n)
	}
	return c
}

func resources(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

// pod asks for 1 CPU and 1 GiB, changed by all of f.
func pod(name string, f ...func(*corev1.Pod)) *Pod {
	o := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: resources("1", "1Gi")}}}},
	}
	for _, change := range f {
		change(o)
	}
	return NewPod(o, "")
}

func request(name corev1.ResourceName, q string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests[name] = resource.MustParse(q) }
}

func hostPorts(ports ...corev1.ContainerPort) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Ports = ports }
}

func required(terms ...corev1.NodeSelectorTerm) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: terms},
		}}
	}
}

func expression(key string, op corev1.NodeSelectorOperator, values ...string) corev1.NodeSelectorTerm {
	return corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: op, Values: values}}}
}

func taint(key, value string, effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Value: value, Effect: effect})
	}
}

func tolerate(t corev1.Toleration) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Tolerations = append(p.Spec.Tolerations, t) }
}

func label(key, value string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels[key] = value }
}

// some is f, unless it is nil.
func some[T any](f func(T)) []func(T) {
	if f == nil {
		return nil
	}
	return []func(T){f}
}

func TestObjections(t *testing.T) {
	const (
		selector = "node(s) didn't match Pod's node affinity/selector"
		noPort   = "node(s) didn't have free ports for the requested pod ports"
	)
	port := func(ip string, protocol corev1.Protocol, n int32) corev1.ContainerPort {
		return corev1.ContainerPort{HostIP: ip, Protocol: protocol, HostPort: n}
	}
	unschedulable := func(n *corev1.Node) { n.Spec.Unschedulable = true }
	notReady := func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse }
	for _, c := range []struct {
		name string
		node func(*corev1.Node)
		on   []*Pod // already there
		pod  func(*corev1.Pod)
		want string
	}{
		{name: "fits"},
		{name: "too much cpu", pod: request(corev1.ResourceCPU, "4001m"), want: "Insufficient cpu"},
		{name: "exactly all cpu", pod: request(corev1.ResourceCPU, "4")},
		{name: "too much memory", pod: request(corev1.ResourceMemory, "9Gi"), want: "Insufficient memory"},
		{name: "too much of two", pod: func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = resources("5", "9Gi") }, want: "Insufficient cpu,Insufficient memory"},
		{name: "others took it", on: []*Pod{pod("a", request(corev1.ResourceCPU, "3500m"))}, want: "Insufficient cpu"},
		{name: "asks for nothing on a full node", on: []*Pod{pod("a", request(corev1.ResourceCPU, "4"))}, pod: func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = nil }},
		{name: "unknown resource", pod: request("example.org/gpu", "1"), want: "Insufficient example.org/gpu"},
		{name: "known resource", node: func(n *corev1.Node) { n.Status.Allocatable["example.org/gpu"] = resource.MustParse("1") }, pod: request("example.org/gpu", "1")},
		{name: "too many pods", node: func(n *corev1.Node) { n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("1") }, on: []*Pod{pod("a")}, want: "Too many pods"},
		{name: "the biggest init container counts", pod: func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: resources("5", "1Gi")}}}
		}, want: "Insufficient cpu"},

		{name: "cordoned", node: unschedulable, want: "node(s) were unschedulable"},
		{name: "cordoned and tolerated", node: unschedulable, pod: tolerate(corev1.Toleration{Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists})},
		{name: "not ready", node: notReady, want: "node(s) had untolerated taint {node.kubernetes.io/not-ready: }"},
		{name: "not ready and tolerated", node: notReady, pod: tolerate(corev1.Toleration{Operator: corev1.TolerationOpExists})},

		{name: "taint", node: taint("team", "a", corev1.TaintEffectNoSchedule), want: "node(s) had untolerated taint {team: a}"},
		{name: "taint NoExecute", node: taint("team", "a", corev1.TaintEffectNoExecute), want: "node(s) had untolerated taint {team: a}"},
		{name: "taint only preferred", node: taint("team", "a", corev1.TaintEffectPreferNoSchedule)},
		{name: "taint tolerated by value", node: taint("team", "a", corev1.TaintEffectNoSchedule), pod: tolerate(corev1.Toleration{Key: "team", Value: "a"})},
		{name: "taint of another value", node: taint("team", "a", corev1.TaintEffectNoSchedule), pod: tolerate(corev1.Toleration{Key: "team", Value: "b"}), want: "node(s) had untolerated taint {team: a}"},
		{name: "taint of another effect", node: taint("team", "a", corev1.TaintEffectNoSchedule), pod: tolerate(corev1.Toleration{Key: "team", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}), want: "node(s) had untolerated taint {team: a}"},

		{name: "selector matches", node: label("disk", "fast"), pod: func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "fast"} }},
		{name: "selector does not", pod: func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "fast"} }, want: selector},
		{name: "affinity In", node: label("disk", "fast"), pod: required(expression("disk", corev1.NodeSelectorOpIn, "fast", "new"))},
		{name: "affinity one of two terms", node: label("disk", "fast"), pod: required(expression("disk", corev1.NodeSelectorOpIn, "slow"), expression("disk", corev1.NodeSelectorOpExists))},
		{name: "affinity NotIn", node: label("disk", "fast"), pod: required(expression("disk", corev1.NodeSelectorOpNotIn, "fast")), want: selector},
		{name: "affinity Gt", node: label("cores", "8"), pod: required(expression("cores", corev1.NodeSelectorOpGt, "4"))},
		{name: "affinity Lt", node: label("cores", "8"), pod: required(expression("cores", corev1.NodeSelectorOpLt, "4")), want: selector},
		{name: "affinity DoesNotExist", pod: required(expression("disk", corev1.NodeSelectorOpDoesNotExist))},
		{name: "an empty term matches nothing", pod: required(corev1.NodeSelectorTerm{}), want: selector},
		{name: "affinity by name", pod: required(expressionOfName("n"))},
		{name: "affinity by another name", pod: required(expressionOfName("m")), want: selector},
		{name: "named", pod: func(p *corev1.Pod) { p.Spec.NodeName = "m" }, want: "node(s) didn't match the requested node name"},

		{name: "port taken", on: []*Pod{pod("a", hostPorts(port("", "TCP", 80)))}, pod: hostPorts(port("", "TCP", 80)), want: noPort},
		{name: "port of another protocol", on: []*Pod{pod("a", hostPorts(port("", "TCP", 53)))}, pod: hostPorts(port("", "UDP", 53))},
		{name: "port on another address", on: []*Pod{pod("a", hostPorts(port("10.0.0.1", "TCP", 80)))}, pod: hostPorts(port("10.0.0.2", "TCP", 80))},
		{name: "port on all addresses", on: []*Pod{pod("a", hostPorts(port("10.0.0.1", "TCP", 80)))}, pod: hostPorts(port("0.0.0.0", "TCP", 80)), want: noPort},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := NewCluster(nil)
			for _, p := range c.on {
				cl.Add(p, "n")
			}
			n := cl.SetNode(node("n", some(c.node)...))
			if got := strings.Join(Objections(pod("new", some(c.pod)...), n), ","); got != c.want {
				t.Errorf("objections %q, want %q", got, c.want)
			}
		})
	}
}

func TestRemovingAPodGivesBackAllOfItsShare(t *testing.T) {
	c := cluster(node("n"))
	n := c.Node("n")
	big := pod("big", func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = resources("4", "8Gi")
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: 80}}
	})
	c.Add(big, "n")
	c.Add(big, "n") // again, as a cache may
	if Objections(big, n) == nil {
		t.Fatal("a full node took it again")
	}
	c.Remove(big.UID)
	c.Remove(big.UID)
	if why := Objections(big, n); why != nil {
		t.Fatalf("an empty node objects: %v", why)
	}
	if len(n.pods) != 0 || n.used.MilliCPU != 0 || n.used.Memory != 0 || len(n.ports) != 0 {
		t.Fatalf("left over: %+v %v", n.used, n.ports)
	}
}

func TestFailureIsToldLikeKubernetesTellsIt(t *testing.T) {
	_, f := cluster().Choose(pod("p"))
	if got := f.Message(); got != "no nodes available to schedule pods" {
		t.Errorf("%q", got)
	}
	big := pod("p", request(corev1.ResourceCPU, "8"))
	c := cluster(node("a"), node("b"), node("c"))
	_, f = c.Choose(big)
	if got := f.Message(); got != "0/3 nodes are available: 3 Insufficient cpu." {
		t.Errorf("%q", got)
	}
	c.SetNode(node("d", taint("team", "a", corev1.TaintEffectNoSchedule)))
	c.SetNode(node("e"))
	c.Add(pod("there"), "e")
	c.RemoveNode("e") // what it holds stays
	_, f = c.Choose(big)
	if got := f.Message(); got != "0/4 nodes are available: 1 node(s) had untolerated taint {team: a}, 3 Insufficient cpu." {
		t.Errorf("%q", got)
	}
	_, f = c.Choose(pod("p", request(corev1.ResourceCPU, "8"), required(expressionOfName("a"))))
	if got := f.Message(); got != "0/4 nodes are available: 1 Insufficient cpu, 3 node(s) didn't match Pod's node affinity/selector." {
		t.Errorf("%q", got)
	}
}

func expressionOfName(name string) corev1.NodeSelectorTerm {
	return corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{name}}}}
}
