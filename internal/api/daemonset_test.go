package api

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func goodDaemonSet() *appsv1.DaemonSet {
	return &appsv1.DaemonSet{ObjectMeta: goodMeta(), Spec: appsv1.DaemonSetSpec{Selector: goodSelector(), Template: goodTemplate()}}
}

func TestDefaultsOfADaemonSet(t *testing.T) {
	type strategy = appsv1.DaemonSetUpdateStrategy
	type rolling = appsv1.RollingUpdateDaemonSet
	for _, c := range []struct {
		rule        string
		given, want strategy
	}{
		{"one at a time", strategy{}, strategy{Type: "RollingUpdate", RollingUpdate: &rolling{MaxUnavailable: count(1), MaxSurge: count(0)}}},
		{"what is given stays", strategy{RollingUpdate: &rolling{MaxUnavailable: share("10%")}}, strategy{Type: "RollingUpdate", RollingUpdate: &rolling{MaxUnavailable: share("10%"), MaxSurge: count(0)}}},
		{"nothing rolls on deletion", strategy{Type: "OnDelete"}, strategy{Type: "OnDelete"}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			d := goodDaemonSet()
			d.Spec.UpdateStrategy = c.given
			DaemonSets.Default(d)
			if diff := cmp.Diff(c.want, d.Spec.UpdateStrategy); diff != "" {
				t.Error(diff)
			}
			if *d.Spec.RevisionHistoryLimit != 10 || d.Spec.Template.Spec.SchedulerName != "default-scheduler" {
				t.Errorf("got %+v", d.Spec)
			}
		})
	}
}

func TestNewDaemonSets(t *testing.T) {
	rolling := func(unavailable, surge string) func(*appsv1.DaemonSet) {
		return func(d *appsv1.DaemonSet) {
			d.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxUnavailable: share(unavailable), MaxSurge: share(surge)}
		}
	}
	const unavailable, surge = "spec.updateStrategy.rollingUpdate.maxUnavailable", "spec.updateStrategy.rollingUpdate.maxSurge"
	checkCreates(t, DaemonSets, goodDaemonSet, []change[*appsv1.DaemonSet]{
		{rule: "a selector that is missing selects nothing", do: func(d *appsv1.DaemonSet) { d.Spec.Selector = nil }, want: []string{mismatched}},
		{
			rule: "a selector selects something", do: func(d *appsv1.DaemonSet) { d.Spec.Selector = &metav1.LabelSelector{} },
			want: []string{"spec.selector: Invalid value: empty selector is invalid for daemonset"},
		},
		{
			rule: "pods that last", do: func(d *appsv1.DaemonSet) {
				d.Spec.Template.Spec.RestartPolicy, d.Spec.Template.Spec.ActiveDeadlineSeconds = "Never", new(int64(5))
			},
			want: []string{onlyAlways, "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in DaemonSet is not Supported"},
		},
		{
			rule: "known strategies", do: func(d *appsv1.DaemonSet) { d.Spec.UpdateStrategy.Type = "Slow" },
			want: []string{`spec.updateStrategy: Unsupported value: supported values: "RollingUpdate", "OnDelete"`},
		},
		{rule: "surplus instead of missing", do: rolling("0%", "50%")},
		{rule: "not both", do: rolling("1%", "1%"), want: []string{surge + ": Invalid value: may not be set when maxUnavailable is non-zero"}},
		{rule: "some room to move", do: rolling("0%", "0%"), want: []string{unavailable + ": Required value: cannot be 0 when maxSurge is 0"}},
		{rule: "not more than all may be missing", do: rolling("101%", "0%"), want: []string{unavailable + ": Invalid value: must not be greater than 100%"}},
		{rule: "not more than all may be surplus", do: rolling("0%", "101%"), want: []string{surge + ": Invalid value: must not be greater than 100%"}},
		{
			rule: "numbers from 0 on", do: func(d *appsv1.DaemonSet) { d.Spec.MinReadySeconds, d.Spec.RevisionHistoryLimit = -1, new(int32(-1)) },
			want: []string{"spec.minReadySeconds" + negative, "spec.revisionHistoryLimit" + negative},
		},
		{
			rule: "versions of the template are counted", do: func(d *appsv1.DaemonSet) {
				d.Annotations = map[string]string{appsv1.DeprecatedTemplateGeneration: "many"}
			},
			want: []string{"metadata.annotations[deprecated.daemonset.template.generation]: Invalid value: must be a number"},
		},
	})
}

