package testcluster_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/testcluster"
)

// TestVolumesAreAttachedWhereTheirPodsAre has a pod with a driver's volume moved to another node: the volume is attached to one node at a time, whoever is Master.
func TestVolumesAreAttachedWhereTheirPodsAre(t *testing.T) {
	inCluster(t, 3, testcluster.Options{Seed: 5}, func(c *cluster) {
		c.nodes()
		at := c.Names()[0]
		size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
		once := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
		none := ""
		c.create(at, api.PersistentVolumes, &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: "disk"},
			Spec: corev1.PersistentVolumeSpec{
				Capacity: size, AccessModes: once,
				PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "disks.example", VolumeHandle: "d1"}},
			},
		})
		c.create(at, api.PersistentVolumeClaims, &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data"},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: once, StorageClassName: &none, VolumeName: "disk", Resources: corev1.VolumeResourceRequirements{Requests: size},
			},
		})
		pod := func(name, node string) {
			c.create(at, api.Pods, &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
				Spec: corev1.PodSpec{
					NodeName: node, Containers: []corev1.Container{{Name: "main", Image: "example.org/main:1"}},
					Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}},
				},
			})
		}
		attached := func(want ...string) {
			c.Until(fmt.Sprint("the volume is attached to ", want), func() bool {
				var got []string
				for _, a := range list[*storagev1.VolumeAttachment](c, at, api.VolumeAttachments, "") {
					if a.Spec.Attacher != "disks.example" || a.Spec.Source.PersistentVolumeName == nil || *a.Spec.Source.PersistentVolumeName != "disk" {
						t.Fatalf("%+v", a.Spec)
					}
					got = append(got, a.Spec.NodeName)
				}
				if len(got) > 1 {
					t.Fatalf("attached to %v", got)
				}
				return strings.Join(got, " ") == strings.Join(want, " ")
			})
		}
		gone := func(name string) {
			if _, err := c.Client(at).Delete(c.Context(), api.Pods, client.Key{Namespace: "default", Name: name}, client.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
				t.Fatal(err)
			}
		}
		first, second := c.Names()[1], c.Names()[2]
		pod("a", first)
		attached(first)
		pod("b", second)
		c.Until("the other pod is told why not", func() bool {
			for _, e := range list[*corev1.Event](c, at, api.Events, "default") {
				if e.Reason == "FailedAttachVolume" && e.InvolvedObject.Name == "b" {
					return true
				}
			}
			return false
		})
		attached(first)
		c.MoveMaster()
		gone("a")
		attached(second)
		gone("b")
		attached()
		c.create(at, api.CSIDrivers, &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "disks.example"}, Spec: storagev1.CSIDriverSpec{AttachRequired: new(bool)}})
		pod("c", first)
		testcluster.Pass(c.Context(), 5e9)
		attached()
	})
}
