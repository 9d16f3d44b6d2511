package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// attachments asks CSI drivers to attach volumes to the nodes whose pods use them, and to detach those that nobody uses there any more. What is asked for is a
// VolumeAttachment; the driver's attacher does it and says so in its status, which the node waits for. Keys are volumes.
type attachments struct {
	Config
	queue client.Queue
}

func newAttachments(c Config) loop {
	a := &attachments{Config: c, queue: client.NewQueue()}
	c.Caches.Volumes.OnChange(func(old, v *corev1.PersistentVolume) {
		for _, v := range []*corev1.PersistentVolume{old, v} {
			if v != nil && v.Spec.CSI != nil {
				a.queue.Add(client.KeyOf(v))
			}
		}
	})
	c.Caches.Pods.OnChange(func(old, pod *corev1.Pod) {
		if old != nil && pod != nil && old.Spec.NodeName == pod.Spec.NodeName && api.IsPodTerminal(old) == api.IsPodTerminal(pod) {
			return
		}
		if pod == nil {
			pod = old
		}
		for _, name := range api.ClaimsOf(pod) {
			if claim, ok := c.Caches.Claims.Get(client.Key{Namespace: pod.Namespace, Name: name}); ok && claim.Spec.VolumeName != "" {
				a.queue.Add(client.Key{Name: claim.Spec.VolumeName})
			}
		}
	})
	c.Caches.Claims.OnChange(func(_, claim *corev1.PersistentVolumeClaim) {
		if claim != nil && claim.Spec.VolumeName != "" {
			a.queue.Add(client.Key{Name: claim.Spec.VolumeName})
		}
	})
	c.Caches.Attachments.OnChange(func(old, v *storagev1.VolumeAttachment) {
		for _, v := range []*storagev1.VolumeAttachment{old, v} {
			if v != nil && v.Spec.Source.PersistentVolumeName != nil {
				a.queue.Add(client.Key{Name: *v.Spec.Source.PersistentVolumeName})
			}
		}
	})
	c.Caches.Drivers.OnChange(func(_, _ *storagev1.CSIDriver) {
		for _, v := range c.Caches.Volumes.List("", nil) {
			if v.Spec.CSI != nil {
				a.queue.Add(client.KeyOf(v))
			}
		}
	})
	return newLoop("attachdetach-controller", a.queue, 1, a.reconcile)
}

// annAttached marks what this controller made: of others' it keeps its hands off.
const annAttached = "shoal.io/attached-for-pods"

func (a *attachments) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	v, ok := a.Caches.Volumes.Get(key)
	users := map[string]*corev1.Pod{} // by node
	if ok && a.mustAttach(v) {
		users = a.users(v)
	}
	var errs []error
	there := map[string]bool{}
	for _, at := range a.Caches.Attachments.List("", nil) {
		if p := at.Spec.Source.PersistentVolumeName; p == nil || *p != key.Name {
			continue
		}
		there[at.Spec.NodeName] = true
		if users[at.Spec.NodeName] == nil && at.DeletionTimestamp == nil && at.Annotations[annAttached] != "" {
			errs = append(errs, a.detach(ctx, at))
		}
	}
	for node, pod := range users {
		switch {
		case there[node]:
		case len(there) > 0 && !sharedVolume(v):
			a.Events.EventFrom(attacherName, pod, corev1.EventTypeWarning, "FailedAttachVolume",
				"Multi-Attach error for volume %q Volume is already exclusively attached to one node and can't be attached to another", v.Name)
		default:
			there[node] = true
			errs = append(errs, a.attach(ctx, v, node))
		}
	}
	return 0, errors.Join(errs...)
}

const attacherName = "attachdetach-controller"

// mustAttach reports whether a volume's driver wants volumes to be attached, as those do that do not say otherwise.
func (a *attachments) mustAttach(v *corev1.PersistentVolume) bool {
	if v.Spec.CSI == nil || v.Spec.CSI.Driver == api.LocalProvisioner || v.Spec.ClaimRef == nil {
		return false
	}
	d, ok := a.Caches.Drivers.Get(client.Key{Name: v.Spec.CSI.Driver})
	return !ok || d.Spec.AttachRequired == nil || *d.Spec.AttachRequired
}

// users returns a pod of each node that uses a volume. One that has ended does not: its machine says so when nothing of it is mounted any more.
func (a *attachments) users(v *corev1.PersistentVolume) map[string]*corev1.Pod {
	out := map[string]*corev1.Pod{}
	ref := client.Key{Namespace: v.Spec.ClaimRef.Namespace, Name: v.Spec.ClaimRef.Name}
	claim, ok := a.Caches.Claims.Get(ref)
	if !ok || claim.UID != v.Spec.ClaimRef.UID || claim.Spec.VolumeName != v.Name {
		return out
	}
	for _, p := range a.Caches.UsersOf(ref) {
		if p.Spec.NodeName != "" && !api.IsPodTerminal(p) {
			out[p.Spec.NodeName] = p
		}
	}
	return out
}

// sharedVolume reports whether a volume may be at several nodes.
func sharedVolume(v *corev1.PersistentVolume) bool {
	return slices.Contains(v.Spec.AccessModes, corev1.ReadWriteMany) || slices.Contains(v.Spec.AccessModes, corev1.ReadOnlyMany)
}

func (a *attachments) attach(ctx context.Context, v *corev1.PersistentVolume, node string) error {
	at := &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: api.AttachmentName(v, node), Annotations: map[string]string{annAttached: "true"}},
		Spec: storagev1.VolumeAttachmentSpec{
			Attacher: v.Spec.CSI.Driver, NodeName: node, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &v.Name},
		},
	}
	out, err := updated[*storagev1.VolumeAttachment](a.Client.Create(ctx, api.VolumeAttachments, at, client.CreateOptions{}))
	if apierrors.IsAlreadyExists(err) {
		return nil // one that is being deleted, or the cache will show it
	}
	if err != nil {
		return fmt.Errorf("attach volume %s to %s: %w", v.Name, node, err)
	}
	return a.Caches.Attachments.WaitFor(ctx, out.ResourceVersion)
}

func (a *attachments) detach(ctx context.Context, at *storagev1.VolumeAttachment) error {
	_, err := a.Client.Delete(ctx, api.VolumeAttachments, client.KeyOf(at), client.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &at.UID}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("detach volume %s from %s: %w", *at.Spec.Source.PersistentVolumeName, at.Spec.NodeName, err)
	}
	return nil
}
