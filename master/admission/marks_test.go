package admission

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

func TestNewObjectsAreMarkedOnce(t *testing.T) {
	chain := New(Config{Reader: newShelf()})
	admitTwice := func(k *api.Kind, o api.Object) {
		t.Helper()
		for range 2 {
			r := &Request{Operation: Create, Kind: k, Object: o, Key: client.Key{Namespace: o.GetNamespace()}}
			if err := chain.Admit(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
	}
	n := &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "own", Effect: corev1.TaintEffectNoExecute}}}}
	admitTwice(api.Nodes, n)
	if len(n.Spec.Taints) != 2 || n.Spec.Taints[1] != (corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}) {
		t.Errorf("taints of a new node: %v", n.Spec.Taints)
	}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Finalizers: []string{"own/one"}}}
	admitTwice(api.PersistentVolumeClaims, claim)
	if !slices.Equal(claim.Finalizers, []string{"own/one", api.FinalizerClaim}) {
		t.Errorf("finalizers of a new claim: %v", claim.Finalizers)
	}
	volume := &corev1.PersistentVolume{}
	admitTwice(api.PersistentVolumes, volume)
	if !slices.Equal(volume.Finalizers, []string{api.FinalizerVolume}) {
		t.Errorf("finalizers of a new volume: %v", volume.Finalizers)
	}
}
