package master_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

func newClaim(name, class, size string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name, Finalizers: []string{api.FinalizerClaim}},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}},
		},
	}
}

// newVolume is a directory of a node; of any when that is empty.
func newVolume(name, class, size, node string) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: []string{api.FinalizerVolume}},
		Spec: corev1.PersistentVolumeSpec{
			StorageClassName: class, Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)},
			AccessModes:                   []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/tmp"}},
		},
	}
	if node != "" {
		v.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
		}}}}
	}
	return v
}

func user(name string, claims ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name}, Spec: podSpec()}
	for _, claim := range claims {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: claim, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
		}})
	}
	return p
}

func (c *cluster) claim(name string) *corev1.PersistentVolumeClaim {
	c.Helper()
	return get[*corev1.PersistentVolumeClaim](c, api.PersistentVolumeClaims, metav1.NamespaceDefault, name)
}

func (c *cluster) volume(name string) *corev1.PersistentVolume {
	c.Helper()
	return get[*corev1.PersistentVolume](c, api.PersistentVolumes, "", name)
}

func (c *cluster) pod(name string) *corev1.Pod {
	c.Helper()
	return get[*corev1.Pod](c, api.Pods, metav1.NamespaceDefault, name)
}

func (c *cluster) volumes() (all []*corev1.PersistentVolume) {
	c.Helper()
	l, err := c.List(c.Context(), api.PersistentVolumes, client.ListOptions{})
	if err != nil {
		c.Fatal(err)
	}
	for _, o := range l.Items {
		all = append(all, o.(*corev1.PersistentVolume))
	}
	return all
}

func (c *cluster) remove(k *api.Kind, name string) {
	c.Helper()
	key := client.Key{Namespace: metav1.NamespaceDefault, Name: name}
	if !k.Namespaced {
		key.Namespace = ""
	}
	if _, err := c.Delete(c.Context(), k, key, client.DeleteOptions{}); err != nil {
		c.Fatal(err)
	}
	c.settle()
}

// bound reports whether a claim and a volume say that they belong to each other, and their status does, too.
func (c *cluster) isBound(claim, volume string) {
	c.Helper()
	is, v := c.claim(claim), c.volume(volume)
	if is.Spec.VolumeName != volume || is.Status.Phase != corev1.ClaimBound || !api.IsClaimBound(is) {
		c.Errorf("claim %s: volume %q, %s; annotations %v", claim, is.Spec.VolumeName, is.Status.Phase, is.Annotations)
	}
	if v.Spec.ClaimRef == nil || v.Spec.ClaimRef.UID != is.UID || v.Status.Phase != corev1.VolumeBound {
		c.Errorf("volume %s: of %v, %s", volume, v.Spec.ClaimRef, v.Status.Phase)
	}
	have, want := is.Status.Capacity[corev1.ResourceStorage], v.Spec.Capacity[corev1.ResourceStorage]
	if have.Cmp(want) != 0 || !slices.Equal(is.Status.AccessModes, v.Spec.AccessModes) {
		c.Errorf("claim %s: status %+v", claim, is.Status)
	}
}

func (c *cluster) stuck(pod, why string) {
	c.Helper()
	p := c.pod(pod)
	cond := api.PodCondition(p, corev1.PodScheduled)
	if p.Spec.NodeName != "" || cond == nil || !strings.Contains(cond.Message, why) {
		c.Errorf("pod %s on %q: %+v; want %q", pod, p.Spec.NodeName, cond, why)
	}
}

func TestAVolumeIsMadeWhereItsFirstPodRuns(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.create(api.PersistentVolumeClaims, newClaim("data", api.LocalClass, "1Gi"))
		c.settle()
		if claim := c.claim("data"); claim.Status.Phase != corev1.ClaimPending || len(c.volumes()) != 0 {
			t.Fatalf("%s, %d volumes, before there is a pod", claim.Status.Phase, len(c.volumes()))
		}
		c.create(api.Pods, user("first", "data"))
		c.settle()
		node := c.pod("first").Spec.NodeName
		if len(c.volumes()) != 1 {
			t.Fatalf("%d volumes, pod %+v, claim %+v", len(c.volumes()), c.pod("first"), c.claim("data"))
		}
		v := c.volumes()[0]
		c.isBound("data", v.Name)
		if node == "" || api.LocalVolumeNode(v) != node || v.Spec.NodeAffinity == nil || v.Spec.StorageClassName != api.LocalClass {
			t.Fatalf("pod on %q, volume %+v", node, v.Spec)
		}
		// The next one follows, however full the node is.
		full := user("full")
		full.Spec.NodeName = node
		full.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("3")
		c.create(api.Pods, full)
		c.remove(api.Pods, "first")
		c.create(api.Pods, user("second", "data"))
		c.settle()
		if got := c.pod("second").Spec.NodeName; got != node {
			t.Errorf("the second pod is on %q, its data on %q", got, node)
		}
		// Nowhere else, when that node takes no more.
		c.alterNode(node, func(n *corev1.Node) { n.Spec.Unschedulable = true })
		c.remove(api.Pods, "second")
		c.create(api.Pods, user("third", "data"))
		c.settle()
		c.stuck("third", "2 node(s) didn't match PersistentVolume's node affinity")
		c.remove(api.Pods, "third")
		c.remove(api.PersistentVolumeClaims, "data")
		if all := c.volumes(); len(all) != 0 {
			t.Errorf("the claim is gone, %d volumes are left", len(all))
		}
	})
}

