package registry_test

import (
	"context"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/registry"
	"shoal/master/registry/registrytest"
)

func template() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: pod("", "").Spec}
}

func deployment(name string) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Spec:       appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}, Template: template()},
	}
}

func job(name, prefix string) *batchv1.Job {
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, GenerateName: prefix}, Spec: batchv1.JobSpec{Template: template()}}
	j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	return j
}

func TestScaleOfWorkloads(t *testing.T) {
	r, _ := registrytest.New(t)
	spec := deployment("").Spec
	meta := metav1.ObjectMeta{Namespace: "ns", Name: "w"}
	for k, obj := range map[*api.Kind]api.Object{
		api.Deployments:  deployment("w"),
		api.ReplicaSets:  &appsv1.ReplicaSet{ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{Selector: spec.Selector, Template: spec.Template}},
		api.StatefulSets: &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Selector: spec.Selector, Template: spec.Template}},
	} {
		t.Run(k.Kind, func(t *testing.T) {
			create(t, r, k, obj)
			key := client.Key{Namespace: "ns", Name: "w"}
			patch := client.Patch{Type: types.MergePatchType, Data: []byte(`{"spec":{"replicas":5}}`)}
			if _, err := r.Patch(t.Context(), k, key, patch, client.PatchOptions{Subresource: "scale"}); err != nil {
				t.Fatal(err)
			}
			s, ok := api.ScaleOf(k, get(t, r, k, "w"))
			if !ok || s.Spec.Replicas != 5 || s.Status.Selector != "a=b" {
				t.Fatalf("got %+v", s)
			}
			if g := get(t, r, k, "w").GetGeneration(); g != 2 {
				t.Errorf("generation %d", g)
			}
			s.Spec.Replicas, s.ResourceVersion = 7, "1"
			if _, err := r.Update(t.Context(), k, s, client.UpdateOptions{Key: key, Subresource: "scale"}); !apierrors.IsConflict(err) {
				t.Errorf("at an old revision: %v", err)
			}
			bad := &autoscalingv1.Scale{ObjectMeta: meta, Spec: autoscalingv1.ScaleSpec{Replicas: -1}}
			if _, err := r.Update(t.Context(), k, bad, client.UpdateOptions{Key: key, Subresource: "scale"}); !apierrors.IsInvalid(err) {
				t.Errorf("negative: %v", err)
			}
		})
	}
}

func TestGenerationOfADeployment(t *testing.T) {
	r, _ := registrytest.New(t)
	d := create(t, r, api.Deployments, deployment("d")).(*appsv1.Deployment)
	for _, c := range []struct {
		what   string
		sub    string
		do     func(*appsv1.Deployment)
		raises int64
	}{
		{"labels", "", func(d *appsv1.Deployment) { d.Labels = map[string]string{"x": "y"} }, 0},
		{"annotations", "", func(d *appsv1.Deployment) { d.Annotations = map[string]string{"x": "y"} }, 1},
		{"the template", "", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "other" }, 1},
		{"status", "status", func(d *appsv1.Deployment) { d.Status.ObservedGeneration = 3 }, 0},
		{"annotations with the status", "status", func(d *appsv1.Deployment) { d.Annotations = map[string]string{"x": "z"} }, 0},
	} {
		updated := d.DeepCopy()
		c.do(updated)
		o := client.UpdateOptions{Key: client.Key{Namespace: "ns", Name: "d"}, Subresource: c.sub}
		if _, err := r.Update(t.Context(), api.Deployments, updated, o); err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		was := d.Generation
		if d = get(t, r, api.Deployments, "d").(*appsv1.Deployment); d.Generation != was+c.raises {
			t.Errorf("%s: generation %d after %d", c.what, d.Generation, was)
		}
	}
	updated := d.DeepCopy()
	updated.Labels, updated.Status.ObservedGeneration = nil, 4
	o := client.UpdateOptions{Key: client.Key{Namespace: "ns", Name: "d"}, Subresource: "status"}
	if _, err := r.Update(t.Context(), api.Deployments, updated, o); err != nil {
		t.Fatal(err)
	}
	if d = get(t, r, api.Deployments, "d").(*appsv1.Deployment); d.Labels["x"] != "y" || d.Status.ObservedGeneration != 4 {
		t.Errorf("an update of the status left labels %v and status %+v", d.Labels, d.Status)
	}
}

// The labels of a job's pods hold its name, so a name that turns out to be taken must not stay in them.
func TestAJobsGeneratedNameIsThatOfItsPods(t *testing.T) {
	cfg := registrytest.Config(registrytest.NewLog())
	var r *registry.Registry
	taken := ""
	cfg.Admit = func(ctx context.Context, a *registry.Admission) error {
		if taken != "" {
			return nil
		}
		taken = a.Key.Name
		_, err := r.Create(ctx, api.Jobs, job(taken, ""), client.CreateOptions{})
		return err
	}
	r = registrytest.Start(t, cfg)
	got := create(t, r, api.Jobs, job("", "j-")).(*batchv1.Job)
	if got.Name == taken || !strings.HasPrefix(got.Name, "j-") {
		t.Fatalf("it is called %s, when %s was taken", got.Name, taken)
	}
	if name := got.Spec.Template.Labels[batchv1.JobNameLabel]; name != got.Name {
		t.Errorf("%s gives its pods the name %s", got.Name, name)
	}
	if uid := got.Spec.Template.Labels[batchv1.ControllerUidLabel]; uid != string(got.UID) {
		t.Errorf("%s gives its pods the UID %s", got.UID, uid)
	}
}
