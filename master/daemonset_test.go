package master_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"shoal/internal/api"
	"shoal/internal/client"
)

func daemonSet(change ...func(*appsv1.DaemonSet)) *appsv1.DaemonSet {
	l := map[string]string{"app": "agent"}
	ds := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "agent"},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: l},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: l}, Spec: podSpec()},
		},
	}
	for _, f := range change {
		f(ds)
	}
	return ds
}

func daemonVersion(v int) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) {
		ds.Spec.Template.Spec.Containers[0].Image = fmt.Sprint("example.org/main:", v)
	}
}

func daemonRolling(surge, unavailable int32) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) {
		ds.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{
			MaxSurge: new(intstr.FromInt32(surge)), MaxUnavailable: new(intstr.FromInt32(unavailable)),
		}}
	}
}

func (c *cluster) daemonSet() *appsv1.DaemonSet {
	c.Helper()
	return get[*appsv1.DaemonSet](c, api.DaemonSets, metav1.NamespaceDefault, "agent")
}

func (c *cluster) alterDaemonSet(change ...func(*appsv1.DaemonSet)) {
	c.Helper()
	modify(c, api.DaemonSets, "agent", change...)
}

// alterNode changes a Node's metadata and spec.
func (c *cluster) alterNode(name string, change func(*corev1.Node)) {
	c.Helper()
	n := get[*corev1.Node](c, api.Nodes, "", name)
	change(n)
	n.ResourceVersion = ""
	if _, err := c.Update(c.Context(), api.Nodes, n, client.UpdateOptions{}); err != nil {
		c.Fatal(err)
	}
	c.settle()
}

// daemonsOn checks that the set has exactly one pod of a version, running, on each of some Nodes, and says so.
func (c *cluster) daemonsOn(v int, nodes ...string) {
	c.Helper()
	var on []string
	for _, p := range c.pods() {
		if p.DeletionTimestamp == nil && api.IsPodReady(p) && p.Spec.Containers[0].Image == fmt.Sprint("example.org/main:", v) {
			on = append(on, p.Spec.NodeName)
		}
	}
	slices.Sort(on)
	if !slices.Equal(on, nodes) || len(c.pods()) != len(nodes) {
		c.Errorf("pods of version %d on %v, %d in all; want %v", v, on, len(c.pods()), nodes)
	}
	n := int32(len(nodes))
	ds := c.daemonSet()
	if s := ds.Status; s.DesiredNumberScheduled != n || s.CurrentNumberScheduled != n || s.NumberReady != n || s.NumberAvailable != n ||
		s.UpdatedNumberScheduled != n || s.NumberUnavailable != 0 || s.NumberMisscheduled != 0 || s.ObservedGeneration != ds.Generation {
		c.Errorf("status %+v, want %d of generation %d", s, n, ds.Generation)
	}
}

func TestADaemonSetHasAPodOnEachNodeItIsFor(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.create(api.DaemonSets, daemonSet(daemonVersion(1)))
		c.settle()
		c.daemonsOn(1, "node-0", "node-1", "node-2")
		c.addNode("node-3", "4")
		c.settle()
		c.daemonsOn(1, "node-0", "node-1", "node-2", "node-3")
		// A Node that takes no other pods takes this one.
		c.alterNode("node-3", func(n *corev1.Node) { n.Spec.Unschedulable = true })
		if _, err := c.Delete(c.Context(), api.Pods, client.KeyOf(on("node-3", c.pods())[0]), client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.settle()
		c.daemonsOn(1, "node-0", "node-1", "node-2", "node-3")
		// Taints that keep new pods away leave those that are there; others drive them off.
		c.alterNode("node-0", func(n *corev1.Node) {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "team", Value: "a", Effect: corev1.TaintEffectNoSchedule})
		})
		if s := c.daemonSet().Status; len(on("node-0", c.pods())) != 1 || s.DesiredNumberScheduled != 3 || s.NumberMisscheduled != 1 {
			t.Errorf("%d pods on node-0, status %+v", len(on("node-0", c.pods())), s)
		}
		c.alterNode("node-0", func(n *corev1.Node) { n.Spec.Taints[len(n.Spec.Taints)-1].Effect = corev1.TaintEffectNoExecute })
		c.daemonsOn(1, "node-1", "node-2", "node-3")
		c.alterNode("node-2", func(n *corev1.Node) { n.Labels["disk"] = "ssd" })
		c.alterDaemonSet(func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.NodeSelector = map[string]string{"disk": "ssd"} })
		c.daemonsOn(1, "node-2")
		if _, err := c.Delete(c.Context(), api.Nodes, client.Key{Name: "node-2"}, client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.settle()
		c.daemonsOn(1)
	})
}

func TestADaemonSetsPodStaysOnAMachineThatIsGone(t *testing.T) {
	inCluster(t, 2, func(c *cluster) {
		c.create(api.DaemonSets, daemonSet(daemonVersion(1)))
		c.settle()
		before := on("node-0", c.pods())[0].UID
		c.live.set("node-0", api.Gone)
		c.pass(time.Hour)
		// Kubernetes counts a Node that is tainted NoSchedule as one that should have none, and leaves the pod.
		if s := c.daemonSet().Status; len(on("node-0", c.pods())) != 1 || s.DesiredNumberScheduled != 1 || s.NumberReady != 1 || s.NumberMisscheduled != 1 {
			t.Errorf("%d pods, status %+v", len(c.pods()), s)
		}
		c.live.set("node-0", api.Alive)
		c.settle()
		c.daemonsOn(1, "node-0", "node-1")
		if p := on("node-0", c.pods())[0]; p.UID != before {
			t.Error("the pod of the machine that came back is another")
		}
	})
}

