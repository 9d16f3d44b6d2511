package placement

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func priority(n int32) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.Priority = &n } }

func made(minute int) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.CreationTimestamp = metav1.NewTime(time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC))
	}
}

func cpu(q string) func(*corev1.Pod) { return request(corev1.ResourceCPU, q) }

// The rules of https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/
func TestPreempt(t *testing.T) {
	web := labelled("app", "web")
	budget := func(allowed int) []Budget {
		return []Budget{{Namespace: "default", Allowed: allowed, Selects: func(l map[string]string) bool { return l["app"] == "web" }}}
	}
	ending := func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }
	for _, c := range []struct {
		name    string
		nodes   []*corev1.Node
		on      map[string][]*Pod
		pod     *Pod
		budgets []Budget
		want    string // node: victims
	}{
		{name: "a lesser pod goes", on: map[string][]*Pod{"a": {pod("x", cpu("3"))}}, pod: pod("p", cpu("2"), priority(10)), want: "a: x"},
		{name: "an equal one does not", on: map[string][]*Pod{"a": {pod("x", cpu("3"), priority(10))}}, pod: pod("p", cpu("2"), priority(10))},
		{name: "none does where that would not be enough", on: map[string][]*Pod{"a": {pod("x", cpu("1")), pod("y", cpu("3"), priority(10))}}, pod: pod("p", cpu("2"), priority(10))},
		{
			name: "none does where the node will not do anyhow", nodes: []*corev1.Node{node("a", taint("x", "", corev1.TaintEffectNoSchedule))},
			on: map[string][]*Pod{"a": {pod("x", cpu("3"))}}, pod: pod("p", cpu("2"), priority(10)),
		},
		{name: "no more than need be, the least important first", on: map[string][]*Pod{"a": {
			pod("x", cpu("1"), priority(1)), pod("y", cpu("1"), priority(2)), pod("z", cpu("1"), priority(3)),
		}}, pod: pod("p", cpu("2"), priority(10)), want: "a: x"},
		{name: "of equals the younger", on: map[string][]*Pod{"a": {pod("x", cpu("2"), made(1)), pod("y", cpu("2"), made(2))}}, pod: pod("p", cpu("2"), priority(10)), want: "a: y"},
		{
			name: "where no budget breaks", nodes: []*corev1.Node{node("a"), node("b")},
			on:  map[string][]*Pod{"a": {pod("x", cpu("4"), web)}, "b": {pod("y", cpu("4"), priority(5))}},
			pod: pod("p", cpu("2"), priority(10)), budgets: budget(0), want: "b: y",
		},
		{
			name: "a budget is kept on the node, too", on: map[string][]*Pod{"a": {pod("x", cpu("2"), web, made(2)), pod("y", cpu("2"), made(1))}},
			pod: pod("p", cpu("2"), priority(10)), budgets: budget(0), want: "a: y",
		},
		{name: "a budget that cannot be kept is broken", on: map[string][]*Pod{"a": {pod("x", cpu("4"), web)}}, pod: pod("p", cpu("2"), priority(10)), budgets: budget(0), want: "a: x"},
		{
			name: "where the most important victim is the least important", nodes: []*corev1.Node{node("a"), node("b")},
			on:  map[string][]*Pod{"a": {pod("x", cpu("4"), priority(5))}, "b": {pod("y", cpu("2"), priority(4)), pod("z", cpu("2"), priority(4))}},
			pod: pod("p", cpu("4"), priority(10)), want: "b: y z",
		},
		{
			name: "where there are fewer", nodes: []*corev1.Node{node("a"), node("b")},
			on:  map[string][]*Pod{"a": {pod("x", cpu("2"), priority(5)), pod("y", cpu("2"), priority(5))}, "b": {pod("z", cpu("4"), priority(5))}},
			pod: pod("p", cpu("4"), priority(10)), want: "b: z",
		},
		{
			name: "where they are younger", nodes: []*corev1.Node{node("a"), node("b")},
			on:  map[string][]*Pod{"a": {pod("x", cpu("4"), made(1))}, "b": {pod("y", cpu("4"), made(2))}},
			pod: pod("p", cpu("4"), priority(10)), want: "b: y",
		},
		{
			name: "one that stands in the way by anti-affinity", on: map[string][]*Pod{"a": {pod("x", cpu("100m"), apartFrom("app", corev1.LabelHostname))}},
			pod: pod("p", web, priority(10)), want: "a: x",
		},
		{name: "those that end anyhow are waited for", on: map[string][]*Pod{"a": {pod("x", cpu("2"), ending), pod("y", cpu("2"))}}, pod: pod("p", cpu("2"), priority(10)), want: "a: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := cluster(c.nodes...)
			if c.nodes == nil {
				cl.SetNode(node("a"))
			}
			for on, pods := range c.on {
				for _, p := range pods {
					cl.Add(p, on)
				}
			}
			before := fmt.Sprint(cl.Explain(c.pod))
			got := ""
			if s := cl.Preempt(c.pod, c.budgets); s != nil {
				var names []string
				for _, v := range s.Victims {
					names = append(names, v.Name)
				}
				slices.Sort(names)
				got = s.Node.Name + ": " + strings.Join(names, " ")
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if after := fmt.Sprint(cl.Explain(c.pod)); after != before {
				t.Errorf("looking changed the cluster:\n%s\n%s", before, after)
			}
		})
	}
}

func TestRoomThatIsMadeForOneIsNotTakenByALesserOne(t *testing.T) {
	c := cluster(node("a"))
	vip := pod("vip", cpu("3"), priority(10))
	c.Want(vip, "a")
	if n, _ := c.Choose(pod("p", cpu("2"))); n != nil {
		t.Error("a lesser pod got the room")
	}
	if n, _ := c.Choose(pod("p", cpu("1"))); n == nil {
		t.Error("what is left of the room may be used")
	}
	if n, _ := c.Choose(pod("p", cpu("2"), priority(20))); n == nil {
		t.Error("a greater pod did not get the room")
	}
	if n, _ := c.Choose(vip); n == nil {
		t.Error("it did not get its own room")
	}
	if lesser := c.Outbid(pod("p", priority(20)), c.Node("a")); len(lesser) != 1 || lesser[0] != "vip" {
		t.Errorf("outbid %v", lesser)
	}
	if n, _ := c.Choose(pod("p", cpu("2"))); n == nil {
		t.Error("the room is kept for nobody")
	}
}
