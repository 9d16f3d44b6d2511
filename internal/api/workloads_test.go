package api

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// change is one row of a table about validation: what is done to a good object, and what is said about it.
type change[T Object] struct {
	rule string
	was  func(T) // what the stored object is like, when not simply good; nil means nothing
	do   func(T)
	want []string
}

// said turns errors into lines "field: kind of error: detail", without the value.
func said(errs field.ErrorList) []string {
	var lines []string
	for _, e := range errs {
		line := e.Field + ": " + e.Type.String()
		if e.Detail != "" {
			line += ": " + e.Detail
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

func compareSaid(t *testing.T, errs field.ErrorList, want []string) {
	t.Helper()
	want = slices.Clone(want)
	slices.Sort(want)
	if diff := cmp.Diff(want, said(errs)); diff != "" {
		t.Error(diff)
	}
}

// created makes o what it is once it was created; there are no checks.
func created[T Object](k *Kind, o T) T {
	o.SetUID("u")
	if k.Default != nil {
		k.Default(o)
	}
	if k.PrepareCreate != nil {
		k.PrepareCreate(o)
	}
	o.SetResourceVersion("1")
	return o
}

func checkCreates[T Object](t *testing.T, k *Kind, good func() T, rows []change[T]) {
	t.Helper()
	for _, r := range append(rows, change[T]{rule: "a good one", do: func(T) {}}) {
		t.Run(r.rule, func(t *testing.T) {
			o := good()
			r.do(o)
			o = created(k, o)
			compareSaid(t, append(k.ValidateMeta(o), k.Validate(o)...), r.want)
		})
	}
}

func checkUpdates[T Object](t *testing.T, k *Kind, good func() T, rows []change[T]) {
	t.Helper()
	eachUpdate(t, k, good, rows, func(updated, old T) field.ErrorList {
		if k.PrepareUpdate != nil {
			k.PrepareUpdate(updated, old)
		}
		return append(k.ValidateMetaUpdate(updated, old), k.ValidateUpdate(updated, old)...)
	})
}

func checkStatuses[T Object](t *testing.T, k *Kind, good func() T, rows []change[T]) {
	t.Helper()
	eachUpdate(t, k, good, rows, func(updated, old T) field.ErrorList { return k.ValidateStatus(updated, old) })
}

func eachUpdate[T Object](t *testing.T, k *Kind, good func() T, rows []change[T], check func(updated, old T) field.ErrorList) {
	t.Helper()
	for _, r := range append(rows, change[T]{rule: "no change", do: func(T) {}}) {
		t.Run(r.rule, func(t *testing.T) {
			old := created(k, good())
			if r.was != nil {
				r.was(old)
			}
			updated := old.DeepCopyObject().(T)
			r.do(updated)
			if k.Default != nil {
				k.Default(updated)
			}
			compareSaid(t, check(updated, old), r.want)
		})
	}
}

// checkCells compares a row of a table, wide columns included.
func checkCells(t *testing.T, k *Kind, o Object, want ...any) {
	t.Helper()
	now := time.Unix(1_000_000, 0)
	o.SetCreationTimestamp(metav1.NewTime(now.Add(-3 * time.Hour)))
	if diff := cmp.Diff(want, k.Cells(o, now)); diff != "" {
		t.Error(diff)
	}
}

// columnNames lists a kind's columns; those shown on request come after "|".
func columnNames(k *Kind) string {
	var names []string
	for _, c := range k.Columns {
		if c.Priority > 0 && !slices.Contains(names, "|") {
			names = append(names, "|")
		}
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}

func TestColumnsOfWorkloads(t *testing.T) {
	for k, want := range map[*Kind]string{
		Deployments:         "Name, Ready, Up-to-date, Available, Age, |, Containers, Images, Selector",
		ReplicaSets:         "Name, Desired, Current, Ready, Age, |, Containers, Images, Selector",
		StatefulSets:        "Name, Ready, Age, |, Containers, Images",
		DaemonSets:          "Name, Desired, Current, Ready, Up-to-date, Available, Node Selector, Age, |, Containers, Images, Selector",
		ControllerRevisions: "Name, Controller, Revision, Age",
		Jobs:                "Name, Status, Completions, Duration, Age, |, Containers, Images, Selector",
		CronJobs:            "Name, Schedule, Timezone, Suspend, Active, Last Schedule, Age, |, Containers, Images, Selector",
	} {
		if got := columnNames(k); got != want {
			t.Errorf("%s has %s, want %s", k.Kind, got, want)
		}
	}
}

// Words people know the kinds by, and what may be done with each.
func TestNamesAndSubresourcesOfWorkloads(t *testing.T) {
	for k, want := range map[*Kind]string{
		Deployments:         "deployments.apps [deploy] [all] [scale status] []",
		ReplicaSets:         "replicasets.apps [rs] [all] [scale status] []",
		StatefulSets:        "statefulsets.apps [sts] [all] [scale status] []",
		DaemonSets:          "daemonsets.apps [ds] [all] [status] []",
		ControllerRevisions: "controllerrevisions.apps [] [] [] []",
		Jobs:                "jobs.batch [] [all] [status] [status.successful]",
		CronJobs:            "cronjobs.batch [cj] [all] [status] []",
	} {
		list := func(words ...string) string { return "[" + strings.Join(words, " ") + "]" }
		var subs, fields []string
		for _, s := range k.Subresources {
			subs = append(subs, s.Name)
		}
		if k.Fields != nil {
			for name := range k.Fields(k.New()) {
				fields = append(fields, name)
			}
		}
		got := strings.Join([]string{k.Resource + "." + k.Group, list(k.ShortNames...), list(k.Categories...), list(subs...), list(fields...)}, " ")
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestScaleOfEachKindThatCountsReplicas(t *testing.T) {
	three := int32(3)
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	meta := metav1.ObjectMeta{Name: "web", Namespace: "n", UID: "u", ResourceVersion: "5"}
	for _, o := range []Object{
		&appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Replicas: &three, Selector: selector}, Status: appsv1.DeploymentStatus{Replicas: 2}},
		&appsv1.ReplicaSet{ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{Replicas: &three, Selector: selector}, Status: appsv1.ReplicaSetStatus{Replicas: 2}},
		&appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Replicas: &three, Selector: selector}, Status: appsv1.StatefulSetStatus{Replicas: 2}},
	} {
		k, _ := Default().For(o)
		s, ok := ScaleOf(k, o)
		if !ok || s.Spec.Replicas != 3 || s.Status.Replicas != 2 || s.Status.Selector != "app=web" || s.UID != "u" || s.ResourceVersion != "5" {
			t.Errorf("%T: got %+v", o, s)
			continue
		}
		s.Spec.Replicas = 7
		if !ApplyScale(k, o, s) {
			t.Errorf("%T cannot be scaled", o)
		}
		if s, _ := ScaleOf(k, o); s.Spec.Replicas != 7 {
			t.Errorf("%T: scaled to %d", o, s.Spec.Replicas)
		}
	}
	if _, ok := ScaleOf(DaemonSets, &appsv1.DaemonSet{}); ok || ApplyScale(DaemonSets, &appsv1.DaemonSet{}, nil) {
		t.Error("a daemon set has a scale")
	}
}

func goodMeta() metav1.ObjectMeta { return metav1.ObjectMeta{Name: "web", Namespace: "n"} }

func goodSelector() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
}

func goodTemplate() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "nginx:1"}}},
	}
}

func share(s string) *intstr.IntOrString {
	v := intstr.FromString(s)
	return &v
}

func count(n int32) *intstr.IntOrString {
	v := intstr.FromInt32(n)
	return &v
}

const (
	negative   = ": Invalid value: must be greater than or equal to 0"
	immutable  = ": Invalid value: field is immutable"
	tooMany    = ": Invalid value: cannot be greater than status.replicas"
	mismatched = "spec.template.metadata.labels: Invalid value: `selector` does not match template `labels`"
	onlyAlways = `spec.template.spec.restartPolicy: Unsupported value: supported values: "Always"`
)
