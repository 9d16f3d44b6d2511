package containerd

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
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
		if v := r.view(x); v.State == runtime.Running {
			u := r.tree.Usage(x.cgroup)
			out.Containers[x.Name] = runtime.ContainerStats{
				CPU: u.CPU, Memory: u.Memory, Usage: u.Whole, PIDs: u.PIDs, OOMKills: r.tree.OOMKills(x.cgroup), Started: v.Started,
			}
		}
	}
	pod := r.tree.Usage(s.Cgroup) // last, so that it is not less than its parts
	out.Time, out.CPU, out.Memory, out.Usage, out.PIDs = time.Now(), pod.CPU, pod.Memory, pod.Whole, pod.PIDs
	if !s.HostNetwork {
		if b, err := os.ReadFile("/proc/" + strconv.Itoa(s.Pause.Pid) + "/net/dev"); err == nil {
			out.Network = networkOf(b, podLink)
		}
	}
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

// podLink is the name that a pod's link has inside.
const podLink = "eth0"

// networkOf reads one link's line of /proc/PID/net/dev: eight figures of what came in, eight of what went out. It is nil when the link is not there.
func networkOf(dev []byte, link string) *runtime.Network {
	for line := range strings.Lines(string(dev)) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		f := strings.Fields(rest)
		if !ok || name != link || len(f) < 16 {
			continue
		}
		var n [16]uint64
		for i := range n {
			n[i], _ = strconv.ParseUint(f[i], 10, 64)
		}
		return &runtime.Network{RxBytes: n[0], RxPackets: n[1], RxErrors: n[2], TxBytes: n[8], TxPackets: n[9], TxErrors: n[10]}
	}
	return nil
}
