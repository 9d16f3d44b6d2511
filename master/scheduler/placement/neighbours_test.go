package placement

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func labelled(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		if p.Labels == nil {
			p.Labels = map[string]string{}
		}
		p.Labels[key] = value
	}
}

func in(namespace string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Namespace = namespace }
}

func affinityOf(p *corev1.Pod) *corev1.Affinity {
	if p.Spec.Affinity == nil {
		p.Spec.Affinity = &corev1.Affinity{}
	}
	if p.Spec.Affinity.PodAffinity == nil {
		p.Spec.Affinity.PodAffinity, p.Spec.Affinity.PodAntiAffinity = &corev1.PodAffinity{}, &corev1.PodAntiAffinity{}
	}
	return p.Spec.Affinity
}

// same selects the pods that have p's own value of the label, or that have the label where p has none.
func same(p *corev1.Pod, key string) *metav1.LabelSelector {
	if v, ok := p.Labels[key]; ok {
		return &metav1.LabelSelector{MatchLabels: map[string]string{key: v}}
	}
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: metav1.LabelSelectorOpExists}}}
}

func nearTo(key, topology string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		a := affinityOf(p).PodAffinity
		a.RequiredDuringSchedulingIgnoredDuringExecution = append(a.RequiredDuringSchedulingIgnoredDuringExecution,
			corev1.PodAffinityTerm{LabelSelector: same(p, key), TopologyKey: topology})
	}
}

func apartFrom(key, topology string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		a := affinityOf(p).PodAntiAffinity
		a.RequiredDuringSchedulingIgnoredDuringExecution = append(a.RequiredDuringSchedulingIgnoredDuringExecution,
			corev1.PodAffinityTerm{LabelSelector: same(p, key), TopologyKey: topology})
	}
}

func wishApart(weight int32, key, topology string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		a := affinityOf(p).PodAntiAffinity
		a.PreferredDuringSchedulingIgnoredDuringExecution = append(a.PreferredDuringSchedulingIgnoredDuringExecution,
			corev1.WeightedPodAffinityTerm{Weight: weight, PodAffinityTerm: corev1.PodAffinityTerm{LabelSelector: same(p, key), TopologyKey: topology}})
	}
}

func wishNear(weight int32, key, topology string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		a := affinityOf(p).PodAffinity
		a.PreferredDuringSchedulingIgnoredDuringExecution = append(a.PreferredDuringSchedulingIgnoredDuringExecution,
			corev1.WeightedPodAffinityTerm{Weight: weight, PodAffinityTerm: corev1.PodAffinityTerm{LabelSelector: same(p, key), TopologyKey: topology}})
	}
}

func spreadOver(topology string, skew int32, unsatisfiable corev1.UnsatisfiableConstraintAction) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
			MaxSkew: skew, TopologyKey: topology, WhenUnsatisfiable: unsatisfiable, LabelSelector: same(p, "app"),
		})
	}
}

func softly(f ...func(*corev1.Pod)) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for _, change := range f {
			change(p)
		}
	}
}

func terms(p *corev1.Pod) (near, apart []corev1.PodAffinityTerm) {
	a := affinityOf(p)
	return a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution, a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
}

// verdicts are the nodes and what they object, as "a b:objection".
func verdicts(c *Cluster, p *Pod) string {
	by := map[string]string{}
	for _, v := range c.Explain(p) {
		by[v.Node] = v.Node
		if v.Objections != nil {
			by[v.Node] += ": " + strings.Join(v.Objections, ",")
		}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(by)) {
		out = append(out, by[name])
	}
	return strings.Join(out, "; ")
}

