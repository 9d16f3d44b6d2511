package clienttest

import (
	"fmt"
	"reflect"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
)

func patchLaws() []law {
	return []law{
		{"JSONPatchChangesWhatItNames", patchJSON},
		{"AJSONPatchWhoseTestFailsIsInvalid", patchJSONTest},
		{"MergePatchMergesMaps", patchMerge},
		{"StrategicMergePatchMergesListsByKey", patchStrategic},
		{"PatchWithAnOldRevisionIsConflict", patchStale},
		{"PatchOfAMissingObjectIsNotFound", patchMissing},
		{"APatchThatIsNoPatchIsBadRequest", patchGarbage},
		{"APatchMayNotChangeWhoOrWhetherAnObjectIs", patchIdentity},
		{"PatchOfTheStatusLeavesTheSpec", patchStatus},
		{"ApplyCreatesAndUpdates", apply},
		{"ApplyOfAnothersFieldIsConflictUnlessForced", applyConflict},
		{"ApplyOfAScaleOwnsTheReplicasAndNothingElse", applyScale},
	}
}

func (e *env) patch(k *api.Kind, name string, t types.PatchType, data string, o client.PatchOptions) (api.Object, error) {
	e.Helper()
	out, err := e.c.Patch(e.ctx, k, e.key(name), client.Patch{Type: t, Data: []byte(data)}, o)
	if err != nil {
		return nil, err
	}
	return must[api.Object](e, out, nil), nil
}

func (e *env) patchOK(k *api.Kind, name string, t types.PatchType, data string, o client.PatchOptions) api.Object {
	e.Helper()
	out, err := e.patch(k, name, t, data, o)
	if err != nil {
		e.Fatal(err)
	}
	return out
}

func patchJSON(e *env) {
	create(e, api.ConfigMaps, e.configMap("a", "1"))
	out := e.patchOK(api.ConfigMaps, "a", types.JSONPatchType,
		`[{"op":"test","path":"/data/v","value":"1"},{"op":"replace","path":"/data/v","value":"2"},{"op":"add","path":"/data/w","value":"3"}]`, client.PatchOptions{})
	want := map[string]string{"v": "2", "w": "3"}
	if got := out.(*corev1.ConfigMap).Data; !reflect.DeepEqual(got, want) {
		e.Fatalf("patched to %v", got)
	}
	if got := get[*corev1.ConfigMap](e, api.ConfigMaps, "a"); !same(out, got) {
		e.Fatalf("answered %+v\nstored   %+v", out, got)
	}
}

func patchJSONTest(e *env) {
	create(e, api.ConfigMaps, e.configMap("a", "1"))
	_, err := e.patch(api.ConfigMaps, "a", types.JSONPatchType, `[{"op":"test","path":"/data/v","value":"9"}]`, client.PatchOptions{})
	e.wantReason(err, metav1.StatusReasonInvalid)
}

func patchMerge(e *env) {
	cm := e.configMap("a", "1")
	cm.Data["gone"] = "x"
	create(e, api.ConfigMaps, cm)
	out := e.patchOK(api.ConfigMaps, "a", types.MergePatchType, `{"data":{"w":"2","gone":null}}`, client.PatchOptions{})
	want := map[string]string{"v": "1", "w": "2"}
	if got := out.(*corev1.ConfigMap).Data; !reflect.DeepEqual(got, want) {
		e.Fatalf("patched to %v", got)
	}
}

func patchStrategic(e *env) {
	p := e.pod("a")
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "side", Image: "example.org/side:1"})
	create(e, api.Pods, p)
	out := e.patchOK(api.Pods, "a", types.StrategicMergePatchType,
		`{"spec":{"containers":[{"name":"side","image":"example.org/side:2"}]}}`, client.PatchOptions{}).(*corev1.Pod)
	if len(out.Spec.Containers) != 2 || out.Spec.Containers[0].Image != "example.org/main:1" || out.Spec.Containers[1].Image != "example.org/side:2" {
		e.Fatalf("containers are %+v", out.Spec.Containers)
	}
}

func patchStale(e *env) {
	first := create(e, api.ConfigMaps, e.configMap("a", "1"))
	e.patchOK(api.ConfigMaps, "a", types.MergePatchType, `{"data":{"v":"2"}}`, client.PatchOptions{})
	_, err := e.patch(api.ConfigMaps, "a", types.MergePatchType,
		fmt.Sprintf(`{"metadata":{"resourceVersion":%q},"data":{"v":"3"}}`, first.ResourceVersion), client.PatchOptions{})
	e.wantReason(err, metav1.StatusReasonConflict)
}

func patchMissing(e *env) {
	_, err := e.patch(api.ConfigMaps, "none", types.MergePatchType, `{"data":{"v":"3"}}`, client.PatchOptions{})
	e.wantReason(err, metav1.StatusReasonNotFound)
}

func patchGarbage(e *env) {
	create(e, api.ConfigMaps, e.configMap("a", "1"))
	_, err := e.patch(api.ConfigMaps, "a", types.MergePatchType, `{"data":`, client.PatchOptions{})
	e.wantReason(err, metav1.StatusReasonBadRequest)
}

