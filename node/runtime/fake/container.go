package fake

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"shoal/node/runtime"
)

// StartContainer implements runtime.Interface. The same name and attempt is the same container.
func (r *Runtime) StartContainer(ctx context.Context, cfg runtime.ContainerConfig) (runtime.Container, error) {
	if err := r.enter(ctx, StartContainer); err != nil {
		return runtime.Container{}, err
	}
	r.mu.Lock()
	p := r.pods[cfg.UID]
	if p == nil {
		r.mu.Unlock()
		return runtime.Container{}, fmt.Errorf("sandbox of pod %s: %w", cfg.UID, runtime.ErrNotFound)
	}
	id := fmt.Sprintf("%s.%s.%d", cfg.UID, cfg.Name, cfg.Attempt)
	if c := p.containers[id]; c != nil {
		defer r.mu.Unlock()
		return c.Container, nil
	}
	if !p.sandbox.Running {
		r.mu.Unlock()
		return runtime.Container{}, fmt.Errorf("sandbox of pod %s does not run", cfg.UID)
	}
	r.pids++
	now := r.now()
	c := &container{config: cfg, ended: make(chan struct{}), Container: runtime.Container{
		ID: id, Name: cfg.Name, Attempt: cfg.Attempt, Streak: cfg.Streak, Image: cfg.Image.Name, ImageID: cfg.Image.ID,
		SpecHash: cfg.SpecHash, Resources: cfg.Resources, State: runtime.Running, Pid: r.pids, Created: now, Started: now, LogPath: cfg.LogPath,
	}}
	p.containers[id] = c
	out, watchers := c.Container, r.watchersLocked()
	r.mu.Unlock()
	tell(watchers, cfg.UID)
	return out, nil
}

// Resize implements runtime.Interface.
func (r *Runtime) Resize(ctx context.Context, uid types.UID, pod runtime.Resources, containers map[string]runtime.Resources) error {
	if err := r.enter(ctx, Resize); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pods[uid]
	if p == nil {
		return fmt.Errorf("pod %s: %w", uid, runtime.ErrNotFound)
	}
	p.resources = pod
	for id, res := range containers {
		c, err := r.containerLocked(uid, id)
		if err != nil {
			return err
		}
		c.Resources = res
	}
	return nil
}

// Resources returns those of a pod's cgroup.
func (r *Runtime) Resources(uid types.UID) runtime.Resources {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pods[uid].resources
}

// StopContainer implements runtime.Interface. The container ends at once with code 143, or after grace with 137 when
// IgnoreStop was called for it.
func (r *Runtime) StopContainer(ctx context.Context, uid types.UID, id string, grace time.Duration) error {
	if err := r.enter(ctx, StopContainer); err != nil {
		return err
	}
	r.mu.Lock()
	c, err := r.containerLocked(uid, id)
	if err != nil {
		r.mu.Unlock()
		return err
	}
	stubborn := r.ignore[string(uid)+"/"+c.Name] || c.State != runtime.Running
	r.mu.Unlock()
	if !stubborn {
		r.end(uid, c, 143, false)
		return nil
	}
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ended:
	case <-t.C:
		r.end(uid, c, 137, false)
	}
	return nil
}

// RemoveContainer implements runtime.Interface.
func (r *Runtime) RemoveContainer(ctx context.Context, uid types.UID, id string) error {
	if err := r.enter(ctx, RemoveContainer); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.containerLocked(uid, id)
	if err != nil {
		return nil
	}
	if c.State == runtime.Running {
		return fmt.Errorf("container %s still runs", id)
	}
	delete(r.pods[uid].containers, id)
	return nil
}

// Exec implements runtime.Interface: what OnExec was given decides, else it writes nothing and returns 0.
func (r *Runtime) Exec(ctx context.Context, uid types.UID, id string, cfg runtime.ExecConfig) (int, error) {
	if err := r.enter(ctx, Exec); err != nil {
		return 0, err
	}
	r.mu.Lock()
	c, err := r.containerLocked(uid, id)
	if err != nil {
		r.mu.Unlock()
		return 0, err
	}
	snapshot, run := c.Container, r.exec
	r.mu.Unlock()
	if snapshot.State != runtime.Running {
		return 0, fmt.Errorf("container %s does not run", id)
	}
	if run == nil {
		return 0, nil
	}
	return run(snapshot, cfg)
}

func (r *Runtime) containerLocked(uid types.UID, id string) (*container, error) {
	p := r.pods[uid]
	if p == nil || p.containers[id] == nil {
		return nil, fmt.Errorf("container %s of pod %s: %w", id, uid, runtime.ErrNotFound)
	}
	return p.containers[id], nil
}

// end lets a running container exit and tells the watchers.
func (r *Runtime) end(uid types.UID, c *container, code int, oom bool) {
	r.mu.Lock()
	changed := c.endLocked(r.now(), code, oom)
	watchers := r.watchersLocked()
	r.mu.Unlock()
	if changed {
		tell(watchers, uid)
	}
}

// endLocked reports whether the container was still running. Caller holds mu.
func (c *container) endLocked(at time.Time, code int, oom bool) bool {
	if c.State == runtime.Exited {
		return false
	}
	c.State, c.Finished, c.ExitCode, c.OOM, c.Pid = runtime.Exited, at, code, oom, 0
	switch {
	case oom:
		c.Reason = "OOMKilled"
	case code == 0:
		c.Reason = "Completed"
	default:
		c.Reason = "Error"
	}
	close(c.ended)
	return true
}
