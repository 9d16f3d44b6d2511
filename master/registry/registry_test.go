package registry_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/registry"
	"shoal/master/registry/registrytest"
)

func configMap(name string, data ...string) *corev1.ConfigMap {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	for i := 0; i+1 < len(data); i += 2 {
		if cm.Data == nil {
			cm.Data = map[string]string{}
		}
		cm.Data[data[i]] = data[i+1]
	}
	return cm
}

func pod(name, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
}

func create(t *testing.T, c client.Interface, k *api.Kind, obj api.Object) api.Object {
	t.Helper()
	out, err := c.Create(t.Context(), k, obj, client.CreateOptions{})
	if err != nil {
		t.Fatalf("create %s: %v", obj.GetName(), err)
	}
	return out.(api.Object)
}

func get(t *testing.T, c client.Interface, k *api.Kind, name string) api.Object {
	t.Helper()
	key := client.Key{Name: name}
	if k.Namespaced {
		key.Namespace = "ns"
	}
	out, err := c.Get(t.Context(), k, key, client.GetOptions{})
	if err != nil {
		t.Fatalf("get %s: %v", name, err)
	}
	return out
}

func TestCreateCompletesMetadataAndReadsBack(t *testing.T) {
	r, _ := registrytest.New(t)
	in := configMap("a", "k", "v")
	out := create(t, r, api.ConfigMaps, in)
	if out.GetUID() == "" || out.GetResourceVersion() == "" || out.GetCreationTimestamp().Time.IsZero() {
		t.Errorf("metadata is incomplete: %+v", out)
	}
	if in.UID != "" {
		t.Error("the caller's object was changed")
	}
	if d := cmp.Diff(out, get(t, r, api.ConfigMaps, "a")); d != "" {
		t.Errorf("what is read differs from what was answered: %s", d)
	}
	if _, err := r.Create(t.Context(), api.ConfigMaps, in, client.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("second create: %v", err)
	}
}

func TestGenerateNameIsRandomAndKept(t *testing.T) {
	r, _ := registrytest.New(t)
	seen := map[string]bool{}
	for range 20 {
		cm := configMap("")
		cm.GenerateName = "x-"
		out := create(t, r, api.ConfigMaps, cm)
		if seen[out.GetName()] || len(out.GetName()) != len("x-")+5 {
			t.Fatalf("name %q", out.GetName())
		}
		seen[out.GetName()] = true
	}
}

