package placement

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// node is a ready Node of 4 CPUs, 8 GiB and 10 pods, changed by f.
func node(name string, f func(*corev1.Node)) *Node {
	o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
	o.Status.Allocatable = resources("4", "8Gi")
	o.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("10")
	o.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if f != nil {
		f(o)
	}
	n := NewNode(name)
	n.Set(o)
	return n
}

func resources(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

// pod asks for 1 CPU and 1 GiB, changed by f.
func pod(name string, f func(*corev1.Pod)) *Pod {
	o := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: resources("1", "1Gi")}}}},
	}
	if f != nil {
		f(o)
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
		{name: "too many pods", node: func(n *corev1.Node) { n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("1") }, on: []*Pod{pod("a", nil)}, want: "Too many pods"},
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
		{name: "affinity by name", pod: required(corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"n"}}}})},
		{name: "affinity by another name", pod: required(corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"m"}}}}), want: selector},
		{name: "named", pod: func(p *corev1.Pod) { p.Spec.NodeName = "m" }, want: "node(s) didn't match the requested node name"},

		{name: "port taken", on: []*Pod{pod("a", hostPorts(port("", "TCP", 80)))}, pod: hostPorts(port("", "TCP", 80)), want: noPort},
		{name: "port of another protocol", on: []*Pod{pod("a", hostPorts(port("", "TCP", 53)))}, pod: hostPorts(port("", "UDP", 53))},
		{name: "port on another address", on: []*Pod{pod("a", hostPorts(port("10.0.0.1", "TCP", 80)))}, pod: hostPorts(port("10.0.0.2", "TCP", 80))},
		{name: "port on all addresses", on: []*Pod{pod("a", hostPorts(port("10.0.0.1", "TCP", 80)))}, pod: hostPorts(port("0.0.0.0", "TCP", 80)), want: noPort},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := node("n", c.node)
			for _, p := range c.on {
				n.Add(p)
			}
			if got := strings.Join(Objections(pod("new", c.pod), n), ","); got != c.want {
				t.Errorf("objections %q, want %q", got, c.want)
			}
		})
	}
}

func TestRemovingAPodGivesBackAllOfItsShare(t *testing.T) {
	n := node("n", nil)
	big := pod("big", func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = resources("4", "8Gi")
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: 80}}
	})
	n.Add(big)
	n.Add(big) // again, as a cache may
	if Objections(big, n) == nil {
		t.Fatal("a full node took it again")
	}
	n.Remove(big.UID)
	n.Remove(big.UID)
	if why := Objections(big, n); why != nil {
		t.Fatalf("an empty node objects: %v", why)
	}
	if !n.Empty() || n.used.MilliCPU != 0 || n.used.Memory != 0 || len(n.ports) != 0 {
		t.Fatalf("left over: %+v %v", n.used, n.ports)
	}
}

func TestFailureIsToldLikeKubernetesTellsIt(t *testing.T) {
	c := NewChooser(rand.New(rand.NewPCG(1, 1)))
	_, f := c.Choose(pod("p", nil), nil)
	if got := f.Message(); got != "no nodes available to schedule pods" {
		t.Errorf("%q", got)
	}
	big := pod("p", request(corev1.ResourceCPU, "8"))
	nodes := []*Node{node("a", nil), node("b", nil), node("c", nil)}
	_, f = c.Choose(big, nodes)
	if got := f.Message(); got != "0/3 nodes are available: 3 Insufficient cpu." {
		t.Errorf("%q", got)
	}
	nodes = append(nodes, node("d", taint("team", "a", corev1.TaintEffectNoSchedule)), NewNode("not there any more"))
	_, f = c.Choose(big, nodes)
	if got := f.Message(); got != "0/4 nodes are available: 1 node(s) had untolerated taint {team: a}, 3 Insufficient cpu." {
		t.Errorf("%q", got)
	}
}

