package placement

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func zone(z string) func(*corev1.Node) { return label(corev1.LabelTopologyZone, z) }

func ofGroup(name string) *Pod {
	p := pod(name)
	p.Group = "web"
	return p
}

func TestChoose(t *testing.T) {
	image := func(name string, size int64) func(*corev1.Node) {
		return func(n *corev1.Node) {
			n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: []string{name}, SizeBytes: size})
		}
	}
	for _, c := range []struct {
		name  string
		nodes []*corev1.Node
		on    map[string]*Pod
		pod   *Pod
		want  string
	}{
		{"the least loaded", []*corev1.Node{node("a"), node("b")}, map[string]*Pod{"a": pod("x")}, pod("p"), "b"},
		{"pods that ask for nothing count", []*corev1.Node{node("a"), node("b")}, map[string]*Pod{
			"a": pod("x", func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = nil }),
		}, pod("p"), "b"},
		{"where CPU and memory stay in balance", []*corev1.Node{node("a"), node("b")}, map[string]*Pod{
			"a": pod("x", func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = resources("2", "1Mi") }),
			"b": pod("y", func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = resources("1m", "4Gi") }),
		}, pod("p", func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = resources("2", "1Mi") }), "b"},
		{"away from its own kind, though more loaded", []*corev1.Node{node("a"), node("b")}, map[string]*Pod{
			"a": ofGroup("x"), "b": pod("y", request(corev1.ResourceCPU, "2")),
		}, ofGroup("p"), "b"},
		{"to another zone first", []*corev1.Node{node("a", zone("1")), node("b", zone("1")), node("d", zone("2"))}, map[string]*Pod{
			"a": ofGroup("x"), "d": pod("y", request(corev1.ResourceCPU, "2")),
		}, ofGroup("p"), "d"},
		{"where it prefers", []*corev1.Node{node("a", label("disk", "fast")), node("b")}, map[string]*Pod{"a": pod("x")}, pod("p", func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{
				{Weight: 10, Preference: expression("disk", corev1.NodeSelectorOpIn, "fast")},
			}}}
		}), "a"},
		{"not where it is not wanted", []*corev1.Node{node("a", taint("team", "a", corev1.TaintEffectPreferNoSchedule)), node("b")}, map[string]*Pod{
			"b": pod("x", request(corev1.ResourceCPU, "2")),
		}, pod("p"), "b"},
		{"where its image is", []*corev1.Node{node("a", image("web:latest", 1<<30)), node("b")}, map[string]*Pod{"a": pod("x", request(corev1.ResourceCPU, "1100m"))}, pod("p", func(p *corev1.Pod) {
			p.Spec.Containers[0].Image = "web"
			p.Spec.Containers[0].Resources.Requests = resources("1m", "1")
		}), "a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := cluster(c.nodes...)
			for on, p := range c.on {
				cl.Add(p, on)
			}
			n, why := cl.Choose(c.pod)
			if n == nil {
				t.Fatal(why.Message())
			}
			if n.Name != c.want {
				t.Errorf("chose %s, want %s:\n%+v", n.Name, c.want, cl.Explain(c.pod))
			}
			if best := cl.Explain(c.pod)[0]; best.Node != c.want || best.Objections != nil {
				t.Errorf("explained %+v, want %s", best, c.want)
			}
		})
	}
}

func TestEqualsAreChosenEquallyOften(t *testing.T) {
	c := cluster(node("a"), node("b"), node("c"))
	count := map[string]int{}
	for range 3000 {
		n, _ := c.Choose(pod("p"))
		count[n.Name]++
	}
	for name, n := range count {
		if n < 800 || n > 1200 {
			t.Errorf("%s was chosen %d times of 3000", name, n)
		}
	}
}

