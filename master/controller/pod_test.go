package controller

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// newTestPod is a pod that has run and been ready since noon, changed by the functions.
func newTestPod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(noon)},
		Spec:       corev1.PodSpec{NodeName: "node-" + name},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "10.244.0." + fmt.Sprint(len(name)),
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(noon)}},
		},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func onNode(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }
func unready(p *corev1.Pod)                { p.Status.Conditions[0].Status = corev1.ConditionFalse }
func starting(p *corev1.Pod)               { unready(p); p.Status.Phase = corev1.PodPending }
func unassigned(p *corev1.Pod)             { starting(p); p.Spec.NodeName = "" }
func withIP(ip string) func(*corev1.Pod)   { return func(p *corev1.Pod) { p.Status.PodIP = ip } }
func ending(p *corev1.Pod)                 { p.DeletionTimestamp = &metav1.Time{Time: noon} }
func younger(p *corev1.Pod)                { p.CreationTimestamp = metav1.NewTime(noon.Add(time.Hour)) }
func restarted(p *corev1.Pod) {
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 3}}
}
func cheap(p *corev1.Pod) { p.Annotations = map[string]string{corev1.PodDeletionCost: "-5"} }
func readyLater(p *corev1.Pod) {
	p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(noon.Add(time.Hour))
}

func marked(p *corev1.Pod) {
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue})
}

func podNames(pods []*corev1.Pod) []string {
	out := []string{}
	for _, p := range pods {
		out = append(out, p.Name)
	}
	return out
}

func TestTheLeastMissedPodGoesFirst(t *testing.T) {
	pods := []*corev1.Pod{
		newTestPod("steady-1"), newTestPod("steady-2"), newTestPod("young", younger), newTestPod("restarted", restarted),
		newTestPod("ready-later", readyLater), newTestPod("twin-a", onNode("x")), newTestPod("twin-b", onNode("x")),
		newTestPod("cheap", cheap), newTestPod("unready", unready), newTestPod("starting", starting), newTestPod("unassigned", unassigned),
	}
	want := []string{
		"unassigned", "starting", "unready", "cheap", "twin-a", "ready-later", "restarted", "young", "steady-1", "steady-2", "twin-b",
	}
	for range 20 {
		rand.Shuffle(len(pods), func(i, j int) { pods[i], pods[j] = pods[j], pods[i] })
		rankForDeletion(pods, pods)
		if got := podNames(pods); !slices.Equal(got, want) {
			t.Fatalf("order %v\nwant  %v", got, want)
		}
	}
}

func TestWhatStaysIsSpreadEvenly(t *testing.T) {
	var pods []*corev1.Pod
	for i := range 30 {
		pods = append(pods, newTestPod(fmt.Sprintf("p%02d", i), onNode(fmt.Sprint("n", i/10))))
	}
	for remove := range 30 {
		rankForDeletion(pods, pods)
		left := map[string]int{"n0": 0, "n1": 0, "n2": 0}
		for _, p := range pods[remove:] {
			left[p.Spec.NodeName]++
		}
		if max(left["n0"], left["n1"], left["n2"])-min(left["n0"], left["n1"], left["n2"]) > 1 {
			t.Errorf("after %d went: %v", remove, left)
		}
	}
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		name   string
		want   int
		active []*corev1.Pod
		create int
		remove []string
	}{
		{"from nothing", 3, nil, 3, nil},
		{"enough", 1, []*corev1.Pod{newTestPod("a")}, 0, nil},
		{"too few", 3, []*corev1.Pod{newTestPod("a")}, 2, nil},
		{"too many", 1, []*corev1.Pod{newTestPod("a"), newTestPod("b", unready), newTestPod("c", unassigned)}, 0, []string{"c", "b"}},
		{"to nothing", 0, []*corev1.Pod{newTestPod("a"), newTestPod("b", marked)}, 0, []string{"a", "b"}},
		{"a marked pod is replaced first", 2, []*corev1.Pod{newTestPod("a"), newTestPod("b", marked)}, 1, nil},
		{"and stays while its replacement starts", 2, []*corev1.Pod{newTestPod("a"), newTestPod("b", marked), newTestPod("c", starting)}, 0, nil},
		{"and goes when that is ready", 2, []*corev1.Pod{newTestPod("a"), newTestPod("b", marked), newTestPod("c")}, 0, []string{"b"}},
		{
			"one ready replacement lets one of two go", 2,
			[]*corev1.Pod{newTestPod("a", marked), newTestPod("b", marked, unready), newTestPod("c"), newTestPod("d", starting)},
			0,
			[]string{"b"},
		},
		{
			"a pardoned pod stays, its replacement goes", 2,
			[]*corev1.Pod{newTestPod("a"), newTestPod("b"), newTestPod("c", starting)},
			0,
			[]string{"c"},
		},
		{"scaled down while one is marked", 1, []*corev1.Pod{newTestPod("a"), newTestPod("b", marked)}, 0, []string{"b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			create, remove := plan(c.want, c.active, nil, true)
			if create != c.create || !slices.Equal(podNames(remove), append([]string{}, c.remove...)) {
				t.Errorf("create %d, remove %v; want %d, %v", create, podNames(remove), c.create, c.remove)
			}
		})
	}
}

