package clienttest

import (
	"reflect"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
)

func deleteLaws() []law {
	return []law{
		{"DeleteRemoves", deleteRemoves},
		{"DeleteOfAMissingObjectIsNotFound", deleteMissing},
		{"DeleteOfAnotherUIDIsConflict", deleteOtherUID},
		{"DeleteOfAnotherRevisionIsConflict", deleteOtherRevision},
		{"APodOnANodeEndsGracefully", deletePod},
		{"APodOnNoNodeGoesAtOnce", deletePendingPod},
		{"FinalizersHoldADeletedObject", deleteFinalizers},
		{"AnObjectMadeAgainIsAnother", deleteAndCreate},
	}
}

func (e *env) wantGone(k *api.Kind, name string) {
	e.Helper()
	_, err := e.c.Get(e.ctx, k, e.key(name), client.GetOptions{})
	e.wantReason(err, metav1.StatusReasonNotFound)
}

func deleteRemoves(e *env) {
	create(e, api.ConfigMaps, e.configMap("a", "1"))
	if _, err := e.c.Delete(e.ctx, api.ConfigMaps, e.key("a"), client.DeleteOptions{}); err != nil {
		e.Fatal(err)
	}
	e.wantGone(api.ConfigMaps, "a")
}

func deleteMissing(e *env) {
	_, err := e.c.Delete(e.ctx, api.ConfigMaps, e.key("none"), client.DeleteOptions{})
	e.wantReason(err, metav1.StatusReasonNotFound)
}

func deleteOtherUID(e *env) {
	cm := create(e, api.ConfigMaps, e.configMap("a", "1"))
	other := types.UID("5f7a4c4e-0000-4000-8000-000000000000")
	_, err := e.c.Delete(e.ctx, api.ConfigMaps, e.key("a"), client.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &other}})
	e.wantReason(err, metav1.StatusReasonConflict)
	_, err = e.c.Delete(e.ctx, api.ConfigMaps, e.key("a"), client.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &cm.UID}})
	if err != nil {
		e.Fatal(err)
	}
}

func deleteOtherRevision(e *env) {
	cm := create(e, api.ConfigMaps, e.configMap("a", "1"))
	old := cm.ResourceVersion
	cm.Data["v"] = "2"
	update(e, api.ConfigMaps, cm, "")
	_, err := e.c.Delete(e.ctx, api.ConfigMaps, e.key("a"), client.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &old}})
	e.wantReason(err, metav1.StatusReasonConflict)
}

func deletePod(e *env) {
	p := e.pod("a")
	p.Spec.NodeName = "law-node"
	p.Spec.TerminationGracePeriodSeconds = new(int64(60))
	create(e, api.Pods, p)
	if _, err := e.c.Delete(e.ctx, api.Pods, e.key("a"), client.DeleteOptions{}); err != nil {
		e.Fatal(err)
	}
	got := get[*corev1.Pod](e, api.Pods, "a")
	if got.DeletionTimestamp == nil || got.DeletionGracePeriodSeconds == nil || *got.DeletionGracePeriodSeconds != 60 {
		e.Fatalf("metadata is %+v", got.ObjectMeta)
	}
	if _, err := e.c.Delete(e.ctx, api.Pods, e.key("a"), client.DeleteOptions{}); err != nil {
		e.Fatal(err)
	}
	e.forcePodGone("a")
	e.wantGone(api.Pods, "a")
}

func deletePendingPod(e *env) {
	create(e, api.Pods, e.pod("a"))
	if _, err := e.c.Delete(e.ctx, api.Pods, e.key("a"), client.DeleteOptions{}); err != nil {
		e.Fatal(err)
	}
	e.wantGone(api.Pods, "a")
}

func deleteFinalizers(e *env) {
	cm := e.configMap("a", "1")
	cm.Finalizers = []string{"example.org/hold"}
	create(e, api.ConfigMaps, cm)
	if _, err := e.c.Delete(e.ctx, api.ConfigMaps, e.key("a"), client.DeleteOptions{}); err != nil {
		e.Fatal(err)
	}
	held := get[*corev1.ConfigMap](e, api.ConfigMaps, "a")
	if held.DeletionTimestamp == nil {
		e.Fatal("a deleted object with a finalizer is not marked")
	}
	held.Finalizers = nil
	update(e, api.ConfigMaps, held, "")
	e.wantGone(api.ConfigMaps, "a")
}

func deleteAndCreate(e *env) {
	first := create(e, api.ConfigMaps, e.configMap("a", "1"))
	if _, err := e.c.Delete(e.ctx, api.ConfigMaps, e.key("a"), client.DeleteOptions{}); err != nil {
		e.Fatal(err)
	}
	second := create(e, api.ConfigMaps, e.configMap("a", "2"))
	if first.UID == second.UID || !reflect.DeepEqual(second.Data, map[string]string{"v": "2"}) {
		e.Fatalf("first %s, second %s %v", first.UID, second.UID, second.Data)
	}
}