func TestADaemonSetRollsWithinItsBounds(t *testing.T) {
	all := []string{"node-0", "node-1", "node-2", "node-3"}
	for _, b := range []struct{ surge, unavailable int32 }{{0, 1}, {0, 2}, {1, 0}, {3, 0}} {
		t.Run(fmt.Sprint(b), func(t *testing.T) {
			inCluster(t, 4, func(c *cluster) {
				c.create(api.DaemonSets, daemonSet(daemonVersion(1), daemonRolling(b.surge, b.unavailable)))
				c.settle()
				c.daemonsOn(1, all...)
				stop := c.observe(c.withinBounds(4+int(b.surge), 4-int(b.unavailable)))
				c.alterDaemonSet(daemonVersion(2))
				c.daemonsOn(2, all...)
				stop()
			})
		})
	}
}

func TestOnDeleteReplacesWhatPeopleDelete(t *testing.T) {
	inCluster(t, 2, func(c *cluster) {
		c.create(api.DaemonSets, daemonSet(daemonVersion(1), func(ds *appsv1.DaemonSet) { ds.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType }))
		c.settle()
		c.alterDaemonSet(daemonVersion(2))
		c.pass(time.Hour)
		if s := c.daemonSet().Status; s.UpdatedNumberScheduled != 0 || s.NumberReady != 2 {
			t.Errorf("before a deletion: %+v", s)
		}
		for _, p := range c.pods() {
			if _, err := c.Delete(c.Context(), api.Pods, client.KeyOf(p), client.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		c.settle()
		c.daemonsOn(2, "node-0", "node-1")
	})
}

// TestADaemonSetGoesBack applies the data of a revision as kubectl does.
func TestADaemonSetGoesBack(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		revisions := func() (all []*appsv1.ControllerRevision, numbers []int64) {
			l, err := c.List(c.Context(), api.ControllerRevisions, client.ListOptions{Namespace: "default"})
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range l.Items {
				all = append(all, o.(*appsv1.ControllerRevision))
			}
			slices.SortFunc(all, func(a, b *appsv1.ControllerRevision) int { return int(a.Revision - b.Revision) })
			for _, r := range all {
				numbers = append(numbers, r.Revision)
			}
			return all, numbers
		}
		c.create(api.DaemonSets, daemonSet(daemonVersion(1), func(ds *appsv1.DaemonSet) { ds.Spec.RevisionHistoryLimit = new(int32(2)) }))
		c.settle()
		c.alterDaemonSet(daemonVersion(2), func(ds *appsv1.DaemonSet) { ds.Spec.Template.Labels["added"] = "yes" })
		all, numbers := revisions()
		if !slices.Equal(numbers, []int64{1, 2}) || !json.Valid(all[0].Data.Raw) {
			t.Fatalf("revisions %v", numbers)
		}
		_, err := c.Patch(c.Context(), api.DaemonSets, client.Key{Namespace: "default", Name: "agent"},
			client.Patch{Type: types.StrategicMergePatchType, Data: all[0].Data.Raw}, client.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		c.settle()
		c.daemonsOn(1, "node-0")
		if _, numbers := revisions(); !slices.Equal(numbers, []int64{2, 3}) || c.daemonSet().Spec.Template.Labels["added"] != "" {
			t.Errorf("after going back: revisions %v, labels %v", numbers, c.daemonSet().Spec.Template.Labels)
		}
		for v := 3; v <= 6; v++ {
			c.alterDaemonSet(daemonVersion(v))
			c.daemonsOn(v, "node-0")
		}
		if _, numbers := revisions(); !slices.Equal(numbers, []int64{5, 6, 7}) {
			t.Errorf("revisions %v are kept, want two and the present one", numbers)
		}
		if _, err := c.Delete(c.Context(), api.DaemonSets, client.KeyOf(c.daemonSet()), client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.settle()
		if all, _ := revisions(); len(all)+len(c.pods()) != 0 {
			t.Errorf("%d revisions and %d pods are left", len(all), len(c.pods()))
		}
	})
}

func TestAFailedDaemonIsReplacedAfterARest(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.create(api.DaemonSets, daemonSet(daemonVersion(1)))
		c.settle()
		p := c.pods()[0].DeepCopy()
		p.Annotations, p.ResourceVersion = map[string]string{"test/broken": "yes"}, "" // nobody starts it again
		if _, err := c.Update(c.Context(), api.Pods, p, client.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		p.Status.Phase = corev1.PodFailed
		p.Status.Conditions = nil
		if _, err := c.Update(c.Context(), api.Pods, p, client.UpdateOptions{Subresource: "status"}); err != nil {
			t.Fatal(err)
		}
		c.settle()
		if q := c.pods()[0]; q.UID != p.UID {
			t.Error("it was replaced at once")
		}
		c.pass(11 * time.Second)
		if q := c.pods()[0]; q.UID == p.UID {
			t.Error("it is still there")
		}
		c.daemonsOn(1, "node-0")
	})
}