func TestNeighbours(t *testing.T) {
	web := labelled("app", "web")
	nodes := []*corev1.Node{node("a", zone("1")), node("b", zone("1")), node("c", zone("2")), node("d")}
	const z = corev1.LabelTopologyZone
	for _, c := range []struct {
		name string
		on   map[string][]*Pod
		pod  *Pod
		want string
	}{
		{
			"near: only in the zone of the other",
			map[string][]*Pod{"a": {pod("x", web)}},
			pod("p", nearTo("app", z)),
			"a; b; c: " + notNear[0] + "; d: " + notNear[0],
		},
		{"near: the first of its own kind may go anywhere that has the label", nil, pod("p", web, nearTo("app", z)), "a; b; c; d: " + notNear[0]},
		{
			"near: the first, but not of that kind", nil, pod("p", nearTo("app", z)),
			"a: " + notNear[0] + "; b: " + notNear[0] + "; c: " + notNear[0] + "; d: " + notNear[0],
		},
		{
			"near: a pod of another namespace is none",
			map[string][]*Pod{"a": {pod("x", web, in("other"))}},
			pod("p", nearTo("app", corev1.LabelHostname)),
			"a: " + notNear[0] + "; b: " + notNear[0] + "; c: " + notNear[0] + "; d: " + notNear[0],
		},
		{"near: namespaces named", map[string][]*Pod{"a": {pod("x", web, in("other"))}}, pod("p", nearTo("app", corev1.LabelHostname), func(p *corev1.Pod) {
			near, _ := terms(p)
			near[0].Namespaces = []string{"other"}
		}), "a; b: " + notNear[0] + "; c: " + notNear[0] + "; d: " + notNear[0]},
		{"near: namespaces selected", map[string][]*Pod{"a": {pod("x", web, in("other"))}}, pod("p", nearTo("app", corev1.LabelHostname), func(p *corev1.Pod) {
			near, _ := terms(p)
			near[0].NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "a"}}
		}), "a; b: " + notNear[0] + "; c: " + notNear[0] + "; d: " + notNear[0]},
		{"near: an empty selector of namespaces means all", map[string][]*Pod{"a": {pod("x", web, in("third"))}}, pod("p", nearTo("app", corev1.LabelHostname), func(p *corev1.Pod) {
			near, _ := terms(p)
			near[0].NamespaceSelector = &metav1.LabelSelector{}
		}), "a; b: " + notNear[0] + "; c: " + notNear[0] + "; d: " + notNear[0]},
		{
			"near: two terms must select the same pod",
			map[string][]*Pod{"a": {pod("x", web)}, "b": {pod("y", labelled("tier", "1"))}, "c": {pod("z", web, labelled("tier", "1"))}},
			pod("p", nearTo("app", corev1.LabelHostname), nearTo("tier", corev1.LabelHostname)), "a: " + notNear[0] + "; b: " + notNear[0] + "; c; d: " + notNear[0],
		},
		{"near: no selector selects nothing", map[string][]*Pod{"a": {pod("x", web)}}, pod("p", nearTo("app", z), func(p *corev1.Pod) {
			near, _ := terms(p)
			near[0].LabelSelector = nil
		}), "a: " + notNear[0] + "; b: " + notNear[0] + "; c: " + notNear[0] + "; d: " + notNear[0]},
		{
			"near: matchLabelKeys",
			map[string][]*Pod{"a": {pod("x", web, labelled("hash", "1"))}, "b": {pod("y", web, labelled("hash", "2"))}},
			pod("p", labelled("hash", "2"), nearTo("app", corev1.LabelHostname), func(p *corev1.Pod) {
				near, _ := terms(p)
				near[0].MatchLabelKeys = []string{"hash"}
			}), "a: " + notNear[0] + "; b; c: " + notNear[0] + "; d: " + notNear[0],
		},
		{
			"near: mismatchLabelKeys",
			map[string][]*Pod{"a": {pod("x", web, labelled("hash", "1"))}, "b": {pod("y", web, labelled("hash", "2"))}},
			pod("p", labelled("hash", "2"), nearTo("app", corev1.LabelHostname), func(p *corev1.Pod) {
				near, _ := terms(p)
				near[0].MismatchLabelKeys = []string{"hash"}
			}), "a; b: " + notNear[0] + "; c: " + notNear[0] + "; d: " + notNear[0],
		},
		{"apart: not on the node of another", map[string][]*Pod{"a": {pod("x", web)}}, pod("p", web, apartFrom("app", corev1.LabelHostname)), "a: " + notApart[0] + "; b; c; d"},
		{
			"apart: not in its zone, and no zone is a fine place",
			map[string][]*Pod{"a": {pod("x", web)}},
			pod("p", web, apartFrom("app", z)),
			"a: " + notApart[0] + "; b: " + notApart[0] + "; c; d",
		},
		{"apart: what is there does not want it either", map[string][]*Pod{"a": {pod("x", apartFrom("app", z))}}, pod("p", web), "a: " + unwelcome[0] + "; b: " + unwelcome[0] + "; c; d"},
		{"apart: what is there does not mean it", map[string][]*Pod{"a": {pod("x", apartFrom("app", z))}}, pod("p"), "a; b; c; d"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := cluster(nodes...)
			cl.SetNamespace("other", map[string]string{"team": "a"})
			cl.SetNamespace("third", map[string]string{})
			for on, pods := range c.on {
				for _, p := range pods {
					cl.Add(p, on)
				}
			}
			if got := verdicts(cl, c.pod); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestWishes(t *testing.T) {
	web := labelled("app", "web")
	for _, c := range []struct {
		name string
		on   map[string]*Pod
		pod  *Pod
		want string
	}{
		{"to be near", map[string]*Pod{"b": pod("x", web)}, pod("p", wishNear(10, "app", corev1.LabelHostname)), "b"},
		{"to be apart", map[string]*Pod{"a": pod("x", web), "b": pod("y", request(corev1.ResourceCPU, "2"))}, pod("p", wishApart(10, "app", corev1.LabelHostname)), "b"},
		{"of what is there", map[string]*Pod{"b": pod("x", wishNear(10, "app", corev1.LabelHostname))}, pod("p", web), "b"},
		{"of what is there, to be left alone", map[string]*Pod{"a": pod("x", wishApart(10, "app", corev1.LabelHostname)), "b": pod("y", request(corev1.ResourceCPU, "2"))}, pod("p", web), "b"},
		{"what must be near is wished near", map[string]*Pod{"b": pod("x", nearTo("app", corev1.LabelHostname))}, pod("p", web), "b"},
		{
			"the stronger one wins",
			map[string]*Pod{"a": pod("x", web), "b": pod("y", labelled("tier", "1"))},
			pod("p", wishNear(10, "app", corev1.LabelHostname), wishNear(20, "tier", corev1.LabelHostname)), "b",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := cluster(node("a"), node("b"))
			for on, p := range c.on {
				cl.Add(p, on)
			}
			if n, why := cl.Choose(c.pod); n == nil || n.Name != c.want {
				t.Errorf("chose %v (%v), want %s: %+v", n, why, c.want, cl.Explain(c.pod))
			}
		})
	}
}

