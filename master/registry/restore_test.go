package registry_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/registry"
	"shoal/master/registry/registrytest"
)

func service(ns, name, ip string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Port: 80}}, Selector: map[string]string{"a": "b"}},
	}
}

// backupOf copies a log's store as a backup does.
func backupOf(t *testing.T, l *registrytest.Log) *store.Store {
	t.Helper()
	var b bytes.Buffer
	out := store.New()
	if err := l.Store().Snapshot(&b); err != nil {
		t.Fatal(err)
	}
	if err := out.Restore(&b); err != nil {
		t.Fatal(err)
	}
	return out
}

// past makes a cluster with two namespaces and returns its backup.
func past(t *testing.T, r *registry.Registry, l *registrytest.Log) *store.Store {
	t.Helper()
	for _, ns := range []string{"ns", "other"} {
		create(t, r, api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})
		create(t, r, api.Services, service(ns, "web", ""))
	}
	create(t, r, api.ConfigMaps, configMap("kept", "k", "1"))
	create(t, r, api.ConfigMaps, configMap("changed", "k", "1"))
	create(t, r, api.ConfigMaps, configMap("lost", "k", "1"))
	create(t, r, api.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "old-machine"}})
	create(t, r, api.Pods, pod("bare", "old-machine"))
	made := pod("made", "old-machine")
	yes := true
	made.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ReplicationController", Name: "rc", UID: "u", Controller: &yes}}
	create(t, r, api.Pods, made)
	return backupOf(t, l)
}

func restore(t *testing.T, r *registry.Registry, from *store.Store, namespace string, dryRun bool) api.Restored {
	t.Helper()
	got, err := r.Restore(t.Context(), from, namespace, dryRun)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestANamespaceIsRestored(t *testing.T) {
	r, l := registrytest.New(t)
	from := past(t, r, l)
	ctx := t.Context()
	uid := get(t, r, api.ConfigMaps, "lost").GetUID()
	web := get(t, r, api.Services, "web").(*corev1.Service)
	for name, k := range map[string]*api.Kind{"lost": api.ConfigMaps, "web": api.Services, "bare": api.Pods} {
		if _, err := r.Delete(ctx, k, client.Key{Namespace: "ns", Name: name}, client.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
			t.Fatal(err)
		}
	}
	cm := get(t, r, api.ConfigMaps, "changed").(*corev1.ConfigMap).DeepCopy()
	cm.Data["k"] = "2"
	if _, err := r.Update(ctx, api.ConfigMaps, cm, client.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	create(t, r, api.ConfigMaps, configMap("new"))
	other := configMap("elsewhere")
	other.Namespace = "other"
	create(t, r, api.ConfigMaps, other)

	before := l.Store().Rev()
	// The Service and its address, the map and the pod; the changed map; the new one.
	want := api.Restored{Created: 4, Replaced: 1, Deleted: 1, Same: 2}
	if d := cmp.Diff(want, restore(t, r, from, "ns", true)); d != "" {
		t.Errorf("dry run: %s", d)
	}
	if l.Store().Rev() != before {
		t.Error("the dry run wrote")
	}
	want.Done = true
	if d := cmp.Diff(want, restore(t, r, from, "ns", false)); d != "" {
		t.Errorf("%s", d)
	}
	if got := get(t, r, api.ConfigMaps, "lost"); got.GetUID() != uid {
		t.Error("the map is another one")
	}
	if got := get(t, r, api.Services, "web").(*corev1.Service); got.Spec.ClusterIP != web.Spec.ClusterIP {
		t.Errorf("the Service has %s, not %s", got.Spec.ClusterIP, web.Spec.ClusterIP)
	}
	if got := get(t, r, api.ConfigMaps, "changed").(*corev1.ConfigMap); got.Data["k"] != "1" {
		t.Errorf("the map says %v", got.Data)
	}
	if p := get(t, r, api.Pods, "bare").(*corev1.Pod); p.Spec.NodeName != "" || p.Status.Phase != corev1.PodPending {
		t.Errorf("the pod is on %q, %s", p.Spec.NodeName, p.Status.Phase)
	}
	if p := get(t, r, api.Pods, "made").(*corev1.Pod); p.Spec.NodeName != "old-machine" {
		t.Error("a pod that runs was touched")
	}
	for _, gone := range []client.Key{{Namespace: "ns", Name: "new"}} {
		if _, err := r.Get(ctx, api.ConfigMaps, gone, client.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("%v: %v", gone, err)
		}
	}
	if _, err := r.Get(ctx, api.ConfigMaps, client.Key{Namespace: "other", Name: "elsewhere"}, client.GetOptions{}); err != nil {
		t.Errorf("another namespace was touched: %v", err)
	}
	if again := restore(t, r, from, "ns", true); again.Created+again.Replaced+again.Deleted != 0 {
		t.Errorf("a second restore would do %+v", again)
	}
}

func TestARestoreTakesNoAddressAway(t *testing.T) {
	r, l := registrytest.New(t)
	from := past(t, r, l)
	ip := get(t, r, api.Services, "web").(*corev1.Service).Spec.ClusterIP
	if _, err := r.Delete(t.Context(), api.Services, client.Key{Namespace: "ns", Name: "web"}, client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	create(t, r, api.Services, service("other", "usurper", ip))
	before := l.Store().Rev()
	got := restore(t, r, from, "ns", false)
	if len(got.Taken) != 1 || got.Done || !strings.Contains(got.Taken[0], ip) || !strings.Contains(got.Taken[0], "services/other/usurper") {
		t.Errorf("got %+v", got)
	}
	if l.Store().Rev() != before {
		t.Error("something was done")
	}
}

// TestEverythingIsRestoredElsewhere puts a backup into a cluster of other machines, in steps of which an answer is lost.
func TestEverythingIsRestoredElsewhere(t *testing.T) {
	r, l := registrytest.New(t)
	for i := range 1200 { // three steps
		create(t, r, api.ConfigMaps, configMap("many-"+string(rune('a'+i/26/26))+string(rune('a'+i/26%26))+string(rune('a'+i%26))))
	}
	from := past(t, r, l)
	there, m := registrytest.New(t)
	create(t, there, api.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "new-machine"}})
	create(t, there, api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "after"}})
	m.LoseAnswers(1)
	if _, err := there.Restore(t.Context(), from, "", false); err == nil {
		t.Error("a lost answer is no error")
	}
	restore(t, there, from, "", false)
	if n := len(list(t, there, api.ConfigMaps)); n != 1203 {
		t.Errorf("%d maps", n)
	}
	if got := names(list(t, there, api.Nodes)); got != "new-machine" {
		t.Errorf("the nodes are %s", got)
	}
	if got := names(list(t, there, api.Namespaces)); got != "ns other" {
		t.Errorf("the namespaces are %s", got)
	}
	if got := names(list(t, there, api.Pods)); got != "bare" {
		t.Errorf("the pods are %s", got)
	}
	if _, err := there.Restore(t.Context(), from, "nowhere", false); !apierrors.IsBadRequest(err) {
		t.Errorf("a namespace that is not in it: %v", err)
	}
}

