package master_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"shoal/internal/api"
)

// perNode counts the pods of every Node.
func (c *cluster) perNode() map[string]int {
	out := map[string]int{}
	for _, p := range c.pods() {
		out[p.Spec.NodeName]++
	}
	return out
}

// neverFewer watches that so many pods serve at every moment.
func (c *cluster) neverFewer(n int) func(pods []*corev1.Pod) {
	return func(pods []*corev1.Pod) {
		ready := 0
		for _, p := range pods {
			if p.DeletionTimestamp == nil && api.IsPodReady(p) {
				ready++
			}
		}
		if ready < n {
			c.Errorf("%d of %d pods serve", ready, n)
		}
	}
}

// rebalancing runs f with two Nodes, and six pods that are all there are.
func rebalancing(t *testing.T, f func(c *cluster), change ...func(*corev1.ReplicationController)) {
	t.Helper()
	inCluster(t, 2, func(c *cluster) {
		c.stop()
		c.balanced = true
		c.lead(2)
		rc := newController("web", 6)
		for _, alter := range change {
			alter(rc)
		}
		c.create(api.ReplicationControllers, rc)
		c.pass(time.Minute)
		if got := c.perNode(); got["node-0"] != 3 || got["node-1"] != 3 {
			t.Fatalf("the pods are on %v", got)
		}
		f(c)
	})
}

func TestPodsMoveToAMachineThatHasComeBack(t *testing.T) {
	rebalancing(t, func(c *cluster) {
		stop := c.observe(c.neverFewer(6))
		c.addNode("node-2", "4")
		c.pass(8 * time.Second)
		if got := c.perNode(); got["node-2"] != 0 {
			t.Errorf("before it has been quiet: %v", got)
		}
		c.pass(time.Minute)
		if got, want := c.perNode(), map[string]int{"node-0": 2, "node-1": 2, "node-2": 2}; !maps.Equal(got, want) {
			t.Errorf("the pods are on %v, want %v", got, want)
		}
		said := c.events("Rebalancing")
		if len(said) != 2 || !strings.Contains(said[0].Message, "to be replaced by a pod on node-2: of its like 3 are on node-") {
			t.Errorf("the events: %v", said)
		}
		c.pass(time.Hour)
		if n := len(c.events("Rebalancing")); n > 2 {
			t.Errorf("%d moves, two were needed", n)
		}
		stop()
	})
}

func TestPodsStayWhereNobodyAskedForMoves(t *testing.T) {
	inCluster(t, 2, func(c *cluster) {
		c.create(api.ReplicationControllers, newController("web", 6))
		c.settle()
		c.addNode("node-2", "4")
		c.pass(10 * time.Minute)
		if got := c.perNode(); got["node-2"] != 0 {
			t.Errorf("the pods are on %v", got)
		}
	})
}

func TestWhatMayNotMoveStays(t *testing.T) {
	for name, change := range map[string]func(*corev1.ReplicationController){
		"it keeps something there": func(rc *corev1.ReplicationController) {
			rc.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		},
		"it says so": func(rc *corev1.ReplicationController) {
			rc.Spec.Template.Annotations = map[string]string{"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
		},
		"a budget keeps it": nil,
	} {
		t.Run(name, func(t *testing.T) {
			var changes []func(*corev1.ReplicationController)
			if change != nil {
				changes = append(changes, change)
			}
			rebalancing(t, func(c *cluster) {
				if change == nil {
					all := intstr.FromString("100%")
					c.create(api.PodDisruptionBudgets, &policyv1.PodDisruptionBudget{
						ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "all"},
						Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &all, Selector: &metav1.LabelSelector{}},
					})
					c.settle()
				}
				c.addNode("node-2", "4")
				c.pass(10 * time.Minute)
				if got := c.perNode(); got["node-2"] != 0 {
					t.Errorf("the pods are on %v", got)
				}
			}, changes...)
		})
	}
}

// TestAMoveWithoutAReplacementIsCalledOff: a quota allows no seventh pod.
func TestAMoveWithoutAReplacementIsCalledOff(t *testing.T) {
	rebalancing(t, func(c *cluster) {
		c.limit("six", "pods", "6")
		stop := c.observe(c.neverFewer(6))
		c.addNode("node-2", "4")
		c.pass(5 * time.Minute)
		if got := c.perNode(); got["node-2"] != 0 || len(c.pods()) != 6 {
			t.Errorf("the pods are on %v", got)
		}
		if len(c.events("RebalancingFailed")) == 0 {
			t.Error("nobody says that it did not work")
		}
		modify(c, api.ResourceQuotas, "six", func(q *corev1.ResourceQuota) { q.Spec.Hard = amounts("pods", "7") })
		c.pass(20 * time.Minute)
		if got, want := c.perNode(), map[string]int{"node-0": 2, "node-1": 2, "node-2": 2}; !maps.Equal(got, want) {
			t.Errorf("then the pods are on %v, want %v", got, want)
		}
		stop()
	})
}

// TestAMasterMayEndAtEveryWriteOfAMove lets each Master make few writes, up to the end.
func TestAMasterMayEndAtEveryWriteOfAMove(t *testing.T) {
	for most := 1; most <= 4; most++ {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			rebalancing(t, func(c *cluster) {
				stop := c.observe(c.neverFewer(6))
				c.stop()
				c.addNode("node-2", "4")
				for term := uint64(3); ; term++ {
					l := &limited{Interface: c.Registry, left: most}
					c.leadAs(term, l)
					c.pass(3 * time.Minute)
					c.stop()
					if l.left > 0 {
						break
					}
					if term > 100 {
						t.Fatal("it does not end")
					}
				}
				c.lead(200)
				c.pass(5 * time.Minute)
				if got, want := c.perNode(), map[string]int{"node-0": 2, "node-1": 2, "node-2": 2}; !maps.Equal(got, want) {
					t.Errorf("the pods are on %v, want %v", got, want)
				}
				stop()
			})
		})
	}
}