func TestUpdateNeedsTheStoredRevision(t *testing.T) {
	r, _ := registrytest.New(t)
	first := create(t, r, api.ConfigMaps, configMap("a", "k", "1")).(*corev1.ConfigMap)
	second := first.DeepCopy()
	second.Data["k"] = "2"
	if _, err := r.Update(t.Context(), api.ConfigMaps, second, client.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	third := first.DeepCopy()
	third.Data["k"] = "3"
	if _, err := r.Update(t.Context(), api.ConfigMaps, third, client.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("update from a stale revision: %v", err)
	}
	third.ResourceVersion = ""
	if _, err := r.Update(t.Context(), api.ConfigMaps, third, client.UpdateOptions{}); err != nil {
		t.Errorf("unconditional update: %v", err)
	}
}

func TestUpdateThatChangesNothingMakesNoRevision(t *testing.T) {
	r, l := registrytest.New(t)
	cm := create(t, r, api.ConfigMaps, configMap("a", "k", "1"))
	before := l.Store().Rev()
	out, err := r.Update(t.Context(), api.ConfigMaps, cm, client.UpdateOptions{})
	if err != nil || out.(api.Object).GetResourceVersion() != cm.GetResourceVersion() {
		t.Errorf("got %v, %v", out, err)
	}
	patch := client.Patch{Type: types.MergePatchType, Data: []byte(`{"data":{"k":"1"}}`)}
	if _, err := r.Patch(t.Context(), api.ConfigMaps, client.Key{Namespace: "ns", Name: "a"}, patch, client.PatchOptions{}); err != nil {
		t.Error(err)
	}
	if after := l.Store().Rev(); after != before {
		t.Errorf("revision went from %d to %d", before, after)
	}
}

func TestStatusAndSpecHaveSeparateWaysIn(t *testing.T) {
	r, _ := registrytest.New(t)
	p := create(t, r, api.Pods, pod("p", "")).(*corev1.Pod)
	p = p.DeepCopy()
	p.Status.Phase = corev1.PodRunning
	p.Labels = map[string]string{"a": "b"}
	out, err := r.Update(t.Context(), api.Pods, p, client.UpdateOptions{})
	if err != nil || out.(*corev1.Pod).Status.Phase != corev1.PodPending {
		t.Fatalf("an update of the object changed its status: %v %v", out, err)
	}
	p = out.(*corev1.Pod).DeepCopy()
	p.Status.Phase = corev1.PodRunning
	p.Spec.Containers[0].Image = "other"
	out, err = r.Update(t.Context(), api.Pods, p, client.UpdateOptions{Subresource: "status"})
	if err != nil {
		t.Fatal(err)
	}
	if got := out.(*corev1.Pod); got.Status.Phase != corev1.PodRunning || got.Spec.Containers[0].Image != "i" {
		t.Errorf("an update of the status gave %+v", got)
	}
}

func TestPodIsBoundOnce(t *testing.T) {
	r, _ := registrytest.New(t)
	create(t, r, api.Pods, pod("p", ""))
	key := client.Key{Namespace: "ns", Name: "p"}
	bind := func(node string) error {
		b := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Target: corev1.ObjectReference{Kind: "Node", Name: node}}
		_, err := r.Create(t.Context(), api.Pods, b, client.CreateOptions{Subresource: "binding", Key: key})
		return err
	}
	if err := bind("n1"); err != nil {
		t.Fatal(err)
	}
	if err := bind("n2"); !apierrors.IsConflict(err) {
		t.Errorf("second binding: %v", err)
	}
	p := get(t, r, api.Pods, "p").(*corev1.Pod)
	if p.Spec.NodeName != "n1" || len(p.Status.Conditions) != 1 || p.Status.Conditions[0].Status != corev1.ConditionTrue {
		t.Errorf("bound pod: %+v", p)
	}
}

