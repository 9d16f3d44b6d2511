package api

import (
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/api/validation"
)

// The rows of group apps.
var (
	ControllerRevisions = row[appsv1.ControllerRevision, appsv1.ControllerRevisionList](appsv1.SchemeGroupVersion, "ControllerRevision", "controllerrevisions").with(controllerRevisionRow)
	DaemonSets          = row[appsv1.DaemonSet, appsv1.DaemonSetList](appsv1.SchemeGroupVersion, "DaemonSet", "daemonsets", "ds").with(daemonSetRow)
	Deployments         = row[appsv1.Deployment, appsv1.DeploymentList](appsv1.SchemeGroupVersion, "Deployment", "deployments", "deploy").with(deploymentRow)
	ReplicaSets         = row[appsv1.ReplicaSet, appsv1.ReplicaSetList](appsv1.SchemeGroupVersion, "ReplicaSet", "replicasets", "rs").with(replicaSetRow)
	StatefulSets        = row[appsv1.StatefulSet, appsv1.StatefulSetList](appsv1.SchemeGroupVersion, "StatefulSet", "statefulsets", "sts").with(statefulSetRow)
)

// scalable are the subresources of a kind that counts replicas.
func scalable(kind string) []Subresource {
	return []Subresource{
		{Name: "scale", Group: autoscalingv1.GroupName, Kind: "Scale", Verbs: statusVerbs()},
		{Name: "status", Kind: kind, Verbs: statusVerbs()},
	}
}

func controllerRevisionRow(k *Kind) {
	k.Validate, k.ValidateUpdate = check(validateControllerRevision), compare(validateControllerRevisionUpdate)
	k.Columns, k.Cells = controllerRevisionColumns(), cells(controllerRevisionCells)
}

func daemonSetRow(k *Kind) {
	k.Categories = []string{"all"}
	k.Subresources = []Subresource{{Name: "status", Kind: "DaemonSet", Verbs: statusVerbs()}}
	k.Default = on(defaultDaemonSet)
	k.PrepareCreate = on(prepareNewDaemonSet)
	k.PrepareUpdate = pair(prepareDaemonSetUpdate)
	k.PrepareStatus = pair(func(updated, old *appsv1.DaemonSet) { keepTemplateGeneration(updated, old) })
	k.Validate, k.ValidateUpdate, k.ValidateStatus = check(validateDaemonSet), compare(validateDaemonSetUpdate), compare(validateDaemonSetStatus)
	k.CopyStatus = pair(func(to, from *appsv1.DaemonSet) { to.Status = *from.Status.DeepCopy() })
	k.Columns, k.Cells = daemonSetColumns(), cells(daemonSetCells)
	k.Generation = true
}

func deploymentRow(k *Kind) {
	k.Categories = []string{"all"}
	k.Subresources = scalable("Deployment")
	k.Default = on(defaultDeployment)
	k.PrepareCreate = on(func(d *appsv1.Deployment) { d.Status = appsv1.DeploymentStatus{} })
	k.PrepareUpdate = pair(func(updated, old *appsv1.Deployment) { updated.Status = old.Status })
	k.PrepareStatus = pair(func(updated, old *appsv1.Deployment) { updated.Labels = old.Labels })
	k.Validate, k.ValidateUpdate, k.ValidateStatus = check(validateDeployment), compare(validateDeploymentUpdate), compare(validateDeploymentStatus)
	k.CopyStatus = pair(func(to, from *appsv1.Deployment) { to.Status = *from.Status.DeepCopy() })
	k.Columns, k.Cells = deploymentColumns(), cells(deploymentCells)
	// Annotations are handed down to the replica sets, so who copies them has to see that they changed.
	k.Generation, k.GenerationOfAnnotations = true, true
}

func replicaSetRow(k *Kind) {
	k.Categories = []string{"all"}
	k.Subresources = scalable("ReplicaSet")
	k.Default = on(defaultReplicaSet)
	k.PrepareCreate = on(func(rs *appsv1.ReplicaSet) { rs.Status = appsv1.ReplicaSetStatus{} })
	k.PrepareUpdate = pair(func(updated, old *appsv1.ReplicaSet) { updated.Status = old.Status })
	k.Validate, k.ValidateUpdate, k.ValidateStatus = check(validateReplicaSet), compare(validateReplicaSetUpdate), compare(validateReplicaSetStatus)
	k.CopyStatus = pair(func(to, from *appsv1.ReplicaSet) { to.Status = *from.Status.DeepCopy() })
	k.Columns, k.Cells = replicaSetColumns(), cells(replicaSetCells)
	k.Generation = true
}

func statefulSetRow(k *Kind) {
	k.Categories = []string{"all"}
	k.Subresources = scalable("StatefulSet")
	k.ValidateName = validation.NameIsDNSLabel
	k.Default, k.Loaded = on(defaultStatefulSet), on(nameClaimTemplates)
	k.PrepareCreate = on(func(s *appsv1.StatefulSet) { s.Status = appsv1.StatefulSetStatus{} })
	k.PrepareUpdate = pair(func(updated, old *appsv1.StatefulSet) { updated.Status = old.Status })
	k.Validate, k.ValidateUpdate, k.ValidateStatus = check(validateStatefulSet), compare(validateStatefulSetUpdate), compare(validateStatefulSetStatus)
	k.CopyStatus = pair(func(to, from *appsv1.StatefulSet) { to.Status = *from.Status.DeepCopy() })
	k.Columns, k.Cells = statefulSetColumns(), cells(statefulSetCells)
	k.Generation = true
}
