package auth

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWhatANodeSaysOfItself(t *testing.T) {
	labelled := func(pairs ...string) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{}}}
		for i := 0; i < len(pairs); i += 2 {
			n.Labels[pairs[i]] = pairs[i+1]
		}
		return n
	}
	tainted, owned := labelled(), labelled()
	tainted.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}}
	owned.OwnerReferences = []metav1.OwnerReference{{Name: "x"}}
	for name, tc := range map[string]struct {
		old, is *corev1.Node
		ok      bool
	}{
		"nothing new":                       {labelled("node-restriction.kubernetes.io/x", "1"), labelled("node-restriction.kubernetes.io/x", "1"), true},
		"its own labels":                    {labelled(), labelled("kubernetes.io/hostname", "a", "topology.kubernetes.io/zone", "z", "node.kubernetes.io/x", "1", "a.kubelet.kubernetes.io/x", "1"), true},
		"labels that are not Kubernetes'":   {labelled("a/rack", "1"), labelled("plain", "x", "a/rack", "2"), true},
		"a new Node":                        {nil, labelled("kubernetes.io/os", "linux"), true},
		"a new Node with taints":            {nil, tainted, true},
		"a new Node with a role":            {nil, labelled("node-role.kubernetes.io/control-plane", ""), false},
		"a label of who may come":           {labelled(), labelled("node-restriction.kubernetes.io/x", "1"), false},
		"one below such a name":             {labelled(), labelled("a.node-restriction.kubernetes.io/x", "1"), false},
		"another value":                     {labelled("node-restriction.kubernetes.io/x", "1"), labelled("node-restriction.kubernetes.io/x", "2"), false},
		"without it":                        {labelled("node-restriction.kubernetes.io/x", ""), labelled(), false},
		"any of Kubernetes' names":          {labelled(), labelled("x.k8s.io/y", "1"), false},
		"its taints":                        {labelled(), tainted, false},
		"its taints, taken away":            {tainted, labelled(), false},
		"its owners":                        {labelled(), owned, false},
		"a name that only ends like theirs": {labelled(), labelled("notkubernetes.io/x", "1"), true},
	} {
		if err := CheckNodeChange(node("a"), tc.old, tc.is); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err := CheckNodeChange(jane, tc.old, tc.is); err != nil {
			t.Errorf("%s, by a user: %v", name, err)
		}
	}
}

func TestANodeDoesNotLabelPods(t *testing.T) {
	was, is := &corev1.Pod{}, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "bank"}}}
	if CheckPodStatus(node("a"), was, is) == nil || CheckPodStatus(node("a"), is, was) == nil || CheckPodStatus(node("a"), is, is) != nil || CheckPodStatus(jane, was, is) != nil {
		t.Error("a node changes the labels of a pod")
	}
}