func TestPodThatRunsEndsGracefully(t *testing.T) {
	r, _ := registrytest.New(t)
	create(t, r, api.Pods, pod("runs", "n1"))
	create(t, r, api.Pods, pod("waits", ""))
	del := func(name string, grace *int64) (api.Object, error) {
		return r.Delete(t.Context(), api.Pods, client.Key{Namespace: "ns", Name: name}, client.DeleteOptions{GracePeriodSeconds: grace})
	}
	if _, err := del("waits", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Get(t.Context(), api.Pods, client.Key{Namespace: "ns", Name: "waits"}, client.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("an unscheduled pod is still there: %v", err)
	}
	out, err := del("runs", nil)
	if err != nil || out.GetDeletionTimestamp() == nil || *out.GetDeletionGracePeriodSeconds() != 30 {
		t.Fatalf("first deletion: %+v %v", out, err)
	}
	short := int64(5)
	if out, err = del("runs", &short); err != nil || *out.GetDeletionGracePeriodSeconds() != 5 {
		t.Errorf("shorter grace: %+v %v", out, err)
	}
	long := int64(60)
	if out, err = del("runs", &long); err != nil || *out.GetDeletionGracePeriodSeconds() != 5 {
		t.Errorf("longer grace: %+v %v", out, err)
	}
	zero := int64(0)
	if _, err = del("runs", &zero); err != nil {
		t.Error(err)
	}
	if _, err := r.Get(t.Context(), api.Pods, client.Key{Namespace: "ns", Name: "runs"}, client.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("pod is still there: %v", err)
	}
}

func TestFinalizerHoldsObjectUntilRemoved(t *testing.T) {
	r, _ := registrytest.New(t)
	cm := configMap("a")
	cm.Finalizers = []string{"example.com/hold"}
	create(t, r, api.ConfigMaps, cm)
	key := client.Key{Namespace: "ns", Name: "a"}
	out, err := r.Delete(t.Context(), api.ConfigMaps, key, client.DeleteOptions{})
	if err != nil || out.GetDeletionTimestamp() == nil {
		t.Fatalf("marked: %+v %v", out, err)
	}
	patch := client.Patch{Type: types.MergePatchType, Data: []byte(`{"metadata":{"finalizers":null}}`)}
	if _, err := r.Patch(t.Context(), api.ConfigMaps, key, patch, client.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Get(t.Context(), api.ConfigMaps, key, client.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("still there: %v", err)
	}
}

func TestNamespaceTerminatesUntilFinalized(t *testing.T) {
	r, _ := registrytest.New(t)
	ns := create(t, r, api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}}).(*corev1.Namespace)
	if ns.Status.Phase != corev1.NamespaceActive || ns.Labels[corev1.LabelMetadataName] != "team" {
		t.Errorf("new namespace: %+v", ns)
	}
	out, err := r.Delete(t.Context(), api.Namespaces, client.Key{Name: "team"}, client.DeleteOptions{})
	if err != nil || out.(*corev1.Namespace).Status.Phase != corev1.NamespaceTerminating {
		t.Fatalf("deleted: %+v %v", out, err)
	}
	done := out.DeepCopyObject().(*corev1.Namespace)
	done.Spec.Finalizers = nil
	if _, err := r.Update(t.Context(), api.Namespaces, done, client.UpdateOptions{Subresource: "finalize"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Get(t.Context(), api.Namespaces, client.Key{Name: "team"}, client.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("still there: %v", err)
	}
}

func TestListPagesShowOneRevision(t *testing.T) {
	r, _ := registrytest.New(t)
	for i := range 7 {
		create(t, r, api.ConfigMaps, configMap(fmt.Sprintf("cm%d", i)))
	}
	ctx := t.Context()
	first, err := r.List(ctx, api.ConfigMaps, client.ListOptions{Namespace: "ns", Limit: 3})
	if err != nil || len(first.Items) != 3 || *first.RemainingItemCount != 4 {
		t.Fatalf("first page: %+v %v", first, err)
	}
	if _, err := r.Delete(ctx, api.ConfigMaps, client.Key{Namespace: "ns", Name: "cm4"}, client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	create(t, r, api.ConfigMaps, configMap("cm31"))
	var names []string
	for page := first; ; {
		for _, o := range page.Items {
			names = append(names, o.GetName())
		}
		if page.Continue == "" {
			break
		}
		if page, err = r.List(ctx, api.ConfigMaps, client.ListOptions{Namespace: "ns", Limit: 3, Continue: page.Continue}); err != nil {
			t.Fatal(err)
		}
		if page.ResourceVersion != first.ResourceVersion {
			t.Errorf("pages at revisions %s and %s", first.ResourceVersion, page.ResourceVersion)
		}
	}
	if d := cmp.Diff([]string{"cm0", "cm1", "cm2", "cm3", "cm4", "cm5", "cm6"}, names); d != "" {
		t.Error(d)
	}
}

func TestReadAheadOfReplicaTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := registrytest.New(t)
		create(t, r, api.ConfigMaps, configMap("a"))
		start := time.Now()
		_, err := r.List(t.Context(), api.ConfigMaps, client.ListOptions{ResourceVersion: "1000"})
		if !apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge) || !apierrors.IsTimeout(err) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("after %v", took)
		}
	})
}

type seen struct {
	Type watch.EventType
	Name string
}

func next(t *testing.T, w client.Watch, n int) []seen {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var out []seen
	for len(out) < n {
		evs, err := w.Next(ctx)
		if err != nil {
			t.Fatalf("after %v: %v", out, err)
		}
		for _, ev := range evs {
			out = append(out, seen{ev.Type, ev.Object.GetName()})
		}
	}
	return out
}