// The examples of https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/
func TestSpread(t *testing.T) {
	foo := labelled("app", "foo")
	const z, host = corev1.LabelTopologyZone, corev1.LabelHostname
	four := func() *Cluster {
		return cluster(node("n1", zone("A")), node("n2", zone("A")), node("n3", zone("B")), node("n4", zone("B")))
	}
	hard := func(key string) func(*corev1.Pod) { return spreadOver(key, 1, corev1.DoNotSchedule) }
	ending := func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }
	for _, c := range []struct {
		name string
		on   map[string][]*Pod
		pod  *Pod
		more []*corev1.Node
		want string
	}{
		{
			"one constraint: 2/1 becomes 2/2",
			map[string][]*Pod{"n1": {pod("1", foo)}, "n2": {pod("2", foo)}, "n3": {pod("3", foo)}},
			pod("p", foo, hard(z)), nil,
			"n1: " + uneven[0] + "; n2: " + uneven[0] + "; n3; n4",
		},
		{
			"two constraints: only the empty node",
			map[string][]*Pod{"n1": {pod("1", foo)}, "n2": {pod("2", foo)}, "n3": {pod("3", foo)}},
			pod("p", foo, hard(z), hard(host)), nil,
			"n1: " + uneven[0] + "; n2: " + uneven[0] + "; n3: " + uneven[0] + "; n4",
		},
		{
			"two constraints that conflict",
			map[string][]*Pod{"n1": {pod("1", foo), pod("2", foo)}, "n2": {pod("3", foo)}, "n3": {pod("4", foo), pod("5", foo)}},
			pod("p", foo, hard(z), hard(host)),
			[]*corev1.Node{node("n4", zone("B"), taint("x", "", corev1.TaintEffectNoSchedule))},
			"n1: " + uneven[0] + "; n2: " + uneven[0] + "; n3: " + uneven[0] + "; n4: node(s) had untolerated taint {x: }",
		},
		{
			"a bigger skew",
			map[string][]*Pod{"n1": {pod("1", foo)}, "n2": {pod("2", foo)}, "n3": {pod("3", foo)}},
			pod("p", foo, spreadOver(z, 2, corev1.DoNotSchedule)), nil,
			"n1; n2; n3; n4",
		},
		{"a pod that it does not select adds nothing", map[string][]*Pod{"n1": {pod("1", foo)}}, pod("p", hard(z)), nil, "n1; n2; n3; n4"},
		{"a node without the label", nil, pod("p", foo, hard(z)), []*corev1.Node{node("n5")}, "n1; n2; n3; n4; n5: " + noLabel[0]},
		{"pods that are about to end do not count", map[string][]*Pod{"n1": {pod("1", foo, ending)}}, pod("p", foo, hard(z)), nil, "n1; n2; n3; n4"},
		{"pods of other namespaces do not count", map[string][]*Pod{"n1": {pod("1", foo, in("other"))}}, pod("p", foo, hard(z)), nil, "n1; n2; n3; n4"},
		{
			"a zone that affinity excludes does not count",
			map[string][]*Pod{"n1": {pod("1", foo)}, "n3": {pod("3", foo)}},
			pod("p", foo, hard(z), func(p *corev1.Pod) {
				p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
					NodeSelectorTerms: []corev1.NodeSelectorTerm{expression(z, corev1.NodeSelectorOpNotIn, "C")},
				}}}
			}),
			[]*corev1.Node{node("n5", zone("C"))},
			"n1; n2; n3; n4; n5: " + notMatching[0],
		},
		{
			"unless affinity is to be ignored",
			map[string][]*Pod{"n1": {pod("1", foo)}, "n3": {pod("3", foo)}},
			pod("p", foo, hard(z), func(p *corev1.Pod) {
				p.Spec.NodeSelector = map[string]string{"disk": "fast"}
				p.Spec.TopologySpreadConstraints[0].NodeAffinityPolicy = new(corev1.NodeInclusionPolicyIgnore)
			}),
			[]*corev1.Node{node("n3", zone("B"), label("disk", "fast")), node("n5", zone("C"))},
			"n1: " + notMatching[0] + "; n2: " + notMatching[0] + "; n3: " + uneven[0] + "; n4: " + notMatching[0] + "; n5: " + notMatching[0],
		},
		{
			"a tainted zone counts",
			map[string][]*Pod{"n1": {pod("1", foo)}, "n3": {pod("3", foo)}},
			pod("p", foo, hard(z)),
			[]*corev1.Node{node("n5", zone("C"), taint("x", "", corev1.TaintEffectNoSchedule))},
			"n1: " + uneven[0] + "; n2: " + uneven[0] + "; n3: " + uneven[0] + "; n4: " + uneven[0] + "; n5: node(s) had untolerated taint {x: }",
		},
		{
			"unless taints are to be honoured",
			map[string][]*Pod{"n1": {pod("1", foo)}, "n3": {pod("3", foo)}},
			pod("p", foo, hard(z), func(p *corev1.Pod) {
				p.Spec.TopologySpreadConstraints[0].NodeTaintsPolicy = new(corev1.NodeInclusionPolicyHonor)
			}),
			[]*corev1.Node{node("n5", zone("C"), taint("x", "", corev1.TaintEffectNoSchedule))},
			"n1; n2; n3; n4; n5: node(s) had untolerated taint {x: }",
		},
		{
			"with fewer domains than the fewest the smallest count is 0",
			map[string][]*Pod{"n1": {pod("1", foo)}, "n3": {pod("3", foo)}},
			pod("p", foo, hard(z), func(p *corev1.Pod) { p.Spec.TopologySpreadConstraints[0].MinDomains = new(int32(3)) }), nil,
			"n1: " + uneven[0] + "; n2: " + uneven[0] + "; n3: " + uneven[0] + "; n4: " + uneven[0],
		},
		{"matchLabelKeys", map[string][]*Pod{"n1": {pod("1", foo, labelled("hash", "1"))}}, pod("p", foo, labelled("hash", "2"), hard(z), func(p *corev1.Pod) {
			p.Spec.TopologySpreadConstraints[0].MatchLabelKeys = []string{"hash"}
		}), nil, "n1; n2; n3; n4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := four()
			for _, n := range c.more {
				cl.SetNode(n)
			}
			for on, pods := range c.on {
				for _, p := range pods {
					cl.Add(p, on)
				}
			}
			if got := verdicts(cl, c.pod); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestSoftSpreadGoesWhereFewerAre(t *testing.T) {
	foo := labelled("app", "foo")
	c := cluster(node("a", zone("1")), node("b", zone("2")))
	c.Add(pod("x", foo), "a")
	c.Add(pod("y", request(corev1.ResourceCPU, "2")), "b")
	p := pod("p", foo, spreadOver(corev1.LabelTopologyZone, 1, corev1.ScheduleAnyway))
	if n, _ := c.Choose(p); n.Name != "b" {
		t.Errorf("chose %s: %+v", n.Name, c.Explain(p))
	}
}

// Whatever comes, goes and changes, the counts are those of a cluster that was built of what is there now.
func TestCountsAreThoseOfAClusterBuiltAnew(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 7))
		value := func(n int) string { return fmt.Sprint(r.IntN(n)) }
		randomPod := func(name string) *Pod {
			rules := []func(*corev1.Pod){
				nearTo("app", corev1.LabelTopologyZone), nearTo("tier", corev1.LabelHostname), apartFrom("app", corev1.LabelHostname), apartFrom("tier", "rack"),
				wishNear(3, "app", "rack"), wishApart(5, "tier", corev1.LabelTopologyZone), spreadOver(corev1.LabelTopologyZone, 2, corev1.DoNotSchedule),
				spreadOver("rack", 2, corev1.ScheduleAnyway),
				func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"rack": value(3)} },
				func(p *corev1.Pod) {
					for i := range p.Spec.TopologySpreadConstraints {
						p.Spec.TopologySpreadConstraints[i].NodeTaintsPolicy = new(corev1.NodeInclusionPolicyHonor)
					}
				},
				func(p *corev1.Pod) {
					if near, _ := terms(p); len(near) > 0 {
						near[0].NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": value(2)}}
					}
				},
			}
			f := []func(*corev1.Pod){request(corev1.ResourceCPU, "10m"), labelled("app", value(3)), labelled("tier", value(2)), in("ns" + value(2))}
			if r.IntN(5) == 0 {
				f = append(f, func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} })
			}
			for range r.IntN(4) {
				f = append(f, rules[r.IntN(len(rules))])
			}
			return pod(name, f...)
		}
		randomNode := func(name string) *corev1.Node {
			var f []func(*corev1.Node)
			if r.IntN(4) > 0 {
				f = append(f, zone(value(3)))
			}
			if r.IntN(4) > 0 {
				f = append(f, label("rack", value(3)))
			}
			if r.IntN(4) == 0 {
				f = append(f, taint("x", "", corev1.TaintEffectNoSchedule))
			}
			return node(name, f...)
		}
		nodes, pods, on, namespaces := map[string]*corev1.Node{}, map[string]*Pod{}, map[string]string{}, map[string]map[string]string{}
		c := cluster()
		for range 400 {
			switch r.IntN(8) {
			case 0:
				name := "n" + value(8)
				nodes[name] = randomNode(name)
				c.SetNode(nodes[name])
			case 1:
				name := "n" + value(8)
				if r.IntN(3) == 0 {
					delete(nodes, name)
					c.RemoveNode(name)
				}
			case 2:
				name := "ns" + value(2)
				namespaces[name] = map[string]string{"team": value(2)}
				c.SetNamespace(name, namespaces[name])
			case 3:
				name := "p" + value(30)
				delete(pods, name)
				c.Remove(types.UID(name))
			case 4: // a question, which makes counts that are then kept up
				c.Explain(randomPod("asks"))
				c.Preempt(randomPod("asks"), nil)
			default:
				name := "p" + value(30)
				pods[name], on[name] = randomPod(name), "n"+value(8)
				c.Add(pods[name], on[name])
			}
		}
		anew := cluster()
		for name, p := range pods {
			anew.Add(p, on[name])
		}
		for _, n := range nodes {
			anew.SetNode(n)
		}
		for name, l := range namespaces {
			anew.SetNamespace(name, l)
		}
		for range 30 {
			p := randomPod("asks")
			if got, want := fmt.Sprint(c.Explain(p)), fmt.Sprint(anew.Explain(p)); got != want {
				t.Fatalf("seed %d:\ngot  %s\nwant %s", seed, got, want)
			}
			for _, s := range anew.tallies {
				kept, ok := c.tallies[s.id]
				if !ok || fmt.Sprint(nonZero(kept.counts), kept.total, kept.least, kept.nodes) != fmt.Sprint(nonZero(s.counts), s.total, s.least, s.nodes) {
					t.Fatalf("seed %d: %s: %+v\nwant %+v", seed, s.id, kept, s)
				}
			}
		}
	}
}

func nonZero(counts map[string]int) map[string]int {
	out := maps.Clone(counts)
	maps.DeleteFunc(out, func(_ string, n int) bool { return n == 0 })
	return out
}
