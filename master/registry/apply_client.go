package registry

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"shoal/internal/api"
)

// Names that clients know: kubectl's when it applies on its own side, and of all who wrote before there were managedFields.
const (
	clientSideApply  = "kubectl-client-side-apply"
	beforeFirstApply = "before-first-apply"
)

// remembered returns live with the managedFields it would have had from the start, when it has none and was applied by a client that
// noted what it wanted: that much is the client's, and the rest belongs to those who changed it since. When kubectl goes over to
// server-side apply it takes over all that the owner of its note has, and removes what it no longer wants; without this, that would
// be everything.
func remembered(k *api.Kind, m *managedfields.FieldManager, live api.Object) api.Object {
	note := live.GetAnnotations()[corev1.LastAppliedConfigAnnotation]
	if note == "" || len(live.GetManagedFields()) > 0 {
		return live
	}
	config := &unstructured.Unstructured{}
	if json.Unmarshal([]byte(note), &config.Object) != nil || config.Object == nil {
		return live
	}
	config.SetGroupVersionKind(k.GroupVersionKind)
	config.SetName(live.GetName())
	config.SetNamespace(live.GetNamespace())
	annotations := config.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[corev1.LastAppliedConfigAnnotation] = note
	config.SetAnnotations(annotations)

	base := k.New()
	base.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
	base.SetName(live.GetName())
	base.SetNamespace(live.GetNamespace())
	applied, err := m.Apply(base, config, clientSideApply, true)
	if err != nil || applied == nil {
		return live
	}
	out, ok := m.UpdateNoErrors(applied, live.DeepCopyObject(), beforeFirstApply).(api.Object)
	if !ok {
		return live
	}
	entries := out.GetManagedFields()
	for i := range entries {
		if entries[i].Manager == clientSideApply {
			entries[i].Operation = metav1.ManagedFieldsOperationUpdate
		}
	}
	out.SetManagedFields(entries)
	return out
}