func TestWatchShowsEnteringAndLeavingASelection(t *testing.T) {
	r, _ := registrytest.New(t)
	ctx := t.Context()
	key := client.Key{Namespace: "ns", Name: "a"}
	list, err := r.List(ctx, api.ConfigMaps, client.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sel, _ := labels.Parse("x=1")
	w, err := r.Watch(ctx, api.ConfigMaps, client.ListOptions{Namespace: "ns", Labels: sel, ResourceVersion: list.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	label := func(v string) {
		t.Helper()
		patch := client.Patch{Type: types.MergePatchType, Data: []byte(`{"metadata":{"labels":{"x":` + v + `}}}`)}
		if _, err := r.Patch(ctx, api.ConfigMaps, key, patch, client.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	create(t, r, api.ConfigMaps, configMap("a"))
	label(`"1"`)
	label(`"2"`)
	label(`"1"`)
	if _, err := r.Delete(ctx, api.ConfigMaps, key, client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	want := []seen{{watch.Added, "a"}, {watch.Deleted, "a"}, {watch.Added, "a"}, {watch.Deleted, "a"}}
	if d := cmp.Diff(want, next(t, w, len(want))); d != "" {
		t.Error(d)
	}
}

func TestWatchOfANodeSeesOnlyItsPods(t *testing.T) {
	r, _ := registrytest.New(t)
	create(t, r, api.Pods, pod("before", "n1"))
	sel := fields.OneTermEqualSelector("spec.nodeName", "n1")
	w, err := r.Watch(t.Context(), api.Pods, client.ListOptions{Fields: sel, ResourceVersion: "0"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	create(t, r, api.Pods, pod("other", "n2"))
	create(t, r, api.Pods, pod("mine", "n1"))
	want := []seen{{watch.Added, "before"}, {watch.Added, "mine"}}
	if d := cmp.Diff(want, next(t, w, 2)); d != "" {
		t.Error(d)
	}
}

func TestWatchOlderThanTheFeedReadsTheStore(t *testing.T) {
	for what, set := range map[string]func(*registry.Config){
		"many changes": func(c *registry.Config) { c.Window = 4 },
		"many bytes":   func(c *registry.Config) { c.WindowBytes = 200 },
	} {
		t.Run(what, func(t *testing.T) {
			c := registrytest.Config(registrytest.NewLog())
			set(&c)
			watchFromTheBeginning(t, registrytest.Start(t, c))
		})
	}
}

func watchFromTheBeginning(t *testing.T, r *registry.Registry) {
	first := create(t, r, api.ConfigMaps, configMap("cm0"))
	var want []seen
	for i := 1; i < 50; i++ {
		name := fmt.Sprintf("cm%d", i)
		create(t, r, api.ConfigMaps, configMap(name))
		want = append(want, seen{watch.Added, name})
	}
	w, err := r.Watch(t.Context(), api.ConfigMaps, client.ListOptions{Namespace: "ns", ResourceVersion: first.GetResourceVersion()})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if d := cmp.Diff(want, next(t, w, len(want))); d != "" {
		t.Error(d)
	}
	create(t, r, api.ConfigMaps, configMap("last"))
	if d := cmp.Diff([]seen{{watch.Added, "last"}}, next(t, w, 1)); d != "" {
		t.Error(d)
	}
}

// TestADeletionWaitsForDependentsOnlyWhereSomebodyTendsThem deletes an object of each way to treat dependents.
func TestADeletionWaitsForDependentsOnlyWhereSomebodyTendsThem(t *testing.T) {
	for _, policy := range []metav1.DeletionPropagation{metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan, metav1.DeletePropagationBackground} {
		for _, k := range []*api.Kind{api.ConfigMaps, api.Events} {
			r, _ := registrytest.New(t)
			var obj api.Object = configMap("a")
			if k == api.Events {
				obj = &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a"}, InvolvedObject: corev1.ObjectReference{Namespace: "ns"}}
			}
			create(t, r, k, obj)
			key := client.Key{Namespace: "ns", Name: "a"}
			if _, err := r.Delete(t.Context(), k, key, client.DeleteOptions{Propagation: &policy}); err != nil {
				t.Fatal(err)
			}
			_, err := r.Get(t.Context(), k, key, client.GetOptions{})
			waits := k == api.ConfigMaps && policy != metav1.DeletePropagationBackground
			if waits != (err == nil) {
				t.Errorf("%s deleted with %s: %v", k.Kind, policy, err)
			}
		}
	}
}

func TestClusterIPsAndNodePortsAreGivenOnce(t *testing.T) {
	r, _ := registrytest.New(t)
	service := func(name, ip string) *corev1.Service {
		return &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
			Spec:       corev1.ServiceSpec{ClusterIP: ip, Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80}}},
		}
	}
	ips, ports := map[string]bool{}, map[int32]bool{}
	for i := range 50 {
		s := create(t, r, api.Services, service(fmt.Sprintf("s%d", i), "")).(*corev1.Service)
		if ips[s.Spec.ClusterIP] || ports[s.Spec.Ports[0].NodePort] || s.Spec.ClusterIP == "" || s.Spec.Ports[0].NodePort == 0 {
			t.Fatalf("service %d got %s and %d", i, s.Spec.ClusterIP, s.Spec.Ports[0].NodePort)
		}
		ips[s.Spec.ClusterIP], ports[s.Spec.Ports[0].NodePort] = true, true
	}
	create(t, r, api.Services, service("asked", "10.43.0.10"))
	if _, err := r.Create(t.Context(), api.Services, service("again", "10.43.0.10"), client.CreateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("an address was given twice: %v", err)
	}
	if _, err := r.Create(t.Context(), api.Services, service("outside", "10.44.0.10"), client.CreateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("an address outside the range: %v", err)
	}
	if _, err := r.Delete(t.Context(), api.Services, client.Key{Namespace: "ns", Name: "asked"}, client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	create(t, r, api.Services, service("again", "10.43.0.10"))
}

func TestNodesGetDistinctPodCIDRs(t *testing.T) {
	r, _ := registrytest.New(t)
	got := map[string]bool{}
	for i := range 20 {
		n := create(t, r, api.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%d", i)}}).(*corev1.Node)
		if n.Spec.PodCIDR == "" || got[n.Spec.PodCIDR] {
			t.Fatalf("node %d got %q", i, n.Spec.PodCIDR)
		}
		got[n.Spec.PodCIDR] = true
	}
}

func TestScaleChangesReplicas(t *testing.T) {
	r, _ := registrytest.New(t)
	create(t, r, api.ReplicationControllers, &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "rc"},
		Spec: corev1.ReplicationControllerSpec{
			Selector: map[string]string{"a": "b"},
			Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: pod("", "").Spec},
		},
	})
	key := client.Key{Namespace: "ns", Name: "rc"}
	patch := client.Patch{Type: types.MergePatchType, Data: []byte(`{"spec":{"replicas":5}}`)}
	if _, err := r.Patch(t.Context(), api.ReplicationControllers, key, patch, client.PatchOptions{Subresource: "scale"}); err != nil {
		t.Fatal(err)
	}
	rc := get(t, r, api.ReplicationControllers, "rc").(*corev1.ReplicationController)
	if *rc.Spec.Replicas != 5 || rc.Generation != 2 {
		t.Errorf("replicas %d, generation %d", *rc.Spec.Replicas, rc.Generation)
	}
}

func TestApplyMergesByManager(t *testing.T) {
	r, _ := registrytest.New(t)
	key := client.Key{Namespace: "ns", Name: "a"}
	apply := func(manager, data string, force bool) (*corev1.ConfigMap, error) {
		body := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":` + data + `}`
		out, err := r.Patch(t.Context(), api.ConfigMaps, key, client.Patch{Type: types.ApplyPatchType, Data: []byte(body)},
			client.PatchOptions{FieldManager: manager, Force: force})
		if err != nil {
			return nil, err
		}
		return out.(*corev1.ConfigMap), nil
	}
	if _, err := apply("m1", `{"a":"1","b":"1"}`, false); err != nil {
		t.Fatal(err)
	}
	if _, err := apply("m2", `{"c":"1"}`, false); err != nil {
		t.Fatal(err)
	}
	if _, err := apply("m2", `{"a":"2"}`, false); !apierrors.IsConflict(err) {
		t.Errorf("two managers of one field: %v", err)
	}
	if _, err := apply("m2", `{"a":"2"}`, true); err != nil {
		t.Fatal(err)
	}
	cm, err := apply("m1", `{"b":"1"}`, false)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"a": "2", "b": "1"}, cm.Data); d != "" {
		t.Error(d)
	}
}

func TestUnknownOutcomeIsATimeout(t *testing.T) {
	r, l := registrytest.New(t)
	l.LoseAnswers(1)
	_, err := r.Create(t.Context(), api.ConfigMaps, configMap("a"), client.CreateOptions{})
	if !apierrors.IsTimeout(err) {
		t.Errorf("got %v", err)
	}
	get(t, r, api.ConfigMaps, "a")
}
