package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"shoal/internal/api"
)

func TestRolloutProgressSaysWhatIsMissing(t *testing.T) {
	meta := metav1.ObjectMeta{Name: "web", Generation: 2}
	three, one := int32(3), int32(1)
	deployment := func(paused bool, s appsv1.DeploymentStatus) *appsv1.Deployment {
		return &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Replicas: &three, Paused: paused, ProgressDeadlineSeconds: &three}, Status: s}
	}
	stateful := func(partition *int32, s appsv1.StatefulSetStatus) *appsv1.StatefulSet {
		return &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Replicas: &three, UpdateStrategy: appsv1.StatefulSetUpdateStrategy{
			RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: partition},
		}}, Status: s}
	}
	for _, c := range []struct {
		kind *api.Kind
		o    any
		says string
		done bool
	}{
		{api.Deployments, deployment(false, appsv1.DeploymentStatus{ObservedGeneration: 1}), "waiting for the Master", false},
		{api.Deployments, deployment(false, appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 4, UpdatedReplicas: 1}), "1 of 3 pods are new", false},
		{api.Deployments, deployment(true, appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 3}), "paused", false},
		{api.Deployments, deployment(false, appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 4, UpdatedReplicas: 3}), "1 old pods", false},
		{api.Deployments, deployment(false, appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 2}), "2 of 3 new pods are available", false},
		{api.Deployments, deployment(false, appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 3}), "rolled out", true},
		{api.Deployments, deployment(false, appsv1.DeploymentStatus{ObservedGeneration: 2, Conditions: []appsv1.DeploymentCondition{
			{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded"},
		}}), "no progress for 3 seconds", false},
		{api.DaemonSets, &appsv1.DaemonSet{ObjectMeta: meta}, "waiting for the Master", false},
		{api.DaemonSets, &appsv1.DaemonSet{ObjectMeta: meta, Status: appsv1.DaemonSetStatus{ObservedGeneration: 2, DesiredNumberScheduled: 3, UpdatedNumberScheduled: 1}}, "1 of 3 pods are new", false},
		{api.DaemonSets, &appsv1.DaemonSet{ObjectMeta: meta, Status: appsv1.DaemonSetStatus{ObservedGeneration: 2, DesiredNumberScheduled: 1, UpdatedNumberScheduled: 1, NumberAvailable: 1}}, "rolled out", true},
		{api.StatefulSets, stateful(nil, appsv1.StatefulSetStatus{ObservedGeneration: 2, ReadyReplicas: 2}), "2 of 3 pods are ready", false},
		{api.StatefulSets, stateful(nil, appsv1.StatefulSetStatus{ObservedGeneration: 2, ReadyReplicas: 3, UpdatedReplicas: 2}), "2 of 3 pods are new", false},
		{api.StatefulSets, stateful(&one, appsv1.StatefulSetStatus{ObservedGeneration: 2, ReadyReplicas: 3, UpdatedReplicas: 2}), "as far as the partition", true},
		{api.StatefulSets, stateful(nil, appsv1.StatefulSetStatus{ObservedGeneration: 2, ReadyReplicas: 3, UpdatedReplicas: 3}), "rolled out", true},
	} {
		o, err := runtime.DefaultUnstructuredConverter.ToUnstructured(c.o)
		if err != nil {
			t.Fatal(err)
		}
		text, done, err := rolloutProgress(c.kind, o)
		if err != nil {
			text = err.Error()
		}
		if done != c.done || !strings.Contains(text, c.says) {
			t.Errorf("%s: %q, done %t; want %q, %t", c.kind.Kind, text, done, c.says, c.done)
		}
	}
}