func list(t *testing.T, r *registry.Registry, k *api.Kind) []api.Object {
	t.Helper()
	l, err := r.List(context.WithoutCancel(t.Context()), k, client.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return l.Items
}

func names(all []api.Object) string {
	var out []string
	for _, o := range all {
		out = append(out, o.GetName())
	}
	return strings.Join(out, " ")
}

func TestAnObjectHasAHistory(t *testing.T) {
	r, l := registrytest.New(t)
	key := client.Key{Namespace: "ns", Name: "a"}
	if _, err := r.History(t.Context(), api.ConfigMaps, key); !apierrors.IsNotFound(err) {
		t.Errorf("nothing has a history: %v", err)
	}
	cm := create(t, r, api.ConfigMaps, configMap("a", "k", "1")).(*corev1.ConfigMap).DeepCopy()
	cm.Data["k"] = "2"
	if _, err := r.Update(t.Context(), api.ConfigMaps, cm, client.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	changed := l.Store().Rev()
	if _, err := r.Delete(t.Context(), api.ConfigMaps, key, client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	create(t, r, api.ConfigMaps, configMap("a", "k", "3"))
	h, err := r.History(t.Context(), api.ConfigMaps, key)
	if err != nil {
		t.Fatal(err)
	}
	told := func(h *api.History) (out []string) {
		for _, v := range h.Revisions {
			switch {
			case v.Deleted:
				out = append(out, "deleted")
			case v.Created:
				out = append(out, "created")
			default:
				out = append(out, "changed")
			}
		}
		return out
	}
	if d := cmp.Diff([]string{"created", "deleted", "changed", "created"}, told(h)); d != "" {
		t.Error(d)
	}
	if !strings.Contains(string(h.Revisions[2].Object), `"k":"2"`) || !strings.Contains(string(h.Revisions[2].Object), changed.String()) {
		t.Errorf("it was %s", h.Revisions[2].Object)
	}
	if _, err := l.Propose(t.Context(), store.Txn{Compact: changed}); err != nil {
		t.Fatal(err)
	}
	if h, err = r.History(t.Context(), api.ConfigMaps, key); err != nil || h.Oldest != uint64(changed) {
		t.Errorf("oldest %d, %v", h.Oldest, err)
	}
	if d := cmp.Diff([]string{"created", "deleted", "changed"}, told(h)); d != "" {
		t.Error(d)
	}
}
