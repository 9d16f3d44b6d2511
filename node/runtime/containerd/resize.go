package containerd

import (
	"context"
	"fmt"
	"maps"
	"slices"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	"k8s.io/apimachinery/pkg/types"

	"shoal/node/runtime"
	"shoal/node/runtime/cgroup"
)

// Resize implements runtime.Interface. A container cannot have more than its pod, nor the pod less than one of its containers: meanwhile the pod has no
// limits of its own. What was cut short is seen, since the containers' labels are changed last.
func (r *Runtime) Resize(ctx context.Context, uid types.UID, pod runtime.Resources, containers map[string]runtime.Resources) error {
	if err := r.enter(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	s, ok := r.pods[uid]
	r.mu.Unlock()
	if !ok {
		return fmt.Errorf("pod %s: %w", uid, runtime.ErrNotFound)
	}
	if err := r.fits("pod", s.Cgroup, pod); err != nil {
		return err
	}
	ids := slices.Sorted(maps.Keys(containers))
	for _, id := range ids {
		x, err := r.find(uid, id)
		if err != nil {
			return err
		}
		if err := r.fits("container "+x.Name, x.cgroup, containers[id]); err != nil {
			return err
		}
	}
	if err := r.tree.Lift(s.Cgroup); err != nil {
		return fmt.Errorf("resize pod %s: %w", uid, err)
	}
	for _, id := range ids {
		if err := r.updateTask(ctx, id, containers[id]); err != nil {
			return fmt.Errorf("resize container %s: %w", id, err)
		}
	}
	err := r.tree.Limit(s.Cgroup, cgroup.Limits{CPUShares: pod.CPUShares, CPUQuota: pod.CPUQuota, CPUPeriod: pod.CPUPeriod, Memory: pod.MemoryBytes})
	if err != nil {
		return fmt.Errorf("resize pod %s: %w", uid, err)
	}
	for _, id := range ids {
		if err := r.mark(ctx, id, map[string]string{labelResources: writeResources(containers[id])}); err != nil {
			return fmt.Errorf("note the resources of container %s: %w", id, err)
		}
		if x, err := r.find(uid, id); err == nil {
			r.mu.Lock()
			x.Resources = containers[id]
			r.mu.Unlock()
		}
	}
	r.tell(uid)
	return nil
}

// fits refuses a limit that is exceeded already: the kernel would kill for it.
func (r *Runtime) fits(what, path string, l runtime.Resources) error {
	if used := r.tree.Usage(path).Memory; l.MemoryBytes > 0 && used > uint64(l.MemoryBytes) {
		return fmt.Errorf("the %s uses %d bytes of memory, a limit of %d would kill it", what, used, l.MemoryBytes)
	}
	return nil
}

// updateTask has runc change a container's cgroup. One that has ended needs no change.
func (r *Runtime) updateTask(ctx context.Context, id string, l runtime.Resources) error {
	resources := r.resources(runtime.ContainerConfig{Resources: l})
	resources.Devices = nil
	body, err := typeurl.MarshalAnyToProto(resources)
	if err != nil {
		return err
	}
	_, err = r.client.TaskService().Update(ctx, &tasksapi.UpdateTaskRequest{ContainerID: id, Resources: body})
	if err = errgrpc.ToNative(err); errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// writeResources writes down what may change while a container runs.
func writeResources(l runtime.Resources) string {
	return fmt.Sprintf("%d %d %d %d", l.CPUShares, l.CPUQuota, l.CPUPeriod, l.MemoryBytes)
}

// readResources reads what writeResources wrote; what it did not is nothing.
func readResources(s string) (l runtime.Resources) {
	if n, err := fmt.Sscanf(s, "%d %d %d %d", &l.CPUShares, &l.CPUQuota, &l.CPUPeriod, &l.MemoryBytes); err != nil || n != 4 {
		return runtime.Resources{}
	}
	return l
}
