package master_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"shoal/internal/api"
	"shoal/internal/client"
)

func statefulSet(n int32, change ...func(*appsv1.StatefulSet)) *appsv1.StatefulSet {
	l := map[string]string{"app": "db"}
	s := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "db"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &n, ServiceName: "db", Selector: &metav1.LabelSelector{MatchLabels: l},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: l}, Spec: podSpec()},
		},
	}
	for _, f := range append([]func(*appsv1.StatefulSet){dbVersion(1)}, change...) {
		f(s)
	}
	return s
}

func dbVersion(v int) func(*appsv1.StatefulSet) {
	return func(s *appsv1.StatefulSet) {
		s.Spec.Template.Spec.Containers[0].Image = fmt.Sprint("example.org/main:", v)
	}
}

func dbBroken(is bool) func(*appsv1.StatefulSet) {
	return func(s *appsv1.StatefulSet) {
		s.Spec.Template.Annotations = nil
		if is {
			s.Spec.Template.Annotations = map[string]string{"test/broken": "yes"}
		}
	}
}

func inParallel(s *appsv1.StatefulSet) { s.Spec.PodManagementPolicy = appsv1.ParallelPodManagement }

func (c *cluster) statefulSet() *appsv1.StatefulSet {
	c.Helper()
	return get[*appsv1.StatefulSet](c, api.StatefulSets, metav1.NamespaceDefault, "db")
}

func (c *cluster) alterStatefulSet(change ...func(*appsv1.StatefulSet)) {
	c.Helper()
	modify(c, api.StatefulSets, "db", change...)
}

func dbReplicas(n int32) func(*appsv1.StatefulSet) {
	return func(s *appsv1.StatefulSet) { s.Spec.Replicas = &n }
}

// versions tells the versions of the pods, in the order of their names, which must be those of the numbers from 0 on.
func (c *cluster) versions() (all []string) {
	c.Helper()
	for i, p := range c.pods() {
		if p.Name != fmt.Sprint("db-", i) || p.Labels[appsv1.PodIndexLabel] != fmt.Sprint(i) || p.Spec.Hostname != p.Name || p.Spec.Subdomain != "db" {
			c.Errorf("pod %d is %s, labels %v, host %s.%s", i, p.Name, p.Labels, p.Spec.Hostname, p.Spec.Subdomain)
		}
		all = append(all, p.Spec.Containers[0].Image[len("example.org/main:"):])
	}
	return all
}

func (c *cluster) wantVersions(want ...string) {
	c.Helper()
	if got := c.versions(); !slices.Equal(got, want) {
		c.Errorf("versions %v, want %v", got, want)
	}
}

func TestAStatefulSetGrowsAndShrinksInOrder(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		stop := c.observe(func(pods []*corev1.Pod) {
			// Each pod is ready before the next is there; and the last goes first, one at a time.
			ending := 0
			there := map[string]*corev1.Pod{}
			for _, p := range pods {
				there[p.Name] = p
				if p.DeletionTimestamp != nil {
					ending++
				}
			}
			for i := range len(pods) {
				p := there[fmt.Sprint("db-", i)]
				if p == nil || i+1 < len(pods) && !api.IsPodReady(p) {
					c.Errorf("%d pods, and db-%d is not ready or not there", len(pods), i)
				}
			}
			if ending > 1 {
				c.Errorf("%d pods end at once", ending)
			}
		})
		c.create(api.StatefulSets, statefulSet(4))
		c.settle()
		c.wantVersions("1", "1", "1", "1")
		c.alterStatefulSet(dbReplicas(1))
		c.wantVersions("1")
		c.alterStatefulSet(dbReplicas(3))
		c.wantVersions("1", "1", "1")
		stop()
		s := c.statefulSet().Status
		if s.Replicas != 3 || s.ReadyReplicas != 3 || s.AvailableReplicas != 3 || s.CurrentReplicas != 3 || s.UpdatedReplicas != 3 || s.CurrentRevision != s.UpdateRevision {
			t.Errorf("status %+v", s)
		}
	})
}