// rollouts is an API with one Deployment and its two sets, that remembers what is patched.
func rollouts(t *testing.T, paused bool) (at []string, patched *string) {
	t.Helper()
	l := map[string]string{"app": "web"}
	template := func(image string) corev1.PodTemplateSpec {
		return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: l}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: image}}}}
	}
	d := appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u", ResourceVersion: "7"},
		Spec:       appsv1.DeploymentSpec{Paused: paused, Selector: &metav1.LabelSelector{MatchLabels: l}, Template: template("b")},
	}
	yes := true
	set := func(name, revision, image, owner string) appsv1.ReplicaSet {
		rs := appsv1.ReplicaSet{
			ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{revisionAnnotation: revision}, OwnerReferences: []metav1.OwnerReference{
				{APIVersion: "apps/v1", Kind: "Deployment", Name: owner, UID: "u", Controller: &yes},
			}},
			Spec: appsv1.ReplicaSetSpec{Template: template(image)},
		}
		if owner != "web" {
			rs.OwnerReferences[0].UID = "other"
		}
		rs.Spec.Template.Labels = map[string]string{"app": "web", appsv1.DefaultDeploymentUniqueLabelKey: name}
		return rs
	}
	patched = new(string)
	return server(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.Method == http.MethodPatch:
			b, _ := io.ReadAll(r.Body)
			*patched = string(b)
			_ = json.NewEncoder(w).Encode(d)
		case strings.HasSuffix(r.URL.Path, "/replicasets"):
			_ = json.NewEncoder(w).Encode(appsv1.ReplicaSetList{Items: []appsv1.ReplicaSet{set("two", "10", "b", "web"), set("one", "9", "a", "web"), set("x", "11", "c", "other")}})
		case strings.HasSuffix(r.URL.Path, "/controllerrevisions"):
			kept := func(n int64, name, image string) appsv1.ControllerRevision {
				data, _ := json.Marshal(map[string]any{"spec": map[string]any{"template": template(image)}})
				rs := set(name, "", image, "web")
				return appsv1.ControllerRevision{ObjectMeta: rs.ObjectMeta, Revision: n, Data: runtime.RawExtension{Raw: data}}
			}
			_ = json.NewEncoder(w).Encode(appsv1.ControllerRevisionList{Items: []appsv1.ControllerRevision{kept(2, "second", "b"), kept(1, "first", "a")}})
		case strings.HasSuffix(r.URL.Path, "/web"):
			_ = json.NewEncoder(w).Encode(d)
		default:
			refuse(w, 404, "not found")
		}
	}), patched
}

func TestRolloutVerbs(t *testing.T) {
	for _, c := range []struct {
		args    string
		paused  bool
		code    int
		says    string // on either stream
		patches string
	}{
		{args: "rollout undo deploy/web", says: "goes back to revision 9", patches: `"image":"a"`},
		{args: "rollout undo deploy/web", says: "goes back to revision 9", patches: `{"op":"test","path":"/metadata/resourceVersion","value":"7"}`},
		{args: "rollout undo deployment web --to-revision 10", says: "at revision 10 already"},
		{args: "rollout undo deploy/web --to-revision 11", code: exitFailed, says: "has no revision 11: shoal rollout history"},
		{args: "rollout undo deploy/web --to-revision=-1", code: exitUsage, says: "--to-revision"},
		{args: "rollout undo deploy/web", paused: true, code: exitFailed, says: "shoal rollout resume"},
		{args: "rollout restart deploy/web", says: "restarted", patches: restartedAnnotation},
		{args: "rollout restart deploy/web", paused: true, code: exitFailed, says: "is paused"},
		{args: "rollout pause deploy/web", says: "paused", patches: `{"spec":{"paused":true}}`},
		{args: "rollout pause deploy/web", paused: true, code: exitFailed, says: "is paused already"},
		{args: "rollout resume deploy/web", paused: true, says: "resumed", patches: `{"spec":{"paused":false}}`},
		{args: "rollout resume deploy/web", code: exitFailed, says: "is not paused"},
		{args: "rollout history deploy/web", says: "9          one"},
		{args: "rollout undo ds/web", says: "goes back to revision 1", patches: `"image":"a"`},
		{args: "rollout history sts/web", says: "2          second"},
		{args: "rollout pause ds/web", code: exitUsage, says: "daemonsets have no rollouts that can rest"},
		{args: "rollout history deploy/web --revision 10 -o json", says: `"image":"b"`},
		{args: "rollout status pod/web", code: exitUsage, says: "pods have no rollouts"},
		{args: "rollout status deployments", code: exitUsage, says: "Give its name"},
		{args: "rollout restart deploy/none", code: exitFailed, says: "not found"},
	} {
		at, patched := rollouts(t, c.paused)
		out, stderr, code := cli(t, "", append(at, strings.Fields(c.args)...)...)
		if code != c.code || !strings.Contains(out+stderr, c.says) || (c.patches == "") != (*patched == "") || !strings.Contains(*patched, c.patches) {
			t.Errorf("shoal %s: code %d, patch %s\n%s%s", c.args, code, *patched, out, stderr)
		}
		if strings.Contains(*patched, appsv1.DefaultDeploymentUniqueLabelKey) {
			t.Errorf("shoal %s takes the set's hash over: %s", c.args, *patched)
		}
	}
}