// The finalizer says that the machine holds data: it is the machine that takes it away, or the end of its Node.
func TestAVolumeGoesWithItsNode(t *testing.T) {
	inCluster(t, 2, func(c *cluster) {
		c.create(api.PersistentVolumeClaims, newClaim("data", api.LocalClass, "1Gi"))
		c.create(api.Pods, user("p", "data"))
		c.settle()
		v := c.volumes()[0]
		v = c.volume(v.Name)
		v.Finalizers = append(v.Finalizers, api.FinalizerLocal)
		if _, err := c.Update(c.Context(), api.PersistentVolumes, v, client.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		c.remove(api.Pods, "p")
		c.remove(api.PersistentVolumeClaims, "data")
		left := c.volume(v.Name)
		if left.DeletionTimestamp == nil || left.Status.Phase != corev1.VolumeReleased || !slices.Equal(left.Finalizers, []string{api.FinalizerLocal}) {
			t.Fatalf("%s, to go %v, finalizers %v", left.Status.Phase, left.DeletionTimestamp, left.Finalizers)
		}
		c.live.set(api.LocalVolumeNode(v), api.Gone)
		c.remove(api.Nodes, api.LocalVolumeNode(v))
		if all := c.volumes(); len(all) != 0 {
			t.Errorf("the node is gone, %d volumes are left", len(all))
		}
	})
}

func TestClaimsOfManyPodsAreAllBoundWhereTheirPodsAre(t *testing.T) {
	for _, most := range []int{0, 1, 2, 3, 5} { // writes before the Master ends; 0: it does not
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			inCluster(t, 3, func(c *cluster) {
				if most > 0 {
					c.stop()
				}
				c.create(api.StatefulSets, statefulSet(6, func(s *appsv1.StatefulSet) {
					s.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
					for _, name := range []string{"data", "log"} {
						claim := newClaim(name, api.LocalClass, "1Gi")
						claim.Finalizers = nil
						s.Spec.VolumeClaimTemplates = append(s.Spec.VolumeClaimTemplates, *claim)
					}
				}))
				c.settle()
				for term := uint64(2); most > 0; term++ {
					l := &limited{Interface: c.Registry, left: most}
					c.leadAs(term, l)
					c.settle()
					c.pass(2 * time.Second)
					c.stop()
					if l.left > 0 {
						break
					}
					if term > 500 {
						t.Fatal("it never ends")
					}
				}
				if most > 0 {
					c.lead(1000)
					c.pass(10 * time.Second)
				}
				for i := range 6 {
					pod := c.pod(fmt.Sprint("db-", i))
					for _, name := range []string{"data", "log"} {
						claim := c.claim(fmt.Sprint(name, "-db-", i))
						c.isBound(claim.Name, "pvc-"+string(claim.UID))
						if at := api.LocalVolumeNode(c.volume("pvc-" + string(claim.UID))); at != pod.Spec.NodeName || at == "" {
							t.Errorf("pod %s on %q, its %s on %q", pod.Name, pod.Spec.NodeName, name, at)
						}
					}
				}
				if n := len(c.volumes()); n != 12 {
					t.Errorf("%d volumes for 12 claims", n)
				}
			})
		})
	}
}