func TestUpdatesOfDaemonSets(t *testing.T) {
	checkUpdates(t, DaemonSets, goodDaemonSet, []change[*appsv1.DaemonSet]{
		{rule: "the template may change", do: func(d *appsv1.DaemonSet) { d.Spec.Template.Spec.Containers[0].Image = "nginx:2" }},
		{
			rule: "the selector may not", do: func(d *appsv1.DaemonSet) {
				d.Spec.Selector.MatchLabels["tier"], d.Spec.Template.Labels["tier"] = "front", "front"
			},
			want: []string{"spec.selector" + immutable},
		},
	})
	checkStatuses(t, DaemonSets, goodDaemonSet, []change[*appsv1.DaemonSet]{
		{
			rule: "numbers from 0 on", do: func(d *appsv1.DaemonSet) {
				d.Status = appsv1.DaemonSetStatus{CurrentNumberScheduled: -1, NumberMisscheduled: -1, DesiredNumberScheduled: -1, NumberReady: -1}
			},
			want: []string{
				"status.currentNumberScheduled" + negative, "status.numberMisscheduled" + negative, "status.desiredNumberScheduled" + negative,
				"status.numberReady" + negative,
			},
		},
		{rule: "more may run than should", do: func(d *appsv1.DaemonSet) { d.Status.NumberReady = 5 }},
		{
			rule: "collisions are not forgotten", was: func(d *appsv1.DaemonSet) { d.Status.CollisionCount = new(int32(1)) },
			do:   func(d *appsv1.DaemonSet) { d.Status.CollisionCount = new(int32(0)) },
			want: []string{"status.collisionCount: Invalid value: cannot be decremented"},
		},
	})
}

func TestTemplateGenerationOfADaemonSet(t *testing.T) {
	generation := func(d *appsv1.DaemonSet) string { return d.Annotations[appsv1.DeprecatedTemplateGeneration] }
	for given, want := range map[string]string{"": "", "0": "1", "-3": "1", "4": "4"} {
		d := goodDaemonSet()
		d.Annotations = map[string]string{appsv1.DeprecatedTemplateGeneration: given}
		if d = created(DaemonSets, d); generation(d) != want {
			t.Errorf("created with %q: got %q", given, generation(d))
		}
	}
	old := created(DaemonSets, goodDaemonSet())
	if generation(old) != "1" {
		t.Fatalf("created with %q", generation(old))
	}
	for _, c := range []struct {
		rule string
		do   func(*appsv1.DaemonSet)
		want string
	}{
		{"a new image", func(d *appsv1.DaemonSet) { d.Spec.Template.Spec.Containers[0].Image = "nginx:2" }, "2"},
		{"something else", func(d *appsv1.DaemonSet) { d.Spec.MinReadySeconds = 5 }, "1"},
		{"the count itself", func(d *appsv1.DaemonSet) { d.Annotations[appsv1.DeprecatedTemplateGeneration] = "9" }, "1"},
		{"no annotations", func(d *appsv1.DaemonSet) { d.Annotations = nil }, "1"},
	} {
		updated := old.DeepCopy()
		c.do(updated)
		DaemonSets.PrepareUpdate(updated, old)
		if generation(updated) != c.want {
			t.Errorf("%s: got %q, want %q", c.rule, generation(updated), c.want)
		}
	}
	updated := old.DeepCopy()
	updated.Annotations = nil
	if DaemonSets.PrepareStatus(updated, old); generation(updated) != "1" {
		t.Errorf("an update of status leaves %q", generation(updated))
	}
}

func TestCellsOfADaemonSet(t *testing.T) {
	d := created(DaemonSets, goodDaemonSet())
	d.Status = appsv1.DaemonSetStatus{DesiredNumberScheduled: 5, CurrentNumberScheduled: 4, NumberReady: 3, UpdatedNumberScheduled: 2, NumberAvailable: 1}
	checkCells(t, DaemonSets, d, "web", int64(5), int64(4), int64(3), int64(2), int64(1), "<none>", "3h", "c", "nginx:1", "app=web")
}

func goodControllerRevision() *appsv1.ControllerRevision {
	return &appsv1.ControllerRevision{ObjectMeta: goodMeta(), Revision: 2, Data: runtime.RawExtension{Raw: []byte(`{"spec":{}}`)}}
}

func TestNewControllerRevisions(t *testing.T) {
	data := func(raw []byte) func(*appsv1.ControllerRevision) {
		return func(r *appsv1.ControllerRevision) { r.Data.Raw = raw }
	}
	checkCreates(t, ControllerRevisions, goodControllerRevision, []change[*appsv1.ControllerRevision]{
		{rule: "data is needed", do: data(nil), want: []string{"data: Required value: data is mandatory"}},
		{rule: "data is something", do: data([]byte("null")), want: []string{"data: Required value: data is mandatory"}},
		{rule: "data is an object", do: data([]byte("[1]")), want: []string{"data: Required value: data must be a valid JSON object"}},
		{rule: "data is JSON", do: data([]byte("{")), want: []string{"data: Invalid value: error parsing data: unexpected end of JSON input"}},
		{rule: "numbers from 0 on", do: func(r *appsv1.ControllerRevision) { r.Revision = -1 }, want: []string{"revision" + negative}},
	})
}

func TestUpdatesOfControllerRevisions(t *testing.T) {
	checkUpdates(t, ControllerRevisions, goodControllerRevision, []change[*appsv1.ControllerRevision]{
		{rule: "the number may change", do: func(r *appsv1.ControllerRevision) { r.Revision = 7 }},
		{rule: "the data may not", do: func(r *appsv1.ControllerRevision) { r.Data.Raw = []byte("{}") }, want: []string{"data" + immutable}},
	})
}

func TestCellsOfAControllerRevision(t *testing.T) {
	r := goodControllerRevision()
	checkCells(t, ControllerRevisions, r, "web", "<none>", int64(2), "3h")
	r.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "logs", Controller: new(true)}}
	checkCells(t, ControllerRevisions, r, "web", "daemonset.apps/logs", int64(2), "3h")
}
