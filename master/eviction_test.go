package master_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// lostNode is a cluster of three Nodes with a Service of six pods, and a bare pod on node-0.
func lostNode(t *testing.T, f func(c *cluster)) {
	inCluster(t, 3, func(c *cluster) {
		c.create(api.Services, newService("web"))
		c.create(api.ReplicationControllers, newController("web", 6))
		bare := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "bare"}, Spec: podSpec()}
		bare.Spec.NodeName = "node-0"
		c.create(api.Pods, bare)
		c.settle()
		if n := len(on("node-0", c.pods())); n != 3 {
			t.Fatalf("%d pods on node-0: %v", n, names(c.pods()))
		}
		f(c)
	})
}

func (c *cluster) ready(node string) corev1.ConditionStatus {
	c.Helper()
	for _, cond := range get[*corev1.Node](c, api.Nodes, "", node).Status.Conditions {
		if cond.Type == corev1.NodeReady {
			return cond.Status
		}
	}
	return ""
}

func (c *cluster) taints(node string) map[corev1.TaintEffect]bool {
	c.Helper()
	out := map[corev1.TaintEffect]bool{}
	for _, t := range get[*corev1.Node](c, api.Nodes, "", node).Spec.Taints {
		if t.Key == corev1.TaintNodeUnreachable {
			out[t.Effect] = true
		}
	}
	return out
}

func TestPodsOfAMachineThatIsGoneAreReplacedThenRemoved(t *testing.T) {
	lostNode(t, func(c *cluster) {
		c.live.set("node-0", api.Gone)
		c.settle()
		if c.ready("node-0") != corev1.ConditionUnknown || !c.taints("node-0")[corev1.TaintEffectNoExecute] || !c.taints("node-0")[corev1.TaintEffectNoSchedule] {
			t.Fatalf("node is %s with taints %v", c.ready("node-0"), c.taints("node-0"))
		}
		for _, p := range on("node-0", c.pods()) {
			if api.IsPodReady(p) || p.DeletionTimestamp != nil {
				t.Errorf("pod %s of a machine that is gone: %+v", p.Name, p.Status.Conditions)
			}
		}
		if got := c.addresses("web"); len(got) != 4 {
			t.Fatalf("endpoints %v", got)
		}
		c.pass(evictionGrace - time.Second)
		if n := len(on("node-0", c.pods())); n != 3 {
			t.Fatalf("%d pods on node-0 before the grace is over", n)
		}
		c.pass(2 * time.Second)
		pods := c.pods()
		if n := len(on("node-0", pods)); n != 0 {
			t.Fatalf("%d pods on node-0: %+v", n, on("node-0", pods)[0].Status)
		}
		if len(pods) != 6 {
			t.Fatalf("%d pods", len(pods))
		}
		if got := c.addresses("web"); len(got) != 6 {
			t.Fatalf("endpoints %v", got)
		}
		if _, err := c.Get(c.Context(), api.Pods, client.Key{Namespace: "default", Name: "bare"}, client.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Fatalf("bare pod: %v", err)
		}
	})
}

