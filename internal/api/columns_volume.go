package api

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const unsetText = "<unset>"

func persistentVolumeColumns() []metav1.TableColumnDefinition {
	spec, status := corev1.PersistentVolumeSpec{}.SwaggerDoc(), corev1.PersistentVolumeStatus{}.SwaggerDoc()
	return append([]metav1.TableColumnDefinition{
		nameColumn(),
		column("Capacity", spec["capacity"]),
		column("Access Modes", spec["accessModes"]),
		column("Reclaim Policy", spec["persistentVolumeReclaimPolicy"]),
		column("Status", status["phase"]),
		column("Claim", spec["claimRef"]),
		column("StorageClass", "StorageClass of the pv"),
		column("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
		column("Reason", status["reason"]),
		ageColumn(),
	}, wide(column("VolumeMode", spec["volumeMode"]))...)
}

func persistentVolumeCells(v *corev1.PersistentVolume, now time.Time) []any {
	capacity := v.Spec.Capacity[corev1.ResourceStorage]
	claim := ""
	if c := v.Spec.ClaimRef; c != nil {
		claim = c.Namespace + "/" + c.Name
	}
	return []any{
		v.Name, capacity.String(), accessModes(v.Spec.AccessModes), string(v.Spec.PersistentVolumeReclaimPolicy), phaseOf(v, string(v.Status.Phase)),
		claim, storageClass(v, v.Spec.StorageClassName), deref(v.Spec.VolumeAttributesClassName, unsetText), v.Status.Reason,
		since(v.CreationTimestamp, now), string(deref(v.Spec.VolumeMode, unsetText)),
	}
}

func claimColumns() []metav1.TableColumnDefinition {
	spec, status := corev1.PersistentVolumeClaimSpec{}.SwaggerDoc(), corev1.PersistentVolumeClaimStatus{}.SwaggerDoc()
	return append([]metav1.TableColumnDefinition{
		nameColumn(),
		column("Status", status["phase"]),
		column("Volume", spec["volumeName"]),
		column("Capacity", status["capacity"]),
		column("Access Modes", status["accessModes"]),
		column("StorageClass", "StorageClass of the pvc"),
		column("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
		ageColumn(),
	}, wide(column("VolumeMode", spec["volumeMode"]))...)
}

// claimCells show what a claim has, which is nothing before it has a volume.
func claimCells(c *corev1.PersistentVolumeClaim, now time.Time) []any {
	size, modes := "", ""
	if c.Spec.VolumeName != "" {
		capacity := c.Status.Capacity[corev1.ResourceStorage]
		size, modes = capacity.String(), accessModes(c.Status.AccessModes)
	}
	return []any{
		c.Name, phaseOf(c, string(c.Status.Phase)), c.Spec.VolumeName, size, modes, storageClass(c, deref(c.Spec.StorageClassName, "")),
		deref(c.Spec.VolumeAttributesClassName, unsetText), since(c.CreationTimestamp, now), string(deref(c.Spec.VolumeMode, unsetText)),
	}
}

func phaseOf(o Object, phase string) string {
	if o.GetDeletionTimestamp() != nil {
		return "Terminating"
	}
	return phase
}

// storageClass looks first where the class once was.
func storageClass(o Object, class string) string {
	if old, ok := o.GetAnnotations()[corev1.BetaStorageClassAnnotation]; ok {
		return old
	}
	return class
}

// accessModes are always in the same order.
func accessModes(modes []corev1.PersistentVolumeAccessMode) string {
	var short []string
	for _, m := range []struct {
		mode corev1.PersistentVolumeAccessMode
		text string
	}{{corev1.ReadWriteOnce, "RWO"}, {corev1.ReadOnlyMany, "ROX"}, {corev1.ReadWriteMany, "RWX"}, {corev1.ReadWriteOncePod, "RWOP"}} {
		if slices.Contains(modes, m.mode) {
			short = append(short, m.text)
		}
	}
	return strings.Join(short, ",")
}
