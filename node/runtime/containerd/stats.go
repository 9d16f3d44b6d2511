package containerd

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"k8s.io/apimachinery/pkg/types"

	"shoal/node/runtime"
)

// Stats implements runtime.Interface. It reads the cgroups and asks no other process.
func (r *Runtime) Stats(ctx context.Context, uid types.UID) (runtime.Stats, error) {
	if err := r.enter(ctx); err != nil {
		return runtime.Stats{}, err
	}
	r.mu.Lock()
	s, ok := r.pods[uid]
	r.mu.Unlock()
	if !ok {
		return runtime.Stats{}, fmt.Errorf("pod %s: %w", uid, runtime.ErrNotFound)
	}
	out := runtime.Stats{Containers: map[string]runtime.ContainerStats{}}
	for _, x := range r.of(uid) {
		if r.view(x).State == runtime.Running {
			u := r.tree.Usage(x.cgroup)
			out.Containers[x.Name] = runtime.ContainerStats{CPU: u.CPU, Memory: u.Memory}
		}
	}
	pod := r.tree.Usage(s.Cgroup) // last, so that it is not less than its parts
	out.Time, out.CPU, out.Memory, out.PIDs = time.Now(), pod.CPU, pod.Memory, pod.PIDs
	return out, nil
}

// Layers implements runtime.Interface. containerd walks through what each container has written.
func (r *Runtime) Layers(ctx context.Context, uid types.UID) (map[string]runtime.Disk, error) {
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	out := map[string]runtime.Disk{}
	for _, x := range r.of(uid) {
		u, err := r.client.SnapshotService(r.snapshotter).Usage(ctx, x.ID)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("measure container %s: %w", x.ID, err)
		}
		sum := out[x.Name]
		out[x.Name] = runtime.Disk{Bytes: sum.Bytes + u.Size, Inodes: sum.Inodes + u.Inodes}
	}
	return out, nil
}