func TestAnOriginalStaysUntilItsReplacementIsReady(t *testing.T) {
	lostNode(t, func(c *cluster) {
		// New pods of this controller never become ready.
		rc := get[*corev1.ReplicationController](c, api.ReplicationControllers, "default", "web")
		rc.Spec.Template.Annotations = map[string]string{"test/broken": "yes"}
		rc.ResourceVersion = ""
		if _, err := c.Update(c.Context(), api.ReplicationControllers, rc, client.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		c.live.set("node-0", api.Gone)
		c.pass(evictionGrace + time.Minute)
		pods := c.pods()
		if len(pods) != 8 || len(on("node-0", pods)) != 2 {
			t.Fatalf("%d pods, %d on node-0", len(pods), len(on("node-0", pods)))
		}
		for _, p := range on("node-0", pods) {
			if cond := api.PodCondition(p, corev1.DisruptionTarget); cond == nil || cond.Status != corev1.ConditionTrue {
				t.Errorf("pod %s is not marked: %+v", p.Name, p.Status.Conditions)
			}
		}
		// The machine returns: what serves is kept, the replacements go.
		kept := names(on("node-0", pods))
		c.live.set("node-0", api.Alive)
		c.settle()
		pods = c.pods()
		if got := names(on("node-0", pods)); len(pods) != 6 || len(got) != 2 || got[0] != kept[0] || got[1] != kept[1] {
			t.Fatalf("pods %v, on node-0 %v, want %v", names(pods), got, kept)
		}
		for _, p := range pods {
			if !api.IsPodReady(p) || api.PodCondition(p, corev1.DisruptionTarget) != nil {
				t.Errorf("pod %s: %+v", p.Name, p.Status.Conditions)
			}
		}
		if len(c.taints("node-0")) != 0 || c.ready("node-0") != corev1.ConditionTrue || len(c.addresses("web")) != 6 {
			t.Errorf("node %s, taints %v, endpoints %v", c.ready("node-0"), c.taints("node-0"), c.addresses("web"))
		}
	})
}

func TestAMachineThatReturnsInTimeKeepsItsPods(t *testing.T) {
	lostNode(t, func(c *cluster) {
		before := names(c.pods())
		c.live.set("node-0", api.Gone)
		c.pass(evictionGrace / 2)
		c.live.set("node-0", api.Alive)
		c.pass(time.Minute)
		after := names(c.pods())
		if len(after) != len(before) || len(c.addresses("web")) != 6 || len(c.taints("node-0")) != 0 {
			t.Fatalf("pods %v became %v, endpoints %v", before, after, c.addresses("web"))
		}
		for i := range before {
			if after[i] != before[i] {
				t.Fatalf("pods %v became %v", before, after)
			}
		}
	})
}

func TestASilentPeersPodsServeUntilTheAgentGrace(t *testing.T) {
	lostNode(t, func(c *cluster) {
		c.live.set("node-0", api.Silent)
		c.pass(agentGrace - time.Second)
		if c.ready("node-0") != corev1.ConditionUnknown || c.taints("node-0")[corev1.TaintEffectNoExecute] || !c.taints("node-0")[corev1.TaintEffectNoSchedule] {
			t.Fatalf("node is %s with taints %v", c.ready("node-0"), c.taints("node-0"))
		}
		if len(on("node-0", c.pods())) != 3 || len(c.addresses("web")) != 6 {
			t.Fatalf("%d pods, endpoints %v", len(on("node-0", c.pods())), c.addresses("web"))
		}
		c.pass(2*time.Second + evictionGrace)
		if n := len(on("node-0", c.pods())); n != 0 || len(c.pods()) != 6 {
			t.Fatalf("%d pods on node-0, %d in all", n, len(c.pods()))
		}
	})
}

func TestANewMasterStartsNoGraceAgain(t *testing.T) {
	lostNode(t, func(c *cluster) {
		c.live.set("node-0", api.Gone)
		c.pass(evictionGrace - time.Second)
		c.stop()
		c.lead(2)
		c.pass(2 * time.Second)
		if n := len(on("node-0", c.pods())); n != 0 {
			t.Fatalf("%d pods on node-0", n)
		}
	})
	t.Run("silent", func(t *testing.T) {
		lostNode(t, func(c *cluster) {
			c.live.set("node-0", api.Silent)
			c.pass(agentGrace - time.Second)
			c.stop()
			c.live.set("node-0", api.Silent) // the new Master's gossip has only just heard of it
			c.lead(2)
			c.pass(2*time.Second + evictionGrace)
			if n := len(on("node-0", c.pods())); n != 0 {
				t.Fatalf("%d pods on node-0", n)
			}
		})
	})
}

func TestATolerationIsHonoured(t *testing.T) {
	lostNode(t, func(c *cluster) {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "patient"}, Spec: podSpec()}
		p.Spec.NodeName = "node-0"
		p.Spec.Tolerations = []corev1.Toleration{{
			Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(int64(60)),
		}}
		c.create(api.Pods, p)
		forever := p.DeepCopy()
		forever.Name, forever.Spec.Tolerations[0].TolerationSeconds = "forever", nil
		c.create(api.Pods, forever)
		c.live.set("node-0", api.Gone)
		c.pass(59 * time.Second)
		get[*corev1.Pod](c, api.Pods, "default", "patient")
		c.pass(2 * time.Second)
		if got := names(on("node-0", c.pods())); len(got) != 1 || got[0] != "forever" {
			t.Fatalf("on node-0: %v", got)
		}
	})
}

