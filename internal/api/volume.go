package api

import (
	"cmp"
	"crypto/sha256"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"
)

// LocalClass is the StorageClass that every cluster has: a directory on the machine where the claim's first pod runs.
const LocalClass = "local"

// LocalProvisioner is what makes volumes of LocalClass, and their CSI driver: the machines themselves.
const LocalProvisioner = "local.shoal.io"

// FinalizerLocal keeps a volume of the machines' own for as long as its machine holds data of it.
const FinalizerLocal = "shoal.io/local-data"

// localNode is the attribute of a local volume that names its Node.
const localNode = "shoal.io/node"

// AnnDefaultClass says "true" on the StorageClass of claims that name none.
const AnnDefaultClass = "storageclass.kubernetes.io/is-default-class"

// LocalStorageClass is LocalClass.
func LocalStorageClass() *storagev1.StorageClass {
	return &storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{Name: LocalClass, Annotations: map[string]string{AnnDefaultClass: "true"}},
		Provisioner: LocalProvisioner, VolumeBindingMode: new(storagev1.VolumeBindingWaitForFirstConsumer),
		ReclaimPolicy: new(corev1.PersistentVolumeReclaimDelete),
	}
}

// DefaultStorageClass is the class, of those given, of claims that name none: of those that say so the newest, as in Kubernetes; nil when none does.
func DefaultStorageClass[T Object](classes []T) (found *storagev1.StorageClass) {
	for _, o := range classes {
		c, ok := any(o).(*storagev1.StorageClass)
		if !ok || c.Annotations[AnnDefaultClass] != "true" && c.Annotations["storageclass.beta.kubernetes.io/is-default-class"] != "true" {
			continue
		}
		if found == nil || cmp.Or(found.CreationTimestamp.Compare(c.CreationTimestamp.Time), cmp.Compare(c.Name, found.Name)) < 0 {
			found = c
		}
	}
	return found
}

// WaitsForConsumer reports whether claims of a class, which may be nil, are bound when a pod that uses them is given a Node.
func WaitsForConsumer(class *storagev1.StorageClass) bool {
	return class != nil && class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}

// Provisions reports whether volumes of a class, which may be nil, are made for claims.
func Provisions(class *storagev1.StorageClass) bool {
	return class != nil && class.Provisioner != volume.NotSupportedProvisioner
}

// AttachmentName is the name of the VolumeAttachment of a CSI volume at a node, which is the same whoever computes it: Kubernetes' own.
func AttachmentName(v *corev1.PersistentVolume, node string) string {
	return fmt.Sprintf("csi-%x", sha256.Sum256([]byte(v.Spec.CSI.VolumeHandle+v.Spec.CSI.Driver+node)))
}

// IsClaimBound reports whether a claim has its volume for good.
func IsClaimBound(c *corev1.PersistentVolumeClaim) bool {
	return c.Spec.VolumeName != "" && metav1.HasAnnotation(c.ObjectMeta, volume.AnnBindCompleted)
}

// CheckLocalClaim returns why the machines can make no volume for a claim, in words for people.
func CheckLocalClaim(c *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) error {
	for _, m := range c.Spec.AccessModes {
		if m != corev1.ReadWriteOnce && m != corev1.ReadWriteOncePod {
			return fmt.Errorf("class %q makes volumes on one machine, which cannot be %s: ask for ReadWriteOnce", class.Name, m)
		}
	}
	switch {
	case c.Spec.VolumeMode != nil && *c.Spec.VolumeMode == corev1.PersistentVolumeBlock:
		return fmt.Errorf("class %q makes directories, no block devices: ask for volumeMode Filesystem", class.Name)
	case c.Spec.DataSource != nil || c.Spec.DataSourceRef != nil:
		return fmt.Errorf("class %q makes empty volumes only: leave out dataSource", class.Name)
	case c.Spec.Selector != nil:
		return fmt.Errorf("class %q makes volumes, which a selector cannot choose among: leave out selector", class.Name)
	case !WaitsForConsumer(class):
		return fmt.Errorf("class %q must have volumeBindingMode WaitForFirstConsumer: its volumes are made on the machine of the first pod", class.Name)
	}
	return nil
}

// NewLocalVolume is a volume on a Node for a claim.
func NewLocalVolume(c *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, node *corev1.Node) *corev1.PersistentVolume {
	name := "pvc-" + string(c.UID)
	reclaim := corev1.PersistentVolumeReclaimDelete
	if class.ReclaimPolicy != nil {
		reclaim = *class.ReclaimPolicy
	}
	host := node.Labels[corev1.LabelHostname]
	if host == "" {
		host = node.Name
	}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{
			volume.AnnDynamicallyProvisioned: class.Provisioner, volume.AnnBoundByController: "yes",
		}},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:    corev1.ResourceList{corev1.ResourceStorage: c.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes: c.Spec.AccessModes, PersistentVolumeReclaimPolicy: reclaim, StorageClassName: class.Name, VolumeMode: c.Spec.VolumeMode,
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: c.Namespace, Name: c.Name, UID: c.UID, ResourceVersion: c.ResourceVersion,
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				Driver: LocalProvisioner, VolumeHandle: name, VolumeAttributes: map[string]string{localNode: node.Name},
			}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{host}}},
			}}}},
		},
	}
}

// LocalVolumeNode returns the Node that holds a volume which the machines made, and an empty name for any other volume.
func LocalVolumeNode(v *corev1.PersistentVolume) string {
	if v.Spec.CSI == nil || v.Spec.CSI.Driver != LocalProvisioner {
		return ""
	}
	return v.Spec.CSI.VolumeAttributes[localNode]
}
