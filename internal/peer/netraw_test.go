package peer

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
)

// A pod that admission took NET_RAW from is applied again, by the server and as older kubectls do, and nothing changes.
func TestAPodWithoutNetRawIsAppliedAgain(t *testing.T) {
	r := startPeers(t, 1)[0].registry
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team", Labels: map[string]string{api.NetRawLabel: api.NetRawDrop}}}
	if _, err := r.Create(t.Context(), api.Namespaces, ns, client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Create(t.Context(), api.ServiceAccounts, &corev1.ServiceAccount{ObjectMeta: in("team", "default")}, client.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	const manifest = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"NAME","namespace":"team"},"spec":{"nodeName":"peer-1","containers":[
		{"name":"a","image":"x","securityContext":{"capabilities":{"drop":["CHOWN"]}}},{"name":"b","image":"x"}]}}`
	patch := func(name string, kind types.PatchType) *corev1.Pod {
		t.Helper()
		p := client.Patch{Type: kind, Data: []byte(strings.ReplaceAll(manifest, "NAME", name))}
		out, err := r.Patch(t.Context(), api.Pods, client.Key{Namespace: "team", Name: name}, p, client.PatchOptions{FieldManager: "test"})
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		return out.(*corev1.Pod)
	}
	plain := podOn("plain", "peer-1")
	plain.Namespace, plain.Spec.Containers = "team", []corev1.Container{{Name: "a", Image: "x", SecurityContext: &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"CHOWN"}}}}, {Name: "b", Image: "x"}}
	made, err := r.Create(t.Context(), api.Pods, plain, client.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for kind, first := range map[types.PatchType]*corev1.Pod{types.ApplyPatchType: patch("applied", types.ApplyPatchType), types.StrategicMergePatchType: made.(*corev1.Pod)} {
		for i := range first.Spec.Containers {
			if drop := first.Spec.Containers[i].SecurityContext.Capabilities.Drop; drop[len(drop)-1] != "NET_RAW" {
				t.Errorf("container %d drops %v", i, drop)
			}
		}
		if again := patch(first.Name, kind); again.ResourceVersion != first.ResourceVersion {
			t.Errorf("%s again: %s", kind, cmp.Diff(first, again))
		}
	}
}
