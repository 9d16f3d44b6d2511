package scheduler_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

func together(group string, least int) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Labels = map[string]string{"pod-group.scheduling.sigs.k8s.io/name": group, "pod-group.scheduling.sigs.k8s.io/min-available": fmt.Sprint(least)}
	}
}

// have returns how many of the pods NAME-0 to NAME-(n-1) have a node.
func (r *rig) have(name string, n int) (have int) {
	r.Helper()
	for i := range n {
		if r.nodeOf(fmt.Sprint(name, "-", i)) != "" {
			have++
		}
	}
	return have
}

func (r *rig) says(name string) string {
	r.Helper()
	o, err := r.Get(r.Context(), api.Pods, client.Key{Namespace: "default", Name: name}, client.GetOptions{})
	if err != nil {
		r.Fatal(err)
	}
	if c := api.PodCondition(o.(*corev1.Pod), corev1.PodScheduled); c != nil {
		return c.Message
	}
	return ""
}

func TestAGroupGetsNodesTogetherOrNotAtAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.node("a", "2") })
		for i := range 3 {
			r.pod(fmt.Sprint("job-", i), "1", together("job", 4))
		}
		pass(time.Minute)
		if n := r.have("job", 3); n > 0 {
			t.Errorf("%d of three have a node, four are wanted", n)
		}
		if got, want := r.says("job-0"), `the pods of group "job" run together, 4 of them at least: there are 3`; got != want {
			t.Errorf("it says %q, want %q", got, want)
		}
		r.pod("job-3", "1", together("job", 4))
		pass(time.Minute)
		if n := r.have("job", 4); n > 0 {
			t.Errorf("%d of four have a node, two fit", n)
		}
		if got, want := r.says("job-1"), `the pods of group "job" run together, 4 of them at least: 2 would fit; 0/1 nodes are available: 1 Insufficient cpu.`; !strings.HasPrefix(got, want) {
			t.Errorf("it says %q, want %q", got, want)
		}
		r.pod("other", "2") // nothing was kept from it
		pass(time.Minute)
		if r.nodeOf("other") != "a" {
			t.Error("a pod that fits has no node")
		}
		r.node("b", "4")
		pass(time.Minute)
		if n := r.have("job", 4); n != 4 {
			t.Errorf("%d of four have a node, there is room for all", n)
		}
		r.pod("job-4", "100m", together("job", 4)) // the group is of use already
		pass(time.Minute)
		if n := r.have("job", 5); n != 4 {
			t.Errorf("%d of five have a node, four fit", n)
		}
	})
}

func TestTwoGroupsDoNotHoldEachOthersNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.node("a", "3") })
		for i := range 3 {
			r.pod(fmt.Sprint("x-", i), "1", together("x", 3))
			r.pod(fmt.Sprint("y-", i), "1", together("y", 3))
		}
		pass(time.Minute)
		if x, y := r.have("x", 3), r.have("y", 3); x+y != 3 || x != 0 && y != 0 {
			t.Errorf("%d of x and %d of y have a node", x, y)
		}
	})
}

func TestOneAloneIsNoGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.node("a", "3") })
		r.pod("solo-0", "1", together("solo", 1))
		r.pod("typo-0", "1", func(p *corev1.Pod) {
			p.Labels = map[string]string{"pod-group.scheduling.sigs.k8s.io/name": "typo", "pod-group.scheduling.sigs.k8s.io/min-available": "many"}
		})
		pass(time.Second)
		if r.have("solo", 1) != 1 || r.have("typo", 1) != 1 {
			t.Error("it has no node")
		}
	})
}

// TestABindingOfAGroupThatFailsIsTriedAgain while the others run.
func TestABindingOfAGroupThatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.node("a", "3") })
		r.backend.left.Store(2)
		for i := range 3 {
			r.pod(fmt.Sprint("x-", i), "1", together("x", 3))
		}
		pass(time.Minute)
		if n := r.have("x", 3); n != 3 {
			t.Errorf("%d of three have a node", n)
		}
	})
}
