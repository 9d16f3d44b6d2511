package testcluster_test

import (
	"context"
	"fmt"
	"math/rand"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/testcluster"
	"shoal/internal/testcluster/linear"
)

// TestDataStaysWhereItIs has a StatefulSet with claims of class local scaled, and its pods deleted, while peers die, Masters change and links break. At no
// moment is a volume another claim's than it was made for, or a claim's volume another one than it was; in the end every pod is where its data is, and
// there is one volume for each claim. A minute a seed, of the cluster's time; CHAOS_TIME and CHAOS_SEED as for the histories.
func TestDataStaysWhereItIs(t *testing.T) {
	seed, span := linear.Chaos(t, 0.02)
	start := time.Now()
	for i := int64(0); i < 2 || time.Since(start) < span; i++ {
		t.Run(fmt.Sprint(seed+i), func(t *testing.T) {
			rng := rand.New(rand.NewSource(seed + i))
			inCluster(t, 3, testcluster.Options{Seed: seed + i}, func(c *cluster) { c.disturbData(rng) })
		})
	}
}

func (c *cluster) disturbData(rng *rand.Rand) {
	c.nodes()
	all := c.Names()
	c.Sync()
	from := c.Registry(all[0]).Revision()
	l := map[string]string{"app": "db"}
	c.create(all[0], api.StatefulSets, &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: new(int32(3)), Selector: &metav1.LabelSelector{MatchLabels: l}, PodManagementPolicy: appsv1.ParallelPodManagement,
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: l}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "example.org/main:1"}}}},
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{
				ObjectMeta: metav1.ObjectMeta{Name: "data"},
				Spec: corev1.PersistentVolumeClaimSpec{
					AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
				},
			}},
		},
	})
	ctx, stop := context.WithCancel(c.Context())
	var wg sync.WaitGroup
	claims := c.observe(ctx, &wg, api.PersistentVolumeClaims, 0, from, rng.Int63())
	volumes := c.observe(ctx, &wg, api.PersistentVolumes, 1, from, rng.Int63())
	scale := func(at string, n int) {
		cl := c.Client(at)
		p := client.Patch{Type: types.MergePatchType, Data: fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, n)}
		c.Retry("scale", func(ctx context.Context) error {
			_, err := cl.Patch(ctx, api.StatefulSets, client.Key{Namespace: "default", Name: "db"}, p, client.PatchOptions{})
			return err
		})
	}
	var down []string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		up := c.Names()
		at := up[rng.Intn(len(up))]
		switch rng.Intn(6) {
		case 0, 1:
			scale(at, 1+rng.Intn(8))
		case 2:
			if pods := alive(list[*corev1.Pod](c, at, api.Pods, "default")); len(pods) > 0 {
				_, _ = c.Client(at).Delete(c.Context(), api.Pods, client.KeyOf(pods[rng.Intn(len(pods))]), client.DeleteOptions{})
			}
		case 3:
			c.MoveMaster()
		case 4:
			if len(down) > 0 {
				c.Restart(down...)
				down = nil
			} else {
				c.Kill(at)
				down = []string{at}
			}
		case 5:
			if len(down) == 0 {
				c.Isolate(at)
				testcluster.Pass(c.Context(), time.Duration(rng.Intn(5000))*time.Millisecond)
				c.Heal()
			}
		}
		testcluster.Pass(c.Context(), time.Duration(rng.Intn(4000))*time.Millisecond)
	}
	c.Restart(down...)
	c.nodes()
	at := all[rng.Intn(len(all))]
	scale(at, 8)
	c.Until("all pods run", func() bool {
		ready := 0
		for _, p := range list[*corev1.Pod](c, at, api.Pods, "default") {
			if p.DeletionTimestamp == nil && api.IsPodReady(p) {
				ready++
			}
		}
		return ready == 8
	})
	c.Sync()
	testcluster.Pass(c.Context(), 10*time.Second) // for the watches to come to the end
	stop()
	wg.Wait()
	c.judgeData(at, claims.seen, volumes.seen)
}

func (c *cluster) judgeData(at string, claims, volumes []seen) {
	c.Helper()
	of := map[types.UID]string{}
	for _, s := range claims {
		claim := s.object.(*corev1.PersistentVolumeClaim)
		if was := of[claim.UID]; was != "" && claim.Spec.VolumeName != was {
			c.Errorf("at %d: claim %s had volume %s and has %q", s.rev, claim.Name, was, claim.Spec.VolumeName)
		}
		of[claim.UID] = claim.Spec.VolumeName
	}
	for _, s := range volumes {
		v := s.object.(*corev1.PersistentVolume)
		if v.Spec.ClaimRef == nil || v.Name != "pvc-"+string(v.Spec.ClaimRef.UID) {
			c.Errorf("at %d: volume %s is of %v", s.rev, v.Name, v.Spec.ClaimRef)
		}
	}
	if len(of) == 0 || len(volumes) == 0 {
		c.Error("nothing was seen")
	}
	nodes := map[string]string{} // of volumes
	for _, v := range list[*corev1.PersistentVolume](c, at, api.PersistentVolumes, "") {
		nodes[v.Name] = api.LocalVolumeNode(v)
	}
	for _, p := range list[*corev1.Pod](c, at, api.Pods, "default") {
		o, err := c.Registry(at).Get(c.Context(), api.PersistentVolumeClaims, client.Key{Namespace: "default", Name: "data-" + p.Name}, client.GetOptions{ResourceVersion: "0"})
		if err != nil {
			c.Fatal(err)
		}
		claim := o.(*corev1.PersistentVolumeClaim)
		if node := nodes[claim.Spec.VolumeName]; !api.IsClaimBound(claim) || claim.Status.Phase != corev1.ClaimBound || node != p.Spec.NodeName {
			c.Errorf("pod %s is on %s, its claim is %s, its data on %q", p.Name, p.Spec.NodeName, claim.Status.Phase, node)
		}
	}
	if have := list[*corev1.PersistentVolumeClaim](c, at, api.PersistentVolumeClaims, "default"); len(nodes) != len(have) {
		c.Errorf("%d volumes for %d claims", len(nodes), len(have))
	}
}
