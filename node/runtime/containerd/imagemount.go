package containerd

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"

	"shoal/node/runtime"
)

// MountImage implements runtime.Interface. A snapshot of that name keeps the image's layers as long as it is mounted.
func (r *Runtime) MountImage(ctx context.Context, key, ref string, p runtime.Pull, dir string) error {
	if _, err := r.Image(ctx, ref, p); err != nil {
		return err
	}
	img, err := r.imageOf(ctx, runtime.Image{Name: ref})
	if err != nil {
		return err
	}
	service := r.client.SnapshotService(r.snapshotter)
	made, err := service.View(ctx, key, img.chain, snapshots.WithLabels(map[string]string{labelRoot: time.Now().UTC().Format(time.RFC3339)}))
	if errdefs.IsAlreadyExists(err) { // the machine was restarted, or a try was cut short
		made, err = service.Mounts(ctx, key)
	}
	if err != nil {
		return fmt.Errorf("look into image %s: %w", ref, err)
	}
	for i := range made {
		made[i].Options = append(slices.Clone(made[i].Options), "ro", "noexec", "nosuid", "nodev")
	}
	if err := mount.All(made, dir); err != nil {
		return fmt.Errorf("mount image %s: %w", ref, err)
	}
	return nil
}

// ReleaseImage implements runtime.Interface.
func (r *Runtime) ReleaseImage(ctx context.Context, key string) error {
	if err := r.enter(ctx); err != nil {
		return err
	}
	err := r.client.SnapshotService(r.snapshotter).Remove(ctx, key)
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("release image: %w", err)
	}
	return nil
}