// Kubernetes: with WaitForFirstConsumer and volumes that are there, the pod goes where volumes for all of its claims are, and the smallest that will do are taken.
func TestAPodGoesToTheVolumesThatAreThere(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.create(api.StorageClasses, &storagev1.StorageClass{
			ObjectMeta: metav1.ObjectMeta{Name: "disks"}, Provisioner: "kubernetes.io/no-provisioner",
			VolumeBindingMode: new(storagev1.VolumeBindingWaitForFirstConsumer), ReclaimPolicy: new(corev1.PersistentVolumeReclaimDelete),
		})
		c.create(api.PersistentVolumes, newVolume("large", "disks", "100Gi", "node-1"))
		c.create(api.PersistentVolumes, newVolume("medium", "disks", "10Gi", "node-1"))
		c.create(api.PersistentVolumes, newVolume("lonely", "disks", "10Gi", "node-2"))
		for _, claim := range []string{"a", "b", "c", "d", "e"} {
			c.create(api.PersistentVolumeClaims, newClaim(claim, "disks", "5Gi"))
		}
		c.settle() // what is not Available yet is given to nobody
		for _, v := range c.volumes() {
			if v.Spec.ClaimRef != nil { // to a claim that reached the binder before its class had
				t.Fatalf("volume %s was given away before there was a pod, to %s", v.Name, v.Spec.ClaimRef.Name)
			}
		}
		c.create(api.Pods, user("two", "a", "b"))
		c.settle()
		if got := c.pod("two").Spec.NodeName; got != "node-1" {
			t.Fatalf("it is on %q", got)
		}
		c.isBound("a", "medium")
		c.isBound("b", "large")
		// Two at once for the one that is left.
		c.create(api.Pods, user("one", "c"))
		c.create(api.Pods, user("other", "d"))
		c.settle()
		var waiting string
		switch one, other := c.pod("one").Spec.NodeName, c.pod("other").Spec.NodeName; {
		case one == "node-2" && other == "":
			waiting = "other"
		case one == "" && other == "node-2":
			waiting = "one"
		default:
			t.Fatalf("on %q and %q", one, other)
		}
		c.stuck(waiting, "0/3 nodes are available: 3 node(s) didn't find available persistent volumes to bind.")
		c.create(api.PersistentVolumes, newVolume("more", "disks", "5Gi", "node-0"))
		c.pass(6 * time.Second)
		if got := c.pod(waiting).Spec.NodeName; got != "node-0" {
			t.Errorf("it is on %q, and there is a volume on node-0", got)
		}
		// What two pods share is in one place.
		c.create(api.PersistentVolumes, newVolume("shared-1", "disks", "5Gi", "node-1"))
		c.create(api.PersistentVolumes, newVolume("shared-2", "disks", "5Gi", "node-2"))
		c.settle()
		for i := range 4 {
			c.create(api.Pods, user(fmt.Sprint("sharing-", i), "e"))
		}
		c.settle()
		at := c.claim("e").Spec.VolumeName
		for i := range 4 {
			if got := c.pod(fmt.Sprint("sharing-", i)).Spec.NodeName; got == "" || got[5:] != at[7:] {
				t.Errorf("one is on %q, the volume is %s", got, at)
			}
		}
	})
}

func TestVolumesOfClaimsThatWaitForNoPod(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		named := newClaim("named", "", "1Gi")
		named.Spec.VolumeName = "wanted"
		kept := newVolume("kept", "", "3Gi", "")
		kept.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "default", Name: "expected"}
		for _, claim := range []*corev1.PersistentVolumeClaim{newClaim("any", "", "2Gi"), named, newClaim("expected", "", "1Gi"), newClaim("huge", "", "1Ti")} {
			c.create(api.PersistentVolumeClaims, claim)
		}
		c.create(api.Pods, user("p", "any"))
		c.settle()
		c.stuck("p", "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.")
		deletes := newVolume("deletes", "", "2Gi", "")
		deletes.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
		for _, v := range []*corev1.PersistentVolume{newVolume("small", "", "1Gi", ""), kept, deletes} {
			c.create(api.PersistentVolumes, v)
		}
		c.pass(6 * time.Second)
		c.create(api.PersistentVolumes, newVolume("big", "", "9Gi", ""))
		c.settle()
		c.isBound("any", "deletes")
		c.isBound("expected", "kept")
		if p := c.pod("p"); p.Spec.NodeName == "" {
			t.Error("its claim is bound, and it waits")
		}
		for _, name := range []string{"named", "huge"} {
			if phase := c.claim(name).Status.Phase; phase != corev1.ClaimPending {
				t.Errorf("%s is %s", name, phase)
			}
		}
		if phase := c.volume("small").Status.Phase; phase != corev1.VolumeAvailable {
			t.Errorf("a volume that nobody has is %s", phase)
		}
		c.create(api.PersistentVolumes, newVolume("wanted", "", "1Gi", ""))
		c.settle()
		c.isBound("named", "wanted")

		// Who retains is released and given to nobody; what nobody can delete says so.
		c.remove(api.PersistentVolumeClaims, "named")
		c.remove(api.Pods, "p")
		c.remove(api.PersistentVolumeClaims, "any")
		c.create(api.PersistentVolumeClaims, newClaim("next", "", "9Gi"))
		c.settle()
		c.isBound("next", "big")
		if v := c.volume("wanted"); v.Status.Phase != corev1.VolumeReleased || v.Spec.ClaimRef == nil {
			t.Errorf("a retained volume is %s, of %v", v.Status.Phase, v.Spec.ClaimRef)
		}
		if v := c.volume("deletes"); v.Status.Phase != corev1.VolumeFailed || v.Status.Message == "" {
			t.Errorf("a volume that nobody can delete is %+v", v.Status)
		}
		// A volume that goes by force leaves a claim that is lost.
		v := c.volume("big")
		v.Finalizers = nil
		if _, err := c.Update(c.Context(), api.PersistentVolumes, v, client.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		c.remove(api.PersistentVolumes, "big")
		if phase := c.claim("next").Status.Phase; phase != corev1.ClaimLost {
			t.Errorf("a claim without its volume is %s", phase)
		}
	})
}