func patchIdentity(e *env) {
	was := create(e, api.ConfigMaps, e.configMap("a", "1"))
	for field, value := range map[string]string{"uid": "5f7a4c4e-0000-4000-8000-000000000000", "deletionTimestamp": "2030-01-01T00:00:00Z"} {
		_, err := e.patch(api.ConfigMaps, "a", types.MergePatchType, fmt.Sprintf(`{"metadata":{%q:%q}}`, field, value), client.PatchOptions{})
		e.wantReason(err, metav1.StatusReasonInvalid)
	}
	// Ignored, as Kubernetes has it: clients send back what they read somewhere else.
	e.patchOK(api.ConfigMaps, "a", types.MergePatchType, `{"metadata":{"creationTimestamp":"2001-01-01T00:00:00Z"}}`, client.PatchOptions{})
	if got := get[*corev1.ConfigMap](e, api.ConfigMaps, "a"); !same(was, got) {
		e.Fatalf("was %+v\nis  %+v", was, got)
	}
}

func patchStatus(e *env) {
	create(e, api.Pods, e.pod("a"))
	out := e.patchOK(api.Pods, "a", types.StrategicMergePatchType,
		`{"status":{"message":"hello"},"spec":{"hostname":"other"}}`, client.PatchOptions{Subresource: "status"}).(*corev1.Pod)
	if out.Status.Message != "hello" || out.Spec.Hostname != "" {
		e.Fatalf("status %q, hostname %q", out.Status.Message, out.Spec.Hostname)
	}
}

func (e *env) applyBody(value string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":%q},"data":{"v":%q}}`, e.ns, value)
}

func apply(e *env) {
	mine := client.PatchOptions{FieldManager: "law"}
	first := e.patchOK(api.ConfigMaps, "a", types.ApplyPatchType, e.applyBody("1"), mine)
	if got := get[*corev1.ConfigMap](e, api.ConfigMaps, "a"); got.Data["v"] != "1" || got.UID != first.GetUID() {
		e.Fatalf("stored %+v", got)
	}
	if out := e.patchOK(api.ConfigMaps, "a", types.ApplyPatchType, e.applyBody("2"), mine); out.(*corev1.ConfigMap).Data["v"] != "2" {
		e.Fatalf("applied %+v", out)
	}
	again := e.patchOK(api.ConfigMaps, "a", types.ApplyPatchType, e.applyBody("2"), mine)
	if got := get[*corev1.ConfigMap](e, api.ConfigMaps, "a"); got.ResourceVersion != again.GetResourceVersion() {
		e.Fatalf("answered %s, stored %s", again.GetResourceVersion(), got.ResourceVersion)
	}
}

func applyConflict(e *env) {
	e.patchOK(api.ConfigMaps, "a", types.ApplyPatchType, e.applyBody("1"), client.PatchOptions{FieldManager: "first"})
	_, err := e.patch(api.ConfigMaps, "a", types.ApplyPatchType, e.applyBody("2"), client.PatchOptions{FieldManager: "second"})
	e.wantReason(err, metav1.StatusReasonConflict)
	out := e.patchOK(api.ConfigMaps, "a", types.ApplyPatchType, e.applyBody("2"), client.PatchOptions{FieldManager: "second", Force: true})
	if out.(*corev1.ConfigMap).Data["v"] != "2" {
		e.Fatalf("forced to %+v", out)
	}
}

func applyScale(e *env) {
	body := func(spec string) string {
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"ReplicationController","metadata":{"name":"a","namespace":%q},"spec":{%s"selector":{"app":"a"},"template":{"metadata":{"labels":{"app":"a"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`, e.ns, spec)
	}
	scale := func(replicas int, o client.PatchOptions) error {
		o.Subresource = "scale"
		out, err := e.c.Patch(e.ctx, api.ReplicationControllers, e.key("a"), client.Patch{Type: types.ApplyPatchType, Data: fmt.Appendf(nil,
			`{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"a","namespace":%q},"spec":{"replicas":%d}}`, e.ns, replicas)}, o)
		if err != nil {
			return err
		}
		if s, ok := out.(*autoscalingv1.Scale); !ok || int(s.Spec.Replicas) != replicas {
			e.Errorf("answered %#v", out)
		}
		return nil
	}
	e.patchOK(api.ReplicationControllers, "a", types.ApplyPatchType, body(`"replicas":0,`), client.PatchOptions{FieldManager: "maker"})
	e.wantReason(scale(1, client.PatchOptions{FieldManager: "scaler"}), metav1.StatusReasonConflict)
	if err := scale(0, client.PatchOptions{FieldManager: "scaler", Force: true}); err != nil {
		e.Fatal(err)
	}
	// The same manager's other fields are not given up by applying the scale.
	if err := scale(0, client.PatchOptions{FieldManager: "maker"}); err != nil {
		e.Fatal(err)
	}
	rc := get[*corev1.ReplicationController](e, api.ReplicationControllers, "a")
	if rc.Spec.Selector["app"] != "a" || len(rc.Spec.Template.Spec.Containers) != 1 || *rc.Spec.Replicas != 0 {
		e.Errorf("now %+v", rc.Spec)
	}
	// Who makes the object may leave the number to who scales it.
	e.patchOK(api.ReplicationControllers, "a", types.ApplyPatchType, body(""), client.PatchOptions{FieldManager: "maker"})
	if rc := get[*corev1.ReplicationController](e, api.ReplicationControllers, "a"); *rc.Spec.Replicas != 0 {
		e.Errorf("%d replicas", *rc.Spec.Replicas)
	}
}
