package api

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// goodStatefulSet has a claim that its container mounts.
func goodStatefulSet() *appsv1.StatefulSet {
	s := &appsv1.StatefulSet{ObjectMeta: goodMeta(), Spec: appsv1.StatefulSetSpec{ServiceName: "web", Selector: goodSelector(), Template: goodTemplate()}}
	s.Spec.Template.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	claim := corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data"}}
	claim.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	s.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{claim}
	return s
}

func TestDefaultsOfAStatefulSet(t *testing.T) {
	type strategy = appsv1.StatefulSetUpdateStrategy
	type rolling = appsv1.RollingUpdateStatefulSetStrategy
	for _, c := range []struct {
		rule        string
		given, want strategy
	}{
		{"one at a time", strategy{}, strategy{Type: "RollingUpdate", RollingUpdate: &rolling{Partition: new(int32(0)), MaxUnavailable: count(1)}}},
		{"what is given stays", strategy{RollingUpdate: &rolling{Partition: new(int32(2))}}, strategy{Type: "RollingUpdate", RollingUpdate: &rolling{Partition: new(int32(2)), MaxUnavailable: count(1)}}},
		{"a type alone stays alone", strategy{Type: "RollingUpdate"}, strategy{Type: "RollingUpdate"}},
		{"nothing rolls on deletion", strategy{Type: "OnDelete"}, strategy{Type: "OnDelete"}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			s := goodStatefulSet()
			s.Spec.UpdateStrategy = c.given
			StatefulSets.Default(s)
			if diff := cmp.Diff(c.want, s.Spec.UpdateStrategy); diff != "" {
				t.Error(diff)
			}
			retention := s.Spec.PersistentVolumeClaimRetentionPolicy
			if *s.Spec.Replicas != 1 || *s.Spec.RevisionHistoryLimit != 10 || s.Spec.PodManagementPolicy != "OrderedReady" || retention.WhenDeleted != "Retain" || retention.WhenScaled != "Retain" {
				t.Errorf("got %+v", s.Spec)
			}
			claim := s.Spec.VolumeClaimTemplates[0]
			if claim.Kind != "PersistentVolumeClaim" || claim.APIVersion != "v1" || *claim.Spec.VolumeMode != "Filesystem" || claim.Status.Phase != "Pending" {
				t.Errorf("the claim is %+v", claim)
			}
		})
	}
}

func TestNewStatefulSets(t *testing.T) {
	claim := func(f func(*corev1.PersistentVolumeClaimSpec)) func(*appsv1.StatefulSet) {
		return func(s *appsv1.StatefulSet) { f(&s.Spec.VolumeClaimTemplates[0].Spec) }
	}
	const (
		atClaim  = "spec.volumeClaimTemplates[0].spec."
		rolling  = "spec.updateStrategy.rollingUpdate"
		retained = `: Unsupported value: supported values: "Retain", "Delete"`
	)
	checkCreates(t, StatefulSets, goodStatefulSet, []change[*appsv1.StatefulSet]{
		{
			rule: "a name is a host name", do: func(s *appsv1.StatefulSet) { s.Name = "web.1" },
			want: []string{"metadata.name: Invalid value: must not contain dots"},
		},
		{rule: "a service is not needed", do: func(s *appsv1.StatefulSet) { s.Spec.ServiceName = "" }},
		{
			rule: "a service's name is a label", do: func(s *appsv1.StatefulSet) { s.Spec.ServiceName = "a.b" },
			want: []string{"spec.serviceName: Invalid value: must not contain dots"},
		},
		{rule: "a selector is needed", do: func(s *appsv1.StatefulSet) { s.Spec.Selector = nil }, want: []string{"spec.selector: Required value", mismatched}},
		{
			rule: "a selector selects something", do: func(s *appsv1.StatefulSet) { s.Spec.Selector = &metav1.LabelSelector{} },
			want: []string{"spec.selector: Invalid value: empty selector is invalid for statefulset"},
		},
		{
			rule: "pods that last", do: func(s *appsv1.StatefulSet) {
				s.Spec.Template.Spec.RestartPolicy, s.Spec.Template.Spec.ActiveDeadlineSeconds = "Never", new(int64(5))
			},
			want: []string{onlyAlways, "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in StatefulSet is not Supported"},
		},
		{
			rule: "a mount needs a volume or a claim", do: func(s *appsv1.StatefulSet) { s.Spec.VolumeClaimTemplates = nil },
			want: []string{"spec.template.spec.containers[0].volumeMounts[0].name: Not found"},
		},
		{rule: "names that are replaced do not matter", do: func(s *appsv1.StatefulSet) {
			s.Spec.Template.Spec.Hostname, s.Spec.Template.Spec.Subdomain = "A_", "B_"
		}},
		{
			rule: "known policies", do: func(s *appsv1.StatefulSet) {
				s.Spec.PodManagementPolicy = "Random"
				s.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: "Keep", WhenScaled: "Keep"}
			},
			want: []string{
				"spec.podManagementPolicy: Invalid value: must be 'OrderedReady' or 'Parallel'",
				"spec.persistentVolumeClaimRetentionPolicy.whenDeleted" + retained, "spec.persistentVolumeClaimRetentionPolicy.whenScaled" + retained,
			},
		},
		{
			rule: "known strategies", do: func(s *appsv1.StatefulSet) { s.Spec.UpdateStrategy.Type = "Recreate" },
			want: []string{"spec.updateStrategy: Invalid value: must be 'RollingUpdate' or 'OnDelete'"},
		},
		{
			rule: "nothing rolls on deletion", do: func(s *appsv1.StatefulSet) {
				s.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: "OnDelete", RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{}}
			},
			want: []string{rolling + ": Invalid value: only allowed for updateStrategy 'RollingUpdate'"},
		},
		{
			rule: "some room to move", do: func(s *appsv1.StatefulSet) {
				s.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{Partition: new(int32(-1)), MaxUnavailable: count(0)}
			},
			want: []string{rolling + ".partition" + negative, rolling + ".maxUnavailable: Invalid value: cannot be 0"},
		},
		{
			rule: "not more than all may be missing", do: func(s *appsv1.StatefulSet) {
				s.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{MaxUnavailable: share("101%")}
			},
			want: []string{rolling + ".maxUnavailable: Invalid value: must not be greater than 100%"},
		},
		{
			rule: "numbers from 0 on", do: func(s *appsv1.StatefulSet) {
				s.Spec.Replicas, s.Spec.MinReadySeconds, s.Spec.Ordinals = new(int32(-1)), -1, &appsv1.StatefulSetOrdinals{Start: -1}
			},
			want: []string{"spec.replicas" + negative, "spec.minReadySeconds" + negative, "spec.ordinals.start" + negative},
		},
		{
			rule: "a claim says how it is used and how large it is", do: claim(func(c *corev1.PersistentVolumeClaimSpec) { c.AccessModes, c.Resources.Requests = nil, nil }),
			want: []string{atClaim + "accessModes: Required value: at least 1 access mode is required", atClaim + "resources[storage]: Required value"},
		},
		{
			rule: "a claim has a size", do: claim(func(c *corev1.PersistentVolumeClaimSpec) {
				c.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("0")
			}),
			want: []string{atClaim + "resources[storage]: Invalid value: must be greater than zero"},
		},
		{
			rule: "known modes", do: claim(func(c *corev1.PersistentVolumeClaimSpec) {
				c.AccessModes, c.VolumeMode = append(c.AccessModes, "Never"), new(corev1.PersistentVolumeMode("Tape"))
			}),
			want: []string{
				atClaim + `accessModes: Unsupported value: supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"`,
				atClaim + `volumeMode: Unsupported value: supported values: "Block", "Filesystem"`,
			},
		},
		{
			rule: "one pod alone excludes others", do: claim(func(c *corev1.PersistentVolumeClaimSpec) {
				c.AccessModes = append(c.AccessModes, corev1.ReadWriteOncePod)
			}),
			want: []string{atClaim + "accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"},
		},
		{
			rule: "both spellings of a source agree", do: claim(func(c *corev1.PersistentVolumeClaimSpec) {
				c.DataSource = &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "a"}
				c.DataSourceRef = &corev1.TypedObjectReference{Kind: "PersistentVolumeClaim", Name: "b"}
			}),
			want: []string{"spec.volumeClaimTemplates[0].spec: Invalid value: must match dataSourceRef"},
		},
		{
			rule: "a source without group is a claim", do: claim(func(c *corev1.PersistentVolumeClaimSpec) {
				c.DataSource = &corev1.TypedLocalObjectReference{Kind: "Pod", Name: "a"}
			}),
			want: []string{atClaim + "dataSource: Invalid value: must be 'PersistentVolumeClaim' when referencing the default apiGroup"},
		},
	})
}

