package scheduler_test

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/registry/registrytest"
)

func withPriority(n int32) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.Priority = &n } }

func labelled(value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels = map[string]string{"app": value} }
}

func (r *rig) get(name string) *corev1.Pod {
	r.Helper()
	o, err := r.Get(r.Context(), api.Pods, client.Key{Namespace: "default", Name: name}, client.GetOptions{})
	if err != nil {
		r.Fatal(err)
	}
	return o.(*corev1.Pod)
}

// end removes a pod that is marked for deletion, as its Node's peer does once it has ended.
func (r *rig) end(name string) {
	r.Helper()
	if _, err := r.Delete(r.Context(), api.Pods, client.Key{Namespace: "default", Name: name}, client.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		r.Fatal(err)
	}
}

func TestAMoreUrgentPodTakesTheRoomOfALesserOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) {
			r.node("n", "2")
			r.pod("lesser", "1")
			r.pod("peer", "1", withPriority(10))
		})
		synctest.Wait()
		r.pod("vip", "1", withPriority(10))
		pass(time.Second)
		lesser, vip := r.get("lesser"), r.get("vip")
		if lesser.DeletionTimestamp == nil || r.get("peer").DeletionTimestamp != nil {
			t.Fatal("the wrong one was told to go, or none")
		}
		c := api.PodCondition(lesser, corev1.DisruptionTarget)
		if c == nil || c.Reason != corev1.PodReasonPreemptionByScheduler {
			t.Errorf("the victim's condition: %+v", c)
		}
		if vip.Status.NominatedNodeName != "n" || vip.Spec.NodeName != "" {
			t.Errorf("nominated %q, on %q", vip.Status.NominatedNodeName, vip.Spec.NodeName)
		}
		pass(time.Second)
		r.pod("quick", "1") // comes just when there is room
		r.end("lesser")
		pass(10 * time.Second)
		if r.nodeOf("vip") != "n" || r.nodeOf("quick") != "" {
			t.Errorf("vip on %q, quick on %q", r.nodeOf("vip"), r.nodeOf("quick"))
		}
	})
}

func TestAPodThatMayNotPreemptWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) {
			r.node("n", "1")
			r.pod("lesser", "1")
		})
		synctest.Wait()
		r.pod("modest", "1", withPriority(10), func(p *corev1.Pod) { p.Spec.PreemptionPolicy = new(corev1.PreemptNever) })
		pass(time.Minute)
		if r.get("lesser").DeletionTimestamp != nil {
			t.Error("the lesser pod was told to go")
		}
	})
}

// The Master ends when a victim has been told to go: the next one waits for that, tells nobody else, and keeps the room.
func TestTheNextMasterKeepsTheRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, _ := registrytest.New(t)
		r := runRig(t, reg, func(r *rig) {
			r.node("n", "2")
			r.pod("a", "1")
			r.pod("b", "1")
		})
		synctest.Wait()
		r.pod("vip", "1", withPriority(10))
		pass(time.Second)
		r.stop()
		r.pod("quick", "1")
		r = runRig(t, reg, nil)
		pass(time.Minute)
		going := ""
		for _, name := range []string{"a", "b"} {
			if r.get(name).DeletionTimestamp != nil {
				going += name
			}
		}
		if len(going) != 1 {
			t.Fatalf("told to go: %q", going)
		}
		r.end(going)
		pass(10 * time.Second)
		if r.nodeOf("vip") != "n" || r.nodeOf("quick") != "" {
			t.Errorf("vip on %q, quick on %q", r.nodeOf("vip"), r.nodeOf("quick"))
		}
	})
}

// What other pods are where can make room for a pod, though no room was made on any node.
func TestAPodThatWaitsForNeighboursIsWokenByThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) {
			r.node("a", "4")
			r.node("b", "4")
		})
		term := corev1.PodAffinityTerm{LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, TopologyKey: "kubernetes.io/hostname"}
		r.pod("near", "1", func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term}}}
		})
		pass(time.Minute)
		if r.nodeOf("near") != "" {
			t.Fatal("it did not wait")
		}
		r.pod("web", "1", labelled("web"))
		pass(time.Minute)
		if r.nodeOf("near") == "" || r.nodeOf("near") != r.nodeOf("web") {
			t.Errorf("near on %q, web on %q", r.nodeOf("near"), r.nodeOf("web"))
		}
		apart := func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
				{LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}, TopologyKey: "kubernetes.io/hostname"},
			}}}
		}
		for _, name := range []string{"db1", "db2", "db3"} {
			r.pod(name, "1", labelled("db"), apart)
		}
		pass(time.Minute)
		waiting := map[string]string{}
		for _, name := range []string{"db1", "db2", "db3"} {
			if r.nodeOf(name) == "" {
				waiting["waits"] = name
			} else {
				waiting["runs"] = name
			}
		}
		r.end(waiting["runs"])
		pass(time.Minute)
		if r.nodeOf(waiting["waits"]) == "" {
			t.Errorf("%s still waits", waiting["waits"])
		}
	})
}
