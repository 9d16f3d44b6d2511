package volume

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Images mounts what is in images.
type Images interface {
	// MountImage mounts an image's files at dir, read-only, after pulling it if need be; key names the mount until ReleaseImage. It may be repeated.
	MountImage(ctx context.Context, p *corev1.Pod, source *corev1.ImageVolumeSource, key, dir string) error
	// ReleaseImage forgets a mount that is mounted no more. What is not there is fine.
	ReleaseImage(ctx context.Context, key string) error
}

// imagesDir holds a pod's volumes that are images: what lies there has to be released.
func (v *Volumes) imagesDir(uid types.UID) string {
	return filepath.Join(v.cfg.Root, string(uid), "images")
}

// imageKey names the mount of one volume, on the whole machine.
func imageKey(uid types.UID, name string) string { return "volume-" + string(uid) + "-" + name }

// image mounts an image. One that is mounted stays what it was: the name may be another image's by now.
func (v *Volumes) image(ctx context.Context, p *corev1.Pod, vol *corev1.Volume) error {
	dir := filepath.Join(v.imagesDir(p.UID), vol.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if at, err := mounts(dir); err != nil || len(at) > 0 {
		return err
	}
	return v.cfg.Images.MountImage(ctx, p, vol.Image, imageKey(p.UID, vol.Name), dir)
}

// releaseImages is called when nothing of the pod is mounted any more.
func (v *Volumes) releaseImages(ctx context.Context, uid types.UID) error {
	entries, err := os.ReadDir(v.imagesDir(uid))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if err := v.cfg.Images.ReleaseImage(ctx, imageKey(uid, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