func TestUpdatesOfStatefulSets(t *testing.T) {
	checkUpdates(t, StatefulSets, goodStatefulSet, []change[*appsv1.StatefulSet]{
		{rule: "the template may change", do: func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = "nginx:2" }},
		{
			rule: "what pods are known by may not", do: func(s *appsv1.StatefulSet) {
				s.Spec.Selector.MatchLabels["tier"], s.Spec.Template.Labels["tier"] = "front", "front"
				s.Spec.ServiceName, s.Spec.PodManagementPolicy = "other", "Parallel"
			},
			want: []string{"spec.selector" + immutable, "spec.serviceName" + immutable, "spec.podManagementPolicy" + immutable},
		},
		{
			rule: "claims may not", do: func(s *appsv1.StatefulSet) { s.Spec.VolumeClaimTemplates[0].Spec.AccessModes[0] = "ReadOnlyMany" },
			want: []string{"spec.volumeClaimTemplates" + immutable},
		},
		{
			rule: "a bad template that is stored does not stand in the way", was: func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = "" },
			do: func(s *appsv1.StatefulSet) { s.Spec.Replicas = new(int32(0)) },
		},
		{
			rule: "a template does not become bad", do: func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = "" },
			want: []string{"spec.template.spec.containers[0].image: Required value"},
		},
	})
	checkStatuses(t, StatefulSets, goodStatefulSet, []change[*appsv1.StatefulSet]{
		{
			rule: "counts add up", do: func(s *appsv1.StatefulSet) {
				s.Status = appsv1.StatefulSetStatus{ReadyReplicas: 1, CurrentReplicas: 1, UpdatedReplicas: 1, AvailableReplicas: 2, ObservedGeneration: -1}
			},
			want: []string{
				"status.readyReplicas" + tooMany, "status.currentReplicas" + tooMany, "status.updatedReplicas" + tooMany, "status.availableReplicas" + tooMany,
				"status.availableReplicas: Invalid value: cannot be greater than status.readyReplicas", "status.observedGeneration" + negative,
			},
		},
		{
			rule: "collisions are not forgotten", was: func(s *appsv1.StatefulSet) { s.Status.CollisionCount = new(int32(2)) },
			do:   func(s *appsv1.StatefulSet) { s.Status.CollisionCount = nil },
			want: []string{"status.collisionCount: Invalid value: cannot be decremented"},
		},
	})
}

func TestCellsOfAStatefulSet(t *testing.T) {
	s := created(StatefulSets, goodStatefulSet())
	s.Spec.Replicas, s.Status.ReadyReplicas = new(int32(3)), 2
	checkCells(t, StatefulSets, s, "web", "2/3", "3h", "c", "nginx:1")
}
