package api

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PodCondition returns the pod's condition of a type, or nil.
func PodCondition(p *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == t {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

// SetPodCondition puts c in p as of now, and reports whether that changed anything but the times.
func SetPodCondition(p *corev1.Pod, c corev1.PodCondition, now time.Time) bool {
	old := PodCondition(p, c.Type)
	if old == nil {
		c.LastTransitionTime = metav1.NewTime(now)
		p.Status.Conditions = append(p.Status.Conditions, c)
		return true
	}
	if old.Status == c.Status && old.Reason == c.Reason && old.Message == c.Message {
		return false
	}
	c.LastTransitionTime = old.LastTransitionTime
	if old.Status != c.Status {
		c.LastTransitionTime = metav1.NewTime(now)
	}
	*old = c
	return true
}

// IsPodReady reports whether the pod's Ready condition is true.
func IsPodReady(p *corev1.Pod) bool {
	c := PodCondition(p, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// IsPodDisrupted reports whether p is to be replaced before it goes.
func IsPodDisrupted(p *corev1.Pod) bool {
	c := PodCondition(p, corev1.DisruptionTarget)
	return c != nil && c.Status == corev1.ConditionTrue
}

// IsPodTerminal reports whether the pod has ended and will not run again.
func IsPodTerminal(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// IsPodActive reports whether the pod counts as a replica: neither ended nor being deleted.
func IsPodActive(p *corev1.Pod) bool {
	return !IsPodTerminal(p) && p.DeletionTimestamp == nil
}

// IsSidecar reports whether an init container keeps running beside the pod's containers.
func IsSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// OwnedBy reports whether owner is the controller of o.
func OwnedBy(o, owner metav1.Object) bool {
	ref := metav1.GetControllerOfNoCopy(o)
	return ref != nil && ref.UID == owner.GetUID()
}

// prepareNewPod sets the status every new pod begins with.
func prepareNewPod(p *corev1.Pod) {
	p.Status = corev1.PodStatus{Phase: corev1.PodPending}
	p.Status.QOSClass = QOSClass(p)
}

// copyPodStatus keeps the QoS class, which follows from the spec, when the status given has none.
func copyPodStatus(to, from *corev1.Pod) {
	class := to.Status.QOSClass
	to.Status = *from.Status.DeepCopy()
	if to.Status.QOSClass == "" {
		to.Status.QOSClass = class
	}
}

// ClaimsOf names the claims, in its namespace, that a pod's volumes are of.
func ClaimsOf(p *corev1.Pod) []string {
	var names []string
	for i := range p.Spec.Volumes {
		switch v := &p.Spec.Volumes[i]; {
		case v.PersistentVolumeClaim != nil:
			names = append(names, v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			names = append(names, p.Name+"-"+v.Name)
		}
	}
	return names
}
