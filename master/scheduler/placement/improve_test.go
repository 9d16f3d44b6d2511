package placement

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func anything(*Pod) bool { return true }

// improve moves as Improve says, as replacements would be placed, until nothing is left to improve.
func improve(t *testing.T, c *Cluster, movable func(*Pod) bool) (moves []*Move) {
	t.Helper()
	for range 1000 {
		m := c.Improve(movable)
		if m == nil {
			return moves
		}
		leaving, next := *m.Pod, *m.Pod
		leaving.leaving = true
		next.UID, next.nodeName = m.Pod.UID+"+", ""
		c.Add(&leaving, m.From.Name)
		to, _ := c.Choose(&next)
		c.Add(&next, to.Name)
		c.Remove(m.Pod.UID)
		moves = append(moves, m)
	}
	t.Fatal("it does not end")
	return nil
}

func counts(c *Cluster, group string) map[string]int {
	out := map[string]int{}
	for _, n := range c.ordered() {
		out[n.Name] = n.groups[group]
	}
	return out
}

func TestImprove(t *testing.T) {
	many := func(n int, group string, change ...func(*corev1.Pod)) (pods []*Pod) {
		for i := range n {
			p := pod(fmt.Sprint(group, i), change...)
			p.Group = group
			pods = append(pods, p)
		}
		return pods
	}
	small := request(corev1.ResourceCPU, "10m")
	for _, test := range []struct {
		name    string
		nodes   []*corev1.Node
		on      map[string][]*Pod
		movable func(*Pod) bool
		want    map[string]int // of group web
		why     string         // of the first move
	}{
		{"nothing to do", []*corev1.Node{node("a"), node("b")}, map[string][]*Pod{"a": many(1, "web", small)}, anything, map[string]int{"a": 1, "b": 0}, ""},
		{
			"a machine has come back",
			[]*corev1.Node{node("a"), node("b"), node("d")},
			map[string][]*Pod{"a": many(3, "web", small), "b": many(6, "web", small)[3:]},
			anything,
			map[string]int{"a": 2, "b": 2, "d": 2},
			"of its like 3 are on",
		},
		{
			"a zone has come back",
			[]*corev1.Node{node("a", zone("1")), node("b", zone("1")), node("d", zone("2"))},
			map[string][]*Pod{"a": many(2, "web", small), "b": many(4, "web", small)[2:]},
			anything,
			map[string]int{"a": 1, "b": 1, "d": 2},
			"of its like 4 are in zone \"1\" and 0 in zone \"2\"",
		},
		{
			"what may not move stays",
			[]*corev1.Node{node("a"), node("b")},
			map[string][]*Pod{"a": many(4, "web", small)},
			func(p *Pod) bool { return p.Name > "web2" },
			map[string]int{"a": 3, "b": 1},
			"of its like 4 are on a and 0 on b",
		},
		{
			"a node that is closed takes no part",
			[]*corev1.Node{node("a"), node("b", taint("node.kubernetes.io/unschedulable", "", corev1.TaintEffectNoSchedule))},
			map[string][]*Pod{"a": many(4, "web", small)},
			anything,
			map[string]int{"a": 4, "b": 0},
			"",
		},
		{
			"nor does one where they cannot be",
			[]*corev1.Node{node("a", label("disk", "fast")), node("b")},
			map[string][]*Pod{"a": many(4, "web", small, func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "fast"} })},
			anything,
			map[string]int{"a": 4, "b": 0},
			"",
		},
		{
			"a crowded node",
			[]*corev1.Node{node("a"), node("b")},
			map[string][]*Pod{"a": append(many(1, "x", request(corev1.ResourceCPU, "1500m")), many(1, "web", request(corev1.ResourceCPU, "1500m"))...)},
			anything,
			map[string]int{"a": 0, "b": 1},
			"75 % of a are taken, and 0 % of b",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := cluster(test.nodes...)
			for n, pods := range test.on {
				for _, p := range pods {
					c.Add(p, n)
				}
			}
			moves := improve(t, c, test.movable)
			if got := counts(c, "web"); !maps.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
			switch {
			case test.why == "" && len(moves) > 0:
				t.Errorf("moved %s: %s", moves[0].Pod.Name, moves[0].Why)
			case test.why != "" && (len(moves) == 0 || !strings.HasPrefix(moves[0].Why, test.why)):
				t.Errorf("moves: %+v, want first: %s", moves, test.why)
			}
		})
	}
}

// TestImproveEnds with groups of all sizes, thrown anywhere: no group is less evenly in the zones than before. More is not
// promised: where a pod would be placed depends on what else is on the nodes, too.
func TestImproveEnds(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var nodes []*corev1.Node
		for i := range 3 + rng.IntN(10) {
			nodes = append(nodes, node(fmt.Sprint("n", i), zone(fmt.Sprint(rng.IntN(3)))))
		}
		c := cluster(nodes...)
		for g := range 1 + rng.IntN(6) {
			for i := range 2 + rng.IntN(11) {
				p := pod(fmt.Sprintf("g%d-%d", g, i), request(corev1.ResourceCPU, "50m"))
				p.Group = fmt.Sprint("g", g)
				c.Add(p, nodes[rng.IntN(1+rng.IntN(len(nodes)))].Name)
			}
		}
		squares := func() map[string]int {
			out := map[string]int{}
			for g, s := range c.byGroup() {
				for _, n := range s.zones {
					out[g] += n * n
				}
			}
			return out
		}
		before := squares()
		moves := improve(t, c, anything)
		for g, n := range squares() {
			if n > before[g] {
				t.Errorf("seed %d: %s is less evenly in the zones, by %d moves", seed, g, len(moves))
			}
		}
	}
}