func TestManyPodsSpreadEvenly(t *testing.T) {
	c := cluster(node("a"), node("b"), node("c"))
	for i := range 12 {
		p := ofGroup(fmt.Sprint("p", i))
		n, why := c.Choose(p)
		if n == nil {
			t.Fatal(why.Message())
		}
		c.Add(p, n.Name)
	}
	for name, n := range c.nodes {
		if n.groups["web"] != 4 {
			t.Errorf("%s has %d", name, n.groups["web"])
		}
	}
}

// Of a thousand nodes only some are looked at for each pod; nevertheless all get their share, and all zones.
func TestManyPodsSpreadEvenlyOverAThousandNodes(t *testing.T) {
	c := cluster()
	for i := range 1000 {
		c.SetNode(node(fmt.Sprint("n", i), zone(fmt.Sprint("z", i%7))))
	}
	for i := range 2000 {
		p := ofGroup(fmt.Sprint("p", i))
		n, why := c.Choose(p)
		if n == nil {
			t.Fatal(why.Message())
		}
		c.Add(p, n.Name)
	}
	zones := map[string]int{}
	for name, n := range c.nodes {
		if got := n.groups["web"]; got < 1 || got > 3 {
			t.Errorf("%s has %d of 2 a node", name, got)
		}
		zones[n.zone] += n.groups["web"]
	}
	for z, n := range zones {
		if n < 270 || n > 300 {
			t.Errorf("zone %s has %d of 2000/7", z, n)
		}
	}
}

func TestOnlyTheNodesThatAPodNamesAreLookedAt(t *testing.T) {
	c := cluster()
	for i := range 1000 {
		c.SetNode(node(fmt.Sprint("n", i)))
	}
	p := pod("p", required(expressionOfName("n500")))
	if nodes, others := c.candidates(p); len(nodes) != 1 || others != 999 {
		t.Errorf("%d looked at, %d others", len(nodes), others)
	}
	n, why := c.Choose(p)
	if n == nil || n.Name != "n500" {
		t.Errorf("chose %v: %v", n, why)
	}
}

// wide is a cluster for benchmarks, of big nodes in seven zones.
func wide(nodes int) *Cluster {
	c := cluster()
	for i := range nodes {
		c.SetNode(node(fmt.Sprint("n", i), zone(fmt.Sprint("z", i%7)), func(n *corev1.Node) {
			n.Status.Allocatable = resources("64", "256Gi")
			n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("110")
		}))
	}
	return c
}

// BenchmarkChoose places pods of 100 controllers, up to thirty a node; one operation is one pod.
func BenchmarkChoose(b *testing.B) {
	kinds := map[string]func(p *corev1.Pod){
		"plain":    func(*corev1.Pod) {},
		"spread":   spreadOver(corev1.LabelTopologyZone, 1, corev1.DoNotSchedule),
		"apart":    apartFrom("app", corev1.LabelHostname),
		"near":     nearTo("app", corev1.LabelTopologyZone),
		"softened": softly(spreadOver(corev1.LabelTopologyZone, 1, corev1.ScheduleAnyway), wishApart(10, "app", corev1.LabelHostname)),
	}
	for _, nodes := range []int{100, 1000, 5000} {
		for _, kind := range []string{"plain", "spread", "apart", "near", "softened"} {
			b.Run(fmt.Sprintf("%s/nodes=%d", kind, nodes), func(b *testing.B) {
				c := wide(nodes)
				pods := make([]*Pod, 30*nodes)
				for i := range pods {
					pods[i] = pod(fmt.Sprint("p", i), request(corev1.ResourceCPU, "100m"), labelled("app", fmt.Sprint("app", i%100)), kinds[kind])
					pods[i].Group = fmt.Sprint("group-", i%100)
				}
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					p := pods[i]
					n, why := c.Choose(p)
					if n == nil {
						b.Fatal(why.Message())
					}
					c.Add(p, n.Name)
					if i++; i == len(pods) {
						b.StopTimer()
						for _, p := range pods {
							c.Remove(p.UID)
						}
						i = 0
						b.StartTimer()
					}
				}
			})
		}
	}
}
