package api

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func storageClassColumns() []metav1.TableColumnDefinition {
	doc := storagev1.StorageClass{}.SwaggerDoc()
	return []metav1.TableColumnDefinition{
		nameColumn(),
		column("Provisioner", doc["provisioner"]),
		column("ReclaimPolicy", doc["reclaimPolicy"]),
		column("VolumeBindingMode", doc["volumeBindingMode"]),
		column("AllowVolumeExpansion", doc["allowVolumeExpansion"]),
		ageColumn(),
	}
}

// storageClassCells mark every class that says it is the default: a row does not see which of several is the newest.
func storageClassCells(c *storagev1.StorageClass, now time.Time) []any {
	name := c.Name
	for _, annotation := range []string{"storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"} {
		if c.Annotations[annotation] == "true" {
			name = c.Name + " (default)"
		}
	}
	return []any{
		name, c.Provisioner, string(deref(c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)),
		string(deref(c.VolumeBindingMode, storagev1.VolumeBindingImmediate)), deref(c.AllowVolumeExpansion, false), since(c.CreationTimestamp, now),
	}
}

func volumeAttributesClassColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{nameColumn(), column("DriverName", storagev1.VolumeAttributesClass{}.SwaggerDoc()["driverName"]), ageColumn()}
}

func volumeAttributesClassCells(c *storagev1.VolumeAttributesClass, now time.Time) []any {
	return []any{c.Name, c.DriverName, since(c.CreationTimestamp, now)}
}

func csiDriverColumns() []metav1.TableColumnDefinition {
	doc := storagev1.CSIDriverSpec{}.SwaggerDoc()
	return []metav1.TableColumnDefinition{
		nameColumn(),
		truth("AttachRequired", doc["attachRequired"]),
		truth("PodInfoOnMount", doc["podInfoOnMount"]),
		truth("StorageCapacity", doc["storageCapacity"]),
		column("TokenRequests", doc["tokenRequests"]),
		truth("RequiresRepublish", doc["requiresRepublish"]),
		column("Modes", doc["volumeLifecycleModes"]),
		ageColumn(),
	}
}

func csiDriverCells(d *storagev1.CSIDriver, now time.Time) []any {
	s := &d.Spec
	tokens := unsetText
	if s.TokenRequests != nil {
		var audiences []string
		for _, r := range s.TokenRequests {
			audiences = append(audiences, r.Audience)
		}
		tokens = strings.Join(audiences, ",")
	}
	var modes []string
	for _, m := range s.VolumeLifecycleModes {
		modes = append(modes, string(m))
	}
	return []any{
		d.Name, deref(s.AttachRequired, true), deref(s.PodInfoOnMount, false), deref(s.StorageCapacity, false), tokens,
		deref(s.RequiresRepublish, false), orNone(strings.Join(modes, ",")), since(d.CreationTimestamp, now),
	}
}

func csiNodeColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		nameColumn(), number("Drivers", "Drivers indicates the number of CSI drivers registered on the node"), ageColumn(),
	}
}

func csiNodeCells(n *storagev1.CSINode, now time.Time) []any {
	return []any{n.Name, int64(len(n.Spec.Drivers)), since(n.CreationTimestamp, now)}
}

func volumeAttachmentColumns() []metav1.TableColumnDefinition {
	spec := storagev1.VolumeAttachmentSpec{}.SwaggerDoc()
	attacher := column("Attacher", spec["attacher"])
	attacher.Format = "name"
	return []metav1.TableColumnDefinition{
		nameColumn(),
		attacher,
		column("PV", storagev1.VolumeAttachmentSource{}.SwaggerDoc()["persistentVolumeName"]),
		column("Node", spec["nodeName"]),
		truth("Attached", storagev1.VolumeAttachmentStatus{}.SwaggerDoc()["attached"]),
		ageColumn(),
	}
}

func volumeAttachmentCells(a *storagev1.VolumeAttachment, now time.Time) []any {
	return []any{
		a.Name, a.Spec.Attacher, deref(a.Spec.Source.PersistentVolumeName, ""), a.Spec.NodeName, a.Status.Attached, since(a.CreationTimestamp, now),
	}
}

func csiStorageCapacityColumns() []metav1.TableColumnDefinition {
	doc := storagev1.CSIStorageCapacity{}.SwaggerDoc()
	return []metav1.TableColumnDefinition{nameColumn(), column("StorageClassName", doc["storageClassName"]), column("Capacity", doc["capacity"])}
}

func csiStorageCapacityCells(c *storagev1.CSIStorageCapacity, _ time.Time) []any {
	capacity := unsetText
	if c.Capacity != nil {
		capacity = c.Capacity.String()
	}
	return []any{c.Name, c.StorageClassName, capacity}
}