func TestAPodThatIsNotReadyHoldsTheNextUp(t *testing.T) {
	for _, parallel := range []bool{false, true} {
		inCluster(t, 1, func(c *cluster) {
			s := statefulSet(3, dbBroken(true))
			want := 1
			if parallel {
				inParallel(s)
				want = 3
			}
			c.create(api.StatefulSets, s)
			c.pass(time.Hour)
			if n := len(c.pods()); n != want {
				t.Errorf("%d pods, want %d", n, want)
			}
		})
	}
}

func TestAStatefulSetRollsDownToItsPartition(t *testing.T) {
	partition := func(n int32) func(*appsv1.StatefulSet) {
		return func(s *appsv1.StatefulSet) {
			s.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{
				Type: appsv1.RollingUpdateStatefulSetStrategyType, RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: &n},
			}
		}
	}
	inCluster(t, 2, func(c *cluster) {
		c.create(api.StatefulSets, statefulSet(4, partition(2)))
		c.settle()
		stop := c.observe(c.withinBounds(4, 3))
		c.alterStatefulSet(dbVersion(2))
		c.wantVersions("1", "1", "2", "2")
		if s := c.statefulSet().Status; s.CurrentReplicas != 2 || s.UpdatedReplicas != 2 || s.CurrentRevision == s.UpdateRevision {
			t.Errorf("half way: %+v", s)
		}
		// What is deleted below the partition comes back as it was.
		if _, err := c.Delete(c.Context(), api.Pods, client.Key{Namespace: "default", Name: "db-0"}, client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.settle()
		c.wantVersions("1", "1", "2", "2")
		c.stop()
		c.lead(2)
		c.alterStatefulSet(partition(0))
		c.wantVersions("2", "2", "2", "2")
		stop()
		if s := c.statefulSet().Status; s.CurrentReplicas != 4 || s.UpdatedReplicas != 4 || s.CurrentRevision != s.UpdateRevision {
			t.Errorf("at the end: %+v", s)
		}
		c.alterStatefulSet(dbVersion(1))
		c.wantVersions("1", "1", "1", "1")
	})
}

func TestAParallelStatefulSetMayMissMore(t *testing.T) {
	inCluster(t, 2, func(c *cluster) {
		c.create(api.StatefulSets, statefulSet(6, inParallel, func(s *appsv1.StatefulSet) {
			s.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{MaxUnavailable: new(intstr.FromInt32(2))}
			s.Spec.UpdateStrategy.Type = appsv1.RollingUpdateStatefulSetStrategyType
		}))
		c.settle()
		stop := c.observe(c.withinBounds(6, 4))
		c.alterStatefulSet(dbVersion(2))
		c.wantVersions("2", "2", "2", "2", "2", "2")
		stop()
		// A version that never becomes ready is left behind by the next.
		c.alterStatefulSet(dbVersion(3), dbBroken(true))
		c.alterStatefulSet(dbVersion(4), dbBroken(false))
		c.wantVersions("4", "4", "4", "4", "4", "4")
	})
}

func TestOnDeleteLeavesStatefulPodsAlone(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.create(api.StatefulSets, statefulSet(2, func(s *appsv1.StatefulSet) { s.Spec.UpdateStrategy.Type = appsv1.OnDeleteStatefulSetStrategyType }))
		c.settle()
		c.alterStatefulSet(dbVersion(2))
		c.wantVersions("1", "1")
		if _, err := c.Delete(c.Context(), api.Pods, client.Key{Namespace: "default", Name: "db-1"}, client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.settle()
		c.wantVersions("1", "2")
	})
}