func TestAClaimOfOnePodAlone(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		p := user("p")
		p.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{
			VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: newClaim("", api.LocalClass, "1Gi").Spec},
		}}}}
		c.create(api.Pods, p)
		c.pass(time.Second)
		claim := c.claim("p-scratch")
		c.isBound("p-scratch", "pvc-"+string(claim.UID))
		if !metav1.IsControlledBy(claim, c.pod("p")) || claim.Labels["a"] != "b" {
			t.Errorf("claim %+v", claim.ObjectMeta)
		}
		if c.pod("p").Spec.NodeName == "" {
			t.Error("the pod waits")
		}
		c.remove(api.Pods, "p")
		_, err := c.Get(c.Context(), api.PersistentVolumeClaims, client.KeyOf(claim), client.GetOptions{})
		if !apierrors.IsNotFound(err) || len(c.volumes()) != 0 {
			t.Errorf("the pod is gone, its claim: %v; %d volumes", err, len(c.volumes()))
		}
	})
}

func TestWhatCannotBeMadeIsSaid(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		shared := newClaim("shared", api.LocalClass, "1Gi")
		shared.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
		c.create(api.PersistentVolumeClaims, shared)
		c.create(api.PersistentVolumeClaims, newClaim("classless", "nonsense", "1Gi"))
		for pod, why := range map[string]string{
			"shared":    `class "local" makes volumes on one machine, which cannot be ReadWriteMany: ask for ReadWriteOnce`,
			"missing":   `persistentvolumeclaim "missing" not found`,
			"classless": "pod has unbound immediate PersistentVolumeClaims",
		} {
			c.create(api.Pods, user(pod, pod))
			c.settle()
			c.stuck(pod, why)
		}
		c.create(api.PersistentVolumeClaims, newClaim("missing", api.LocalClass, "1Gi"))
		c.pass(6 * time.Second)
		if c.pod("missing").Spec.NodeName == "" {
			t.Error("its claim has come, and it waits")
		}
	})
}

// A claim that was made before there was a default class gets it when it comes, as in Kubernetes since 1.26.
func TestAClaimWithoutAClassGetsTheDefaultThatComes(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.remove(api.StorageClasses, api.LocalClass)
		claim := newClaim("data", "", "1Gi")
		claim.Spec.StorageClassName = nil
		c.create(api.PersistentVolumeClaims, claim)
		c.settle()
		if got := c.claim("data").Spec.StorageClassName; got != nil {
			t.Fatalf("class %q", *got)
		}
		c.create(api.StorageClasses, api.LocalStorageClass())
		c.settle()
		if got := c.claim("data").Spec.StorageClassName; got == nil || *got != api.LocalClass {
			t.Errorf("class %v", got)
		}
	})
}

func TestAClusterWithADefaultClassKeepsIt(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		is := func(name string) bool {
			return get[*storagev1.StorageClass](c, api.StorageClasses, "", name).Annotations[api.AnnDefaultClass] == "true"
		}
		if !is(api.LocalClass) {
			t.Error("a new cluster has no default class")
		}
		c.stop()
		c.remove(api.StorageClasses, api.LocalClass)
		c.create(api.StorageClasses, &storagev1.StorageClass{
			ObjectMeta: metav1.ObjectMeta{Name: "disks", Annotations: map[string]string{api.AnnDefaultClass: "true"}}, Provisioner: "disks.example.org",
		})
		c.lead(2)
		c.settle()
		if is(api.LocalClass) || !is("disks") {
			t.Errorf("default: local %v, disks %v", is(api.LocalClass), is("disks"))
		}
	})
}
