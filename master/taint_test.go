package master_test

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// tolerating is a pod on node-0.
func tolerating(name string, tolerations ...corev1.Toleration) *corev1.Pod {
	p := user(name)
	p.Spec.NodeName, p.Spec.Tolerations = "node-0", tolerations
	return p
}

func taintNode(key, value string, effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Value: value, Effect: effect})
	}
}

func (c *cluster) there(names ...string) {
	c.Helper()
	var got []string
	for _, p := range c.pods() {
		got = append(got, p.Name)
	}
	if !slices.Equal(got, names) {
		c.Errorf("pods %v, want %v", got, names)
	}
}

// Kubernetes, "Taint based Evictions": who does not tolerate a taint of effect NoExecute goes at once; who tolerates it stays, or stays as long as
// tolerationSeconds says, of several the shortest. A new Master begins no time again.
func TestTaintsThatSayNoExecute(t *testing.T) {
	inCluster(t, 2, func(c *cluster) {
		equal := corev1.Toleration{Key: "team", Operator: corev1.TolerationOpEqual, Value: "a"}
		some := corev1.Toleration{Key: "team", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(int64(60))}
		longer := some
		longer.TolerationSeconds = new(int64(600))
		other := corev1.Toleration{Key: "team", Operator: corev1.TolerationOpEqual, Value: "b"}
		for _, p := range []*corev1.Pod{
			tolerating("forever", equal), tolerating("intolerant"), tolerating("long", longer), tolerating("other", other), tolerating("short", longer, some),
		} {
			c.create(api.Pods, p)
		}
		c.settle()
		c.alterNode("node-0", taintNode("team", "a", corev1.TaintEffectNoSchedule))
		c.pass(time.Minute)
		c.there("forever", "intolerant", "long", "other", "short")
		c.alterNode("node-0", taintNode("team", "a", corev1.TaintEffectNoExecute))
		c.pass(time.Second)
		c.there("forever", "long", "short")
		c.create(api.Pods, tolerating("late"))
		c.settle()
		c.there("forever", "long", "short")
		c.stop()
		c.pass(50 * time.Second)
		c.lead(2)
		c.pass(5 * time.Second)
		c.there("forever", "long", "short")
		c.pass(6 * time.Second)
		c.there("forever", "long")
		c.pass(10 * time.Minute)
		c.there("forever")
	})
}

// Kubernetes, "Non-graceful node shutdown": a machine that does not answer and has the taint out-of-service is off; its StatefulSets' pods may run elsewhere.
func TestAMachineThatIsSaidToBeOutOfService(t *testing.T) {
	inCluster(t, 2, func(c *cluster) {
		c.create(api.StatefulSets, statefulSet(2))
		c.create(api.Pods, tolerating("tolerant", corev1.Toleration{Key: corev1.TaintNodeOutOfService, Operator: corev1.TolerationOpExists},
			corev1.Toleration{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists}))
		c.pass(5 * time.Second)
		lost := ""
		for _, p := range on("node-0", c.pods()) {
			if metav1.GetControllerOf(p) != nil {
				lost = p.Name
			}
		}
		if lost == "" {
			t.Fatal("no pod of the set is on node-0")
		}
		c.alterNode("node-0", taintNode(corev1.TaintNodeOutOfService, "nodeshutdown", corev1.TaintEffectNoSchedule))
		c.pass(time.Minute)
		if p := c.pod(lost); p.Spec.NodeName != "node-0" || p.DeletionTimestamp != nil {
			t.Fatalf("a machine that answers is said to be off, and its pod is on %q", p.Spec.NodeName)
		}
		c.alterNode("node-0", func(n *corev1.Node) { n.Spec.Taints = nil })
		c.live.set("node-0", api.Gone)
		c.pass(time.Hour)
		if p := c.pod(lost); p.Spec.NodeName != "node-0" {
			t.Fatalf("nobody said that the machine is off, and its pod is on %q", p.Spec.NodeName)
		}
		c.alterNode("node-0", taintNode(corev1.TaintNodeOutOfService, "nodeshutdown", corev1.TaintEffectNoExecute))
		c.pass(10 * time.Second)
		if p := c.pod(lost); p.Spec.NodeName != "node-1" || !api.IsPodReady(p) {
			t.Errorf("the machine is off, and its pod is on %q", p.Spec.NodeName)
		}
		if _, err := c.Get(c.Context(), api.Pods, client.Key{Namespace: "default", Name: "tolerant"}, client.GetOptions{}); apierrors.IsNotFound(err) {
			t.Error("a pod that tolerates it is gone, too")
		}
	})
}

// Kubernetes, "Taint Nodes by Condition": a machine that says it has too little of something gets no new pods; those that are there stay, and new ones come
// when it has enough.
func TestAMachineThatHasTooLittleGetsNoNewPods(t *testing.T) {
	inCluster(t, 2, func(c *cluster) {
		says := func(t corev1.NodeConditionType, is corev1.ConditionStatus) {
			c.Helper()
			n := get[*corev1.Node](c, api.Nodes, "", "node-0")
			n.Status.Conditions = slices.DeleteFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == t })
			n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: t, Status: is})
			n.ResourceVersion = ""
			if _, err := c.Update(c.Context(), api.Nodes, n, client.UpdateOptions{Subresource: "status"}); err != nil {
				c.Fatal(err)
			}
			c.pass(time.Second)
		}
		taints := func() (keys []string) {
			for _, t := range get[*corev1.Node](c, api.Nodes, "", "node-0").Spec.Taints {
				keys = append(keys, t.Key+":"+string(t.Effect))
			}
			return keys
		}
		c.create(api.Pods, tolerating("there"))
		c.alterNode("node-0", taintNode("team", "a", corev1.TaintEffectPreferNoSchedule))
		says(corev1.NodeDiskPressure, corev1.ConditionTrue)
		says(corev1.NodeMemoryPressure, corev1.ConditionTrue)
		if got := taints(); !slices.Equal(got, []string{"team:PreferNoSchedule", "node.kubernetes.io/disk-pressure:NoSchedule", "node.kubernetes.io/memory-pressure:NoSchedule"}) {
			c.Errorf("taints %q", got)
		}
		c.there("there")
		c.create(api.Pods, user("late"))
		c.pass(time.Second)
		if got := get[*corev1.Pod](c, api.Pods, metav1.NamespaceDefault, "late").Spec.NodeName; got != "node-1" {
			c.Errorf("a new pod is on %q", got)
		}
		says(corev1.NodeDiskPressure, corev1.ConditionFalse)
		says(corev1.NodeMemoryPressure, corev1.ConditionFalse)
		if got := taints(); !slices.Equal(got, []string{"team:PreferNoSchedule"}) {
			c.Errorf("taints %q", got)
		}
	})
}