// TestAMachineThatComesBackCostsNobodyElse: when the pods of a machine come back and their replacements are ready, too, the youngest go, not those that share an
// untouched machine with many.
func TestAMachineThatComesBackCostsNobodyElse(t *testing.T) {
	var pods []*corev1.Pod
	for i := range 4 {
		pods = append(pods, newTestPod(fmt.Sprint("old-", i), onNode("crowded")))
	}
	pods = append(pods, newTestPod("back-0", onNode("back")), newTestPod("back-1", onNode("back")))
	pods = append(pods, newTestPod("replacement-0", onNode("other"), readyLater), newTestPod("replacement-1", onNode("crowded"), readyLater))
	for range 20 {
		rand.Shuffle(len(pods), func(i, j int) { pods[i], pods[j] = pods[j], pods[i] })
		if _, remove := plan(6, slices.Clone(pods), nil, false); !slices.Equal(slices.Sorted(slices.Values(podNames(remove))), []string{"replacement-0", "replacement-1"}) {
			t.Fatalf("removed %v", podNames(remove))
		}
		_, remove := plan(6, slices.Clone(pods), nil, true)
		for _, p := range remove {
			if p.Spec.NodeName != "crowded" {
				t.Fatalf("scaled down: removed %v", podNames(remove))
			}
		}
	}
}

func TestReplicationStatusCountsAndSaysWhenToLookAgain(t *testing.T) {
	rc := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Generation: 4}}
	rc.Spec.MinReadySeconds = 30
	pods := []*corev1.Pod{newTestPod("a"), newTestPod("b", unready), newTestPod("c", readyLater)}
	s, after := replicationStatus(ofController(rc), pods, nil, noon.Add(time.Hour+10*time.Second))
	if s.Replicas != 3 || s.ReadyReplicas != 2 || s.AvailableReplicas != 1 || s.ObservedGeneration != 4 || after != 20*time.Second {
		t.Errorf("status %+v, again in %s", s, after)
	}
}

func TestTolerance(t *testing.T) {
	l := &nodeLifecycle{Config: Config{EvictionGrace: 5 * time.Second}}
	seconds := func(n int64) *int64 { return &n }
	unreachable := corev1.Toleration{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}
	with := func(t corev1.Toleration, n *int64) corev1.Toleration { t.TolerationSeconds = n; return t }
	for _, c := range []struct {
		name        string
		tolerations []corev1.Toleration
		grace       time.Duration
		forever     bool
	}{
		{"none", nil, 5 * time.Second, false},
		{"another", []corev1.Toleration{{Key: "team", Operator: corev1.TolerationOpExists}}, 5 * time.Second, false},
		{"for a while", []corev1.Toleration{with(unreachable, seconds(60))}, time.Minute, false},
		{"not at all", []corev1.Toleration{with(unreachable, seconds(0))}, 0, false},
		{"forever", []corev1.Toleration{unreachable}, 0, true},
		{"everything forever", []corev1.Toleration{{Operator: corev1.TolerationOpExists}}, 0, true},
		{"the shorter of two", []corev1.Toleration{with(unreachable, seconds(60)), with(corev1.Toleration{Operator: corev1.TolerationOpExists}, seconds(20))}, 20 * time.Second, false},
		{"a while beats forever", []corev1.Toleration{unreachable, with(unreachable, seconds(60))}, time.Minute, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			grace, forever := l.tolerance(&corev1.Pod{Spec: corev1.PodSpec{Tolerations: c.tolerations}})
			if grace != c.grace || forever != c.forever {
				t.Errorf("%s, forever %t; want %s, %t", grace, forever, c.grace, c.forever)
			}
		})
	}
}
