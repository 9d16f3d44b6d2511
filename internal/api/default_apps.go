package api

import (
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// historyLimit is how many old versions are kept to go back to.
const historyLimit = 10

func defaultDeployment(d *appsv1.Deployment) {
	s := &d.Spec
	unset(&s.Replicas, 1)
	blank(&s.Strategy.Type, appsv1.RollingUpdateDeploymentStrategyType)
	if s.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		unset(&s.Strategy.RollingUpdate, appsv1.RollingUpdateDeployment{})
		unset(&s.Strategy.RollingUpdate.MaxUnavailable, intstr.FromString("25%"))
		unset(&s.Strategy.RollingUpdate.MaxSurge, intstr.FromString("25%"))
	}
	unset(&s.RevisionHistoryLimit, historyLimit)
	unset(&s.ProgressDeadlineSeconds, 600)
	defaultPodSpec(&s.Template.Spec)
}

func defaultReplicaSet(rs *appsv1.ReplicaSet) {
	unset(&rs.Spec.Replicas, 1)
	defaultPodSpec(&rs.Spec.Template.Spec)
}

func defaultDaemonSet(d *appsv1.DaemonSet) {
	u := &d.Spec.UpdateStrategy
	blank(&u.Type, appsv1.RollingUpdateDaemonSetStrategyType)
	if u.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		unset(&u.RollingUpdate, appsv1.RollingUpdateDaemonSet{})
		unset(&u.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
		unset(&u.RollingUpdate.MaxSurge, intstr.FromInt32(0))
	}
	unset(&d.Spec.RevisionHistoryLimit, historyLimit)
	defaultPodSpec(&d.Spec.Template.Spec)
}

// nameClaimTemplates says what the claims of a StatefulSet are, which their protobuf does not.
func nameClaimTemplates(s *appsv1.StatefulSet) {
	for i := range s.Spec.VolumeClaimTemplates {
		s.Spec.VolumeClaimTemplates[i].TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"}
	}
}

func defaultStatefulSet(s *appsv1.StatefulSet) {
	nameClaimTemplates(s)
	blank(&s.Spec.PodManagementPolicy, appsv1.OrderedReadyPodManagement)
	u := &s.Spec.UpdateStrategy
	if u.Type == "" {
		u.Type = appsv1.RollingUpdateStatefulSetStrategyType
		unset(&u.RollingUpdate, appsv1.RollingUpdateStatefulSetStrategy{})
	}
	// A client that names the type and nothing else gets nothing else.
	if u.Type == appsv1.RollingUpdateStatefulSetStrategyType && u.RollingUpdate != nil {
		unset(&u.RollingUpdate.Partition, 0)
		unset(&u.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
	}
	unset(&s.Spec.PersistentVolumeClaimRetentionPolicy, appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{})
	blank(&s.Spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	blank(&s.Spec.PersistentVolumeClaimRetentionPolicy.WhenScaled, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	unset(&s.Spec.Replicas, 1)
	unset(&s.Spec.RevisionHistoryLimit, historyLimit)
	for i := range s.Spec.VolumeClaimTemplates {
		c := &s.Spec.VolumeClaimTemplates[i]
		unset(&c.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
		blank(&c.Status.Phase, corev1.ClaimPending)
		for _, l := range []corev1.ResourceList{c.Spec.Resources.Limits, c.Spec.Resources.Requests, c.Status.Capacity, c.Status.AllocatedResources} {
			roundResources(l)
		}
	}
	defaultPodSpec(&s.Spec.Template.Spec)
}

// prepareNewDaemonSet starts the count of its template's versions, unless the client brings one.
func prepareNewDaemonSet(d *appsv1.DaemonSet) {
	d.Status = appsv1.DaemonSetStatus{}
	value, had := d.Annotations[appsv1.DeprecatedTemplateGeneration]
	if n, err := strconv.ParseInt(value, 10, 64); !had || (err == nil && n < 1) {
		setTemplateGeneration(d, 1)
	}
}

// prepareDaemonSetUpdate counts a change of the template.
func prepareDaemonSetUpdate(updated, old *appsv1.DaemonSet) {
	updated.Status = old.Status
	n := keepTemplateGeneration(updated, old)
	if !isSame(updated.Spec.Template, old.Spec.Template) {
		setTemplateGeneration(updated, n+1)
	}
}

// keepTemplateGeneration carries over the count of the template's versions and returns it.
func keepTemplateGeneration(updated, old *appsv1.DaemonSet) int64 {
	// Only objects from before the check of the annotation can have one that is no number.
	n, _ := strconv.ParseInt(old.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	setTemplateGeneration(updated, n)
	return n
}

func setTemplateGeneration(d *appsv1.DaemonSet, n int64) {
	annotations := make(map[string]string, len(d.Annotations)+1)
	for k, v := range d.Annotations {
		annotations[k] = v
	}
	annotations[appsv1.DeprecatedTemplateGeneration] = strconv.FormatInt(n, 10)
	d.Annotations = annotations
}
