package node

import (
	"cmp"
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"shoal/internal/client"
	"shoal/node/images"
	"shoal/node/pressure"
	"shoal/node/runtime"
)

// pullCredentials reads the pod's imagePullSecrets. One that is missing or no good is said and left out, as the image may be had without.
func (n *Node) pullCredentials(p *corev1.Pod) []runtime.Credential {
	var out []runtime.Credential
	for _, ref := range p.Spec.ImagePullSecrets {
		s, err := n.refs.Secret(p.Namespace, ref.Name)
		var found []runtime.Credential
		if err == nil {
			found, err = images.Credentials(s)
		}
		switch {
		case apierrors.IsNotFound(err):
			n.events.Event(p, corev1.EventTypeWarning, "FailedToRetrieveImagePullSecret", "The image pull secret %s does not exist; attempting to pull the image may not succeed.", ref.Name)
		case err != nil:
			n.events.Event(p, corev1.EventTypeWarning, "FailedToRetrieveImagePullSecret", "The image pull secret cannot be used: %v", err)
		}
		out = append(out, found...)
	}
	return out
}

// imageVolumes are the images that pods have as volumes.
type imageVolumes struct{ n *Node }

// MountImage implements volume.Images.
func (v imageVolumes) MountImage(ctx context.Context, p *corev1.Pod, source *corev1.ImageVolumeSource, key, dir string) error {
	pull := runtime.Pull{Policy: source.PullPolicy, Credentials: v.n.pullCredentials(p)}
	return v.n.cfg.Runtime.MountImage(ctx, key, source.Reference, pull, dir)
}

// ReleaseImage implements volume.Images.
func (v imageVolumes) ReleaseImage(ctx context.Context, key string) error {
	return v.n.cfg.Runtime.ReleaseImage(ctx, key)
}

// mostImages is how many images a Node's status names, the largest first, as the kubelet's does (nodeStatusMaxImages).
const mostImages = 50

// imagesQuiet gathers images that come together into one write of the Node.
const imagesQuiet = time.Second

// watchImages keeps what the Node's status says of images, until ctx ends.
func (n *Node) watchImages(ctx context.Context) error {
	retry := client.NewBackoff(100*time.Millisecond, 5*time.Second)
	for {
		held, changed, err := n.cfg.Runtime.Images(ctx)
		if err != nil {
			if err := retry.Wait(ctx); err != nil {
				return err
			}
			continue
		}
		retry.Reset()
		n.setImages(imagesOf(held))
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
		t := time.NewTimer(imagesQuiet)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// imagesOf is what a Node says of the images it holds: one entry an image, with all its names.
func imagesOf(held []runtime.Image) []corev1.ContainerImage {
	byID := map[string]*corev1.ContainerImage{}
	for _, i := range held {
		one := byID[i.ID]
		if one == nil {
			one = &corev1.ContainerImage{SizeBytes: i.Size}
			byID[i.ID] = one
		}
		one.Names = append(append(one.Names, i.Digests...), i.Name)
	}
	var out []corev1.ContainerImage
	for _, one := range byID {
		slices.Sort(one.Names)
		one.Names = slices.Compact(one.Names)
		out = append(out, *one)
	}
	slices.SortFunc(out, func(a, b corev1.ContainerImage) int {
		return cmp.Or(cmp.Compare(b.SizeBytes, a.SizeBytes), slices.Compare(a.Names, b.Names))
	})
	return out[:min(len(out), mostImages)]
}

func (n *Node) setImages(all []corev1.ContainerImage) {
	n.mu.Lock()
	defer n.mu.Unlock()
	same := func(a, b corev1.ContainerImage) bool {
		return a.SizeBytes == b.SizeBytes && slices.Equal(a.Names, b.Names)
	}
	if n.imagesKnown && slices.EqualFunc(n.images, all, same) {
		return
	}
	n.images, n.imagesKnown = all, true
	close(n.changed)
	n.changed = make(chan struct{})
}

// imageList returns what setImages was told, if it was.
func (n *Node) imageList() (all []corev1.ContainerImage, known bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.images, n.imagesKnown
}

// Of the disk that images are on so much may be used before those that no container is made from go, the longest unused first, until so much is
// (imageGCHighThresholdPercent, imageGCLowThresholdPercent); but none that came or was used only just now (imageMinimumGCAge).
const (
	imagesHigh   = 0.85
	imagesLow    = 0.80
	imagesMinAge = 2 * time.Minute
)

// freeImages removes images when the disk is fuller than imagesHigh, and reports whether it did. When the disk is short, it is enough that they
// were unused at the look before. Imported ones stay: nobody could pull them again.
func (n *Node) freeImages(ctx context.Context, disk pressure.Level, short bool) (freed bool) {
	used := 1 - float64(disk.Available)/float64(max(1, disk.Capacity))
	if disk.Capacity == 0 || used < imagesLow {
		n.unused = nil
		return false
	}
	now := n.cfg.Now()
	idle, err := n.idleImages(ctx, now)
	if err != nil || used < imagesHigh && !short {
		return false
	}
	age := imagesMinAge
	if short {
		age = lookSoon
	}
	need := int64((1-imagesLow)*float64(disk.Capacity)) - disk.Available
	for _, i := range idle {
		if need <= 0 || now.Sub(n.unused[i.Name]) < age { // those that follow are younger
			break
		}
		if err := n.cfg.Runtime.RemoveImage(ctx, i.Name); err != nil {
			n.log.Warn("an unused image is not removed", "image", i.Name, "err", err)
			continue
		}
		n.log.Info("an unused image is removed, the disk fills up", "image", i.Name, "size", i.Size)
		freed = true
		need -= i.Size
	}
	return freed
}

// idleImages returns the images that no container is made from, the longest unused first, and notes since when that is known of them.
func (n *Node) idleImages(ctx context.Context, now time.Time) ([]runtime.Image, error) {
	held, _, err := n.cfg.Runtime.Images(ctx)
	if err != nil {
		return nil, err
	}
	pods, err := n.cfg.Runtime.Pods(ctx)
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, p := range pods {
		for _, c := range p.Containers {
			used[c.ImageID] = true
		}
	}
	since := map[string]time.Time{}
	idle := slices.DeleteFunc(held, func(i runtime.Image) bool { return used[i.ID] || i.Imported })
	for _, i := range idle {
		since[i.Name] = now
		if at, ok := n.unused[i.Name]; ok {
			since[i.Name] = at
		}
	}
	n.unused = since
	slices.SortStableFunc(idle, func(a, b runtime.Image) int { return since[a.Name].Compare(since[b.Name]) })
	return idle, nil
}
