package api

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func goodDeployment() *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: goodMeta(), Spec: appsv1.DeploymentSpec{Selector: goodSelector(), Template: goodTemplate()}}
}

func goodReplicaSet() *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{ObjectMeta: goodMeta(), Spec: appsv1.ReplicaSetSpec{Selector: goodSelector(), Template: goodTemplate()}}
}

func TestDefaultsOfADeployment(t *testing.T) {
	for _, c := range []struct {
		rule     string
		strategy appsv1.DeploymentStrategy
		want     appsv1.DeploymentStrategy
	}{
		{"a quarter at a time", appsv1.DeploymentStrategy{}, appsv1.DeploymentStrategy{
			Type: "RollingUpdate", RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: share("25%"), MaxSurge: share("25%")},
		}},
		{
			"what is given stays",
			appsv1.DeploymentStrategy{RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: count(0)}},
			appsv1.DeploymentStrategy{Type: "RollingUpdate", RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: count(0), MaxSurge: share("25%")}},
		},
		{"nothing rolls when all are recreated", appsv1.DeploymentStrategy{Type: "Recreate"}, appsv1.DeploymentStrategy{Type: "Recreate"}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			d := goodDeployment()
			d.Spec.Strategy = c.strategy
			Deployments.Default(d)
			if diff := cmp.Diff(c.want, d.Spec.Strategy); diff != "" {
				t.Error(diff)
			}
			if *d.Spec.Replicas != 1 || *d.Spec.RevisionHistoryLimit != 10 || *d.Spec.ProgressDeadlineSeconds != 600 {
				t.Errorf("got %+v", d.Spec)
			}
			if d.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyAlways {
				t.Error("the template lacks defaults")
			}
		})
	}
}

func TestNewDeployments(t *testing.T) {
	rolling := func(unavailable, surge string) func(*appsv1.Deployment) {
		return func(d *appsv1.Deployment) {
			d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxUnavailable: share(unavailable), MaxSurge: share(surge)}
		}
	}
	const unavailable = "spec.strategy.rollingUpdate.maxUnavailable"
	percent := ": Invalid value: a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
	checkCreates(t, Deployments, goodDeployment, []change[*appsv1.Deployment]{
		{rule: "a name is a subdomain", do: func(d *appsv1.Deployment) { d.Name = "web.example" }},
		{
			rule: "a selector is needed", do: func(d *appsv1.Deployment) { d.Spec.Selector = nil },
			want: []string{"spec.selector: Required value", mismatched},
		},
		{
			rule: "a selector selects something", do: func(d *appsv1.Deployment) { d.Spec.Selector = &metav1.LabelSelector{} },
			want: []string{"spec.selector: Invalid value: empty selector is invalid for deployment"},
		},
		{
			rule: "a selector that is none", do: func(d *appsv1.Deployment) {
				d.Spec.Selector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Is"}}}
			},
			want: []string{"spec.selector.matchExpressions[0].operator: Invalid value: not a valid selector operator", "spec.selector: Invalid value: invalid label selector"},
		},
		{rule: "a selector selects the template", do: func(d *appsv1.Deployment) { d.Spec.Template.Labels = nil }, want: []string{mismatched}},
		{
			rule: "pods that last", do: func(d *appsv1.Deployment) {
				d.Spec.Template.Spec.RestartPolicy = "Never"
				d.Spec.Template.Spec.ActiveDeadlineSeconds = new(int64(5))
			},
			want: []string{onlyAlways, "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported"},
		},
		{
			rule: "numbers from 0 on", do: func(d *appsv1.Deployment) {
				d.Spec.Replicas, d.Spec.MinReadySeconds, d.Spec.RevisionHistoryLimit = new(int32(-1)), -1, new(int32(-1))
			},
			want: []string{"spec.replicas" + negative, "spec.minReadySeconds" + negative, "spec.revisionHistoryLimit" + negative},
		},
		{
			rule: "a deadline after pods can be ready", do: func(d *appsv1.Deployment) {
				d.Spec.MinReadySeconds, d.Spec.ProgressDeadlineSeconds = 60, new(int32(60))
			},
			want: []string{"spec.progressDeadlineSeconds: Invalid value: must be greater than minReadySeconds"},
		},
		{
			rule: "known strategies", do: func(d *appsv1.Deployment) { d.Spec.Strategy.Type = "Slow" },
			want: []string{`spec.strategy: Unsupported value: supported values: "Recreate", "RollingUpdate"`},
		},
		{
			rule: "nothing rolls when all are recreated", do: func(d *appsv1.Deployment) {
				d.Spec.Strategy.Type, d.Spec.Strategy.RollingUpdate = "Recreate", &appsv1.RollingUpdateDeployment{}
			},
			want: []string{"spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"},
		},
		{rule: "more than all may be surplus", do: rolling("0%", "200%")},
		{rule: "not more than all may be missing", do: rolling("101%", "0%"), want: []string{unavailable + ": Invalid value: must not be greater than 100%"}},
		{rule: "some room to move", do: rolling("0%", "0%"), want: []string{unavailable + ": Invalid value: may not be 0 when `maxSurge` is 0"}},
		{rule: "percent", do: rolling("1", "many"), want: []string{unavailable + percent, "spec.strategy.rollingUpdate.maxSurge" + percent}},
	})
}