// TestNoTwoPodsOfOneName: a machine that does not answer may still run its pod.
func TestNoTwoPodsOfOneName(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.create(api.StatefulSets, statefulSet(3))
		c.settle()
		lost := get[*corev1.Pod](c, api.Pods, "default", "db-1")
		c.live.set(lost.Spec.NodeName, api.Gone)
		c.pass(24 * time.Hour)
		if p := get[*corev1.Pod](c, api.Pods, "default", "db-1"); p.UID != lost.UID || p.DeletionTimestamp != nil {
			t.Error("the pod was replaced while its machine may still run it")
		}
		c.live.set(lost.Spec.NodeName, api.Alive)
		c.settle()
		if p := get[*corev1.Pod](c, api.Pods, "default", "db-1"); p.UID != lost.UID || !api.IsPodReady(p) {
			t.Errorf("the pod did not come back with its machine: %+v", p.Status)
		}
		// Who deletes the Node says that the machine is no more.
		c.live.set(lost.Spec.NodeName, api.Gone)
		c.pass(time.Minute)
		if _, err := c.Delete(c.Context(), api.Nodes, client.Key{Name: lost.Spec.NodeName}, client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.pass(time.Minute)
		c.wantVersions("1", "1", "1")
		if p := get[*corev1.Pod](c, api.Pods, "default", "db-1"); p.UID == lost.UID || !api.IsPodReady(p) {
			t.Error("the pod of a machine that is no more was not replaced")
		}
	})
}

func TestClaimsOfAStatefulSet(t *testing.T) {
	claims := func(c *cluster) (names []string) {
		l, err := c.List(c.Context(), api.PersistentVolumeClaims, client.ListOptions{Namespace: "default"})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range l.Items {
			names = append(names, o.GetName())
		}
		return names
	}
	for _, policy := range []appsv1.PersistentVolumeClaimRetentionPolicyType{appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType} {
		t.Run(string(policy), func(t *testing.T) {
			inCluster(t, 1, func(c *cluster) {
				c.create(api.StatefulSets, statefulSet(2, func(s *appsv1.StatefulSet) {
					s.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{
						ObjectMeta: metav1.ObjectMeta{Name: "data"},
						Spec: corev1.PersistentVolumeClaimSpec{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, Resources: corev1.VolumeResourceRequirements{
							Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
						}},
					}}
					s.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: policy, WhenScaled: policy}
				}))
				c.settle()
				if got := claims(c); !slices.Equal(got, []string{"data-db-0", "data-db-1"}) {
					t.Fatalf("claims %v", got)
				}
				if v := c.pods()[0].Spec.Volumes; len(v) == 0 || v[len(v)-1].PersistentVolumeClaim == nil || v[len(v)-1].PersistentVolumeClaim.ClaimName != "data-db-0" {
					t.Errorf("volumes %+v", v)
				}
				kept := []string{"data-db-0", "data-db-1"}
				if policy == appsv1.DeletePersistentVolumeClaimRetentionPolicyType {
					kept = kept[:1]
				}
				c.alterStatefulSet(dbReplicas(1))
				if got := claims(c); !slices.Equal(got, kept) {
					t.Errorf("after scaling down: claims %v, want %v", got, kept)
				}
				if policy == appsv1.DeletePersistentVolumeClaimRetentionPolicyType {
					kept = nil
				}
				if _, err := c.Delete(c.Context(), api.StatefulSets, client.KeyOf(c.statefulSet()), client.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
				c.settle()
				if got := claims(c); !slices.Equal(got, kept) || len(c.pods()) != 0 {
					t.Errorf("after the deletion: %d pods, claims %v, want %v", len(c.pods()), got, kept)
				}
			})
		})
	}
}

func TestAMasterMayEndAtEveryWriteOfAStatefulSet(t *testing.T) {
	for _, most := range []int{1, 2, 3} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			inCluster(t, 2, func(c *cluster) {
				c.create(api.StatefulSets, statefulSet(3))
				c.settle()
				stop := c.observe(c.withinBounds(3, 2))
				c.stop()
				c.alterStatefulSet(dbVersion(2))
				for term := uint64(2); ; term++ {
					l := &limited{Interface: c.Registry, left: most}
					c.leadAs(term, l)
					c.settle()
					c.stop()
					if l.left > 0 {
						break
					}
					if term > 500 {
						t.Fatal("the rollout does not end")
					}
				}
				c.wantVersions("2", "2", "2")
				stop()
			})
		})
	}
}
