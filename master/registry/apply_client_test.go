package registry_test

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/csaupgrade"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/registry"
	"shoal/master/registry/registrytest"
)

// What kubectl does when somebody goes over from client-side to server-side apply must leave alone what others set meanwhile.
func TestGoingOverToServerSideApplyKeepsWhatOthersSet(t *testing.T) {
	r, _ := registrytest.New(t)
	define(t, r)
	boats := boat(t, r, "v1")
	boat := newBoat(boats, "b", map[string]any{"hull": "wood"})
	boat.SetAnnotations(map[string]string{corev1.LastAppliedConfigAnnotation: `{"apiVersion":"sea.example.com/v1","kind":"Boat","metadata":{"name":"b","annotations":{"mine":"1"}},"spec":{"hull":"wood"}}`, "mine": "1"})
	settings := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "b", Annotations: map[string]string{
			corev1.LastAppliedConfigAnnotation: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b","annotations":{"mine":"1"}},"data":{"a":"1"}}`, "mine": "1",
		}},
		Data: map[string]string{"a": "1"},
	}
	for _, c := range []struct {
		kind            *api.Kind
		obj             api.Object
		other, applied  string
		section, others string
	}{
		{api.ConfigMaps, settings, `{"metadata":{"labels":{"old":"yes"}},"data":{"others":"1"}}`, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"},"data":{"a":"1"}}`, "data", "others"},
		{boats, boat, `{"metadata":{"labels":{"old":"yes"}},"spec":{"oars":7}}`, `{"apiVersion":"sea.example.com/v1","kind":"Boat","metadata":{"name":"b"},"spec":{"hull":"wood"}}`, "spec", "oars"},
	} {
		if _, err := r.Create(t.Context(), c.kind, c.obj, client.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		patch(t, r, c.kind, types.MergePatchType, c.other, client.PatchOptions{})
		apply := client.PatchOptions{FieldManager: "kubectl", Force: true}
		o := patch(t, r, c.kind, types.ApplyPatchType, c.applied, apply)
		if owners := csaupgrade.FindFieldsOwners(o.GetManagedFields(), metav1.ManagedFieldsOperationUpdate, fieldpath.NewSet(fieldpath.MakePathOrDie("metadata", "annotations", corev1.LastAppliedConfigAnnotation))); len(owners) != 1 || owners[0].Manager != "kubectl-client-side-apply" {
			t.Errorf("%s: the note belongs to %v", c.kind.Kind, owners)
		}
		upgrade, err := csaupgrade.UpgradeManagedFieldsPatch(o, sets.New("kubectl-client-side-apply"), "kubectl")
		if err != nil {
			t.Fatal(err)
		}
		patch(t, r, c.kind, types.JSONPatchType, string(upgrade), client.PatchOptions{FieldManager: "kubectl"})
		o = patch(t, r, c.kind, types.ApplyPatchType, c.applied, apply)
		u, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			t.Fatal(err)
		}
		if _, kept, _ := unstructured.NestedFieldNoCopy(u, c.section, c.others); !kept || o.GetLabels()["old"] != "yes" {
			t.Errorf("%s: what others set is gone: %v", c.kind.Kind, u)
		}
		if _, there := o.GetAnnotations()["mine"]; there {
			t.Errorf("%s: what is no longer wanted is still there", c.kind.Kind)
		}
		if !slices.ContainsFunc(o.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool { return e.Manager == "before-first-apply" }) {
			t.Errorf("%s: owners %v", c.kind.Kind, o.GetManagedFields())
		}
	}
}

func patch(t *testing.T, r *registry.Registry, k *api.Kind, how types.PatchType, body string, o client.PatchOptions) api.Object {
	t.Helper()
	out, err := r.Patch(t.Context(), k, client.Key{Namespace: "default", Name: "b"}, client.Patch{Type: how, Data: []byte(body)}, o)
	if err != nil {
		t.Fatal(err)
	}
	return out.(api.Object)
}