func TestUpdatesOfDeployments(t *testing.T) {
	checkUpdates(t, Deployments, goodDeployment, []change[*appsv1.Deployment]{
		{rule: "the template may change", do: func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "nginx:2" }},
		{
			rule: "the selector may not", do: func(d *appsv1.Deployment) {
				d.Spec.Selector.MatchLabels["tier"], d.Spec.Template.Labels["tier"] = "front", "front"
			},
			want: []string{"spec.selector" + immutable},
		},
		{
			rule: "an update is checked like a new one", do: func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(-1)) },
			want: []string{"spec.replicas" + negative},
		},
		{rule: "status is not a client's to change here", do: func(d *appsv1.Deployment) { d.Status.Replicas = -1 }},
	})
	checkStatuses(t, Deployments, goodDeployment, []change[*appsv1.Deployment]{
		{
			rule: "counts add up", do: func(d *appsv1.Deployment) {
				d.Status = appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 3, UnavailableReplicas: -1}
			},
			want: []string{
				"status.updatedReplicas" + tooMany, "status.readyReplicas" + tooMany, "status.availableReplicas" + tooMany,
				"status.availableReplicas: Invalid value: cannot be greater than readyReplicas", "status.unavailableReplicas" + negative,
			},
		},
		{
			rule: "collisions are not forgotten", was: func(d *appsv1.Deployment) { d.Status.CollisionCount = new(int32(2)) },
			do:   func(d *appsv1.Deployment) { d.Status.CollisionCount = new(int32(1)) },
			want: []string{"status.collisionCount: Invalid value: cannot be decremented"},
		},
	})
}

func TestCellsOfADeployment(t *testing.T) {
	d := created(Deployments, goodDeployment())
	d.Spec.Template.Spec.Containers = append(d.Spec.Template.Spec.Containers, corev1.Container{Name: "log", Image: "busybox"})
	d.Spec.Replicas = new(int32(5))
	d.Status = appsv1.DeploymentStatus{ReadyReplicas: 3, UpdatedReplicas: 4, AvailableReplicas: 2}
	checkCells(t, Deployments, d, "web", "3/5", int64(4), int64(2), "3h", "c,log", "nginx:1,busybox", "app=web")
}

func TestStatusOfADeploymentLeavesItsLabels(t *testing.T) {
	old := created(Deployments, goodDeployment())
	updated := old.DeepCopy()
	updated.Labels = map[string]string{"a": "b"}
	Deployments.PrepareStatus(updated, old)
	if len(updated.Labels) != 0 {
		t.Errorf("got %v", updated.Labels)
	}
}

func TestDefaultsOfAReplicaSet(t *testing.T) {
	rs := goodReplicaSet()
	ReplicaSets.Default(rs)
	if *rs.Spec.Replicas != 1 || rs.Spec.Template.Spec.DNSPolicy != corev1.DNSClusterFirst || rs.Labels != nil {
		t.Errorf("got %+v", rs)
	}
}

func TestNewReplicaSets(t *testing.T) {
	checkCreates(t, ReplicaSets, goodReplicaSet, []change[*appsv1.ReplicaSet]{
		{
			rule: "a selector is needed", do: func(rs *appsv1.ReplicaSet) { rs.Spec.Selector = nil },
			want: []string{"spec.selector: Required value", mismatched},
		},
		{
			rule: "a selector selects something", do: func(rs *appsv1.ReplicaSet) { rs.Spec.Selector = &metav1.LabelSelector{} },
			want: []string{"spec.selector: Invalid value: empty selector is invalid for deployment"},
		},
		{rule: "pods that last", do: func(rs *appsv1.ReplicaSet) { rs.Spec.Template.Spec.RestartPolicy = "OnFailure" }, want: []string{onlyAlways}},
		{
			rule: "numbers from 0 on", do: func(rs *appsv1.ReplicaSet) { rs.Spec.Replicas, rs.Spec.MinReadySeconds = new(int32(-1)), -1 },
			want: []string{"spec.replicas" + negative, "spec.minReadySeconds" + negative},
		},
	})
}

func TestUpdatesOfReplicaSets(t *testing.T) {
	checkUpdates(t, ReplicaSets, goodReplicaSet, []change[*appsv1.ReplicaSet]{
		{rule: "the template may change", do: func(rs *appsv1.ReplicaSet) { rs.Spec.Template.Spec.Containers[0].Image = "nginx:2" }},
		{
			rule: "the selector may not", do: func(rs *appsv1.ReplicaSet) { rs.Spec.Selector.MatchLabels = map[string]string{"app": "other"} },
			want: []string{"spec.selector" + immutable, mismatched},
		},
	})
	checkStatuses(t, ReplicaSets, goodReplicaSet, []change[*appsv1.ReplicaSet]{
		{
			rule: "counts add up", do: func(rs *appsv1.ReplicaSet) {
				rs.Status = appsv1.ReplicaSetStatus{FullyLabeledReplicas: 1, AvailableReplicas: 1, TerminatingReplicas: new(int32(-1))}
			},
			want: []string{
				"status.fullyLabeledReplicas" + tooMany, "status.availableReplicas" + tooMany,
				"status.availableReplicas: Invalid value: cannot be greater than readyReplicas", "status.terminatingReplicas" + negative,
			},
		},
	})
}

func TestCellsOfAReplicaSet(t *testing.T) {
	rs := created(ReplicaSets, goodReplicaSet())
	rs.Status = appsv1.ReplicaSetStatus{Replicas: 3, ReadyReplicas: 2}
	checkCells(t, ReplicaSets, rs, "web", int64(1), int64(3), int64(2), "3h", "c", "nginx:1", "app=web")
}