func TestPodsOfADeletedNodeAreRemoved(t *testing.T) {
	lostNode(t, func(c *cluster) {
		c.live.set("node-0", api.Gone)
		if _, err := c.Delete(c.Context(), api.Nodes, client.Key{Name: "node-0"}, client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.pass(10 * time.Second)
		if pods := c.pods(); len(pods) != 6 || len(on("node-0", pods)) != 0 {
			t.Fatalf("pods %v", names(pods))
		}
	})
}

// TestPodsAvoidAnUnsteadyMachine: what is to be placed goes elsewhere while it can, and what is there stays.
func TestPodsAvoidAnUnsteadyMachine(t *testing.T) {
	lostNode(t, func(c *cluster) {
		c.live.setUnsteady("node-0", true)
		c.pass(time.Second)
		taints := func() []corev1.Taint { return get[*corev1.Node](c, api.Nodes, "", "node-0").Spec.Taints }
		if all := taints(); len(all) != 1 || all[0].Effect != corev1.TaintEffectPreferNoSchedule {
			t.Fatalf("taints %v", all)
		}
		c.scale("web", 10)
		c.pass(10 * time.Second)
		if n := len(on("node-0", c.pods())); n != 3 || len(c.pods()) != 11 {
			t.Errorf("%d of %d pods are on it; it had 3", n, len(c.pods()))
		}
		c.live.setUnsteady("node-0", false)
		c.pass(time.Second)
		if all := taints(); len(all) != 0 {
			t.Errorf("taints %v", all)
		}
	})
}

// A zone that is gone as a whole may be back in a moment: its pods are moved one machine after the other, and
// what is back in time is left alone, by the next Master, too.
func TestAZoneThatIsGoneIsGivenUpMachineByMachine(t *testing.T) {
	inCluster(t, 24, func(c *cluster) {
		for i := range 24 {
			c.alterNode(fmt.Sprint("node-", i), func(n *corev1.Node) { n.Labels[corev1.LabelTopologyZone] = fmt.Sprint("zone-", i%2) })
		}
		c.create(api.ReplicationControllers, newController("web", 48))
		c.settle()
		zone := func() (pods int) { // but those whose replacement is on its way
			for _, p := range c.pods() {
				if c := api.PodCondition(p, corev1.DisruptionTarget); c != nil {
					continue
				}
				if n := get[*corev1.Node](c, api.Nodes, "", p.Spec.NodeName); n.Labels[corev1.LabelTopologyZone] == "zone-0" {
					pods++
				}
			}
			return pods
		}
		if n := zone(); n != 24 {
			t.Fatalf("%d pods in the zone", n)
		}
		for i := 0; i < 24; i += 2 {
			c.live.set(fmt.Sprint("node-", i), api.Gone)
		}
		c.pass(evictionGrace - time.Second) // stored times are whole seconds
		if n := zone(); n != 24 {
			t.Fatalf("%d pods in the zone before the grace is over", n)
		}
		for before := 24; before > 14; {
			c.pass(50 * time.Millisecond)
			now := zone()
			if before-now > 4 {
				t.Fatalf("the pods of more than two machines were moved in one moment: %d, then %d in the zone", before, now)
			}
			before = now
		}
		c.stop()
		for i := 0; i < 24; i += 2 {
			if name := fmt.Sprint("node-", i); len(on(name, c.pods())) > 0 {
				c.live.set(name, api.Alive)
			}
		}
		left := zone()
		c.lead(2)
		c.pass(time.Minute)
		// Those that were marked may stay, too: they do when they are ready again before one has to go for their replacement.
		if n := zone(); n < left || len(c.pods()) != 48 {
			t.Errorf("%d pods in the zone, of %d when its machines were back; %d in all", n, left, len(c.pods()))
		}
	})
}