func TestChoose(t *testing.T) {
	zone := func(z string) func(*corev1.Node) { return label(corev1.LabelTopologyZone, z) }
	grouped := func(name string) *Pod {
		p := pod(name, nil)
		p.Group = "web"
		return p
	}
	for _, c := range []struct {
		name  string
		nodes func() []*Node
		pod   *Pod
		want  string
	}{
		{"the least loaded", func() []*Node {
			a, b := node("a", nil), node("b", nil)
			a.Add(pod("x", nil))
			return []*Node{a, b}
		}, pod("p", nil), "b"},
		{"pods that ask for nothing count", func() []*Node {
			a, b := node("a", nil), node("b", nil)
			a.Add(pod("x", func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = nil }))
			return []*Node{a, b}
		}, pod("p", nil), "b"},
		{"away from its own kind, though more loaded", func() []*Node {
			a, b := node("a", nil), node("b", nil)
			a.Add(grouped("x"))
			b.Add(pod("y", request(corev1.ResourceCPU, "2")))
			return []*Node{a, b}
		}, grouped("p"), "b"},
		{"to another zone first", func() []*Node {
			a, b, d := node("a", zone("1")), node("b", zone("1")), node("d", zone("2"))
			a.Add(grouped("x"))
			d.Add(pod("y", request(corev1.ResourceCPU, "2")))
			return []*Node{a, b, d}
		}, grouped("p"), "d"},
		{"where it prefers", func() []*Node {
			a, b := node("a", label("disk", "fast")), node("b", nil)
			a.Add(pod("x", nil))
			return []*Node{a, b}
		}, pod("p", func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{
				{Weight: 10, Preference: expression("disk", corev1.NodeSelectorOpIn, "fast")},
			}}}
		}), "a"},
		{"not where it is not wanted", func() []*Node {
			a, b := node("a", taint("team", "a", corev1.TaintEffectPreferNoSchedule)), node("b", nil)
			b.Add(pod("x", request(corev1.ResourceCPU, "2")))
			return []*Node{a, b}
		}, pod("p", nil), "b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, why := NewChooser(rand.New(rand.NewPCG(1, 1))).Choose(c.pod, c.nodes())
			if n == nil || n.Name != c.want {
				t.Errorf("chose %v (%v), want %s", n, why, c.want)
			}
		})
	}
}

func TestEqualsAreChosenEquallyOften(t *testing.T) {
	c := NewChooser(rand.New(rand.NewPCG(1, 2)))
	nodes := []*Node{node("a", nil), node("b", nil), node("c", nil)}
	count := map[string]int{}
	for range 3000 {
		n, _ := c.Choose(pod("p", nil), nodes)
		count[n.Name]++
	}
	for name, n := range count {
		if n < 800 || n > 1200 {
			t.Errorf("%s was chosen %d times of 3000", name, n)
		}
	}
}

func TestManyPodsSpreadEvenly(t *testing.T) {
	c := NewChooser(rand.New(rand.NewPCG(1, 2)))
	nodes := []*Node{node("a", nil), node("b", nil), node("c", nil)}
	for i := range 12 {
		p := pod(fmt.Sprint("p", i), nil)
		p.Group = "web"
		n, why := c.Choose(p, nodes)
		if n == nil {
			t.Fatal(why.Message())
		}
		n.Add(p)
	}
	for _, n := range nodes {
		if n.groups["web"] != 4 {
			t.Errorf("%s has %d", n.Name, n.groups["web"])
		}
	}
}

// BenchmarkChoose places 10,000 pods of 100 controllers on 1,000 nodes; one operation is one pod.
func BenchmarkChoose(b *testing.B) {
	for _, count := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("nodes=%d", count), func(b *testing.B) {
			var nodes []*Node
			for i := range count {
				nodes = append(nodes, node(fmt.Sprint("n", i), func(n *corev1.Node) {
					n.Labels[corev1.LabelTopologyZone] = fmt.Sprint("z", i%3)
					n.Status.Allocatable = resources("64", "256Gi")
					n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("110")
				}))
			}
			pods := make([]*Pod, 10*count)
			for i := range pods {
				pods[i] = pod(fmt.Sprint("p", i), request(corev1.ResourceCPU, "100m"))
				pods[i].Group = fmt.Sprint("group-", i%100)
			}
			c := NewChooser(rand.New(rand.NewPCG(1, 2)))
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				p := pods[i%len(pods)]
				n, why := c.Choose(p, nodes)
				if n == nil {
					b.Fatal(why.Message())
				}
				n.Add(p)
				if i++; i%len(pods) == 0 {
					for _, n := range nodes {
						for uid := range n.pods {
							n.Remove(uid)
						}
					}
				}
			}
		})
	}
}
