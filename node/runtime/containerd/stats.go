package containerd

import (
	"context"
	"fmt"
	"time"

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
	pod := r.tree.Usage(s.Cgroup)
	out := runtime.Stats{Time: time.Now(), CPU: pod.CPU, Memory: pod.Memory, Containers: map[string]runtime.ContainerStats{}}
	for _, x := range r.of(uid) {
		if r.view(x).State == runtime.Running {
			u := r.tree.Usage(x.cgroup)
			out.Containers[x.Name] = runtime.ContainerStats{CPU: u.CPU, Memory: u.Memory}
		}
	}
	return out, nil
}
