package registry_test

import (
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/registry/registrytest"
)

// Patches are made from the stored object, so that they name its version without the client.
func TestALeaseIsUpdatedOnlyFromAVersion(t *testing.T) {
	r, _ := registrytest.New(t)
	key := client.Key{Namespace: "ns", Name: "l"}
	holder := "a"
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	if _, err := r.Update(t.Context(), api.Leases, lease, client.UpdateOptions{}); err != nil {
		t.Fatalf("an update that creates: %v", err)
	}
	lease.Spec.HolderIdentity = &holder
	if _, err := r.Update(t.Context(), api.Leases, lease, client.UpdateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("without a version: %v", err)
	}
	fresh := get(t, r, api.Leases, "l").(*coordinationv1.Lease).DeepCopy()
	fresh.Spec.HolderIdentity = &holder
	if _, err := r.Update(t.Context(), api.Leases, fresh, client.UpdateOptions{}); err != nil {
		t.Errorf("with its version: %v", err)
	}
	for _, p := range []client.Patch{
		{Type: types.MergePatchType, Data: []byte(`{"spec":{"holderIdentity":"b"}}`)},
		{Type: types.ApplyPatchType, Data: []byte(`{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"l"},"spec":{"leaseTransitions":1}}`)},
	} {
		if _, err := r.Patch(t.Context(), api.Leases, key, p, client.PatchOptions{FieldManager: "m"}); err != nil {
			t.Errorf("%s: %v", p.Type, err)
		}
	}
	if _, err := r.Delete(t.Context(), api.Leases, key, client.DeleteOptions{}); err != nil {
		t.Errorf("delete: %v", err)
	}
}
