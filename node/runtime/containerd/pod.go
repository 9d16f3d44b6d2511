package containerd

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"shoal/node/runtime"
	"shoal/node/runtime/sandbox"
)

// Pods implements runtime.Interface.
func (r *Runtime) Pods(ctx context.Context) ([]runtime.Pod, error) {
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	pods := map[types.UID]*runtime.Pod{}
	for uid, s := range r.pods {
		pods[uid] = &runtime.Pod{UID: uid, Namespace: s.Namespace, Name: s.Name, Sandbox: s.View()}
	}
	for _, x := range r.all {
		p := pods[x.uid]
		if p == nil {
			p = &runtime.Pod{UID: x.uid, Namespace: x.namespace, Name: x.pod}
			pods[x.uid] = p
		}
		p.Containers = append(p.Containers, x.Container)
	}
	out := make([]runtime.Pod, 0, len(pods))
	for _, uid := range slices.Sorted(maps.Keys(pods)) {
		sorted(pods[uid].Containers)
		out = append(out, *pods[uid])
	}
	return out, nil
}

// Pod implements runtime.Interface.
func (r *Runtime) Pod(ctx context.Context, uid types.UID) (runtime.Pod, error) {
	if err := r.enter(ctx); err != nil {
		return runtime.Pod{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.pods[uid]
	p := runtime.Pod{UID: uid, Namespace: s.Namespace, Name: s.Name}
	if ok {
		p.Sandbox = s.View()
	}
	for _, x := range r.all {
		if x.uid == uid {
			p.Namespace, p.Name = x.namespace, x.pod
			p.Containers = append(p.Containers, x.Container)
			ok = true
		}
	}
	if !ok {
		return p, fmt.Errorf("pod %s: %w", uid, runtime.ErrNotFound)
	}
	sorted(p.Containers)
	return p, nil
}

// StartSandbox implements runtime.Interface.
func (r *Runtime) StartSandbox(ctx context.Context, c runtime.SandboxConfig) (runtime.Sandbox, error) {
	if err := r.enter(ctx); err != nil {
		return runtime.Sandbox{}, err
	}
	s, err := r.sandboxes.Start(ctx, c)
	if err != nil {
		return runtime.Sandbox{}, err
	}
	r.hold(s)
	return s.View(), nil
}

// hold keeps a sandbox in the index and watches its pause.
func (r *Runtime) hold(s sandbox.Sandbox) {
	r.mu.Lock()
	known := r.pods[s.UID].Pause == s.Pause
	r.pods[s.UID] = s
	r.mu.Unlock()
	if known || s.Pause.Pid == 0 {
		return
	}
	ctx := r.ctx()
	r.g.Go(func() error {
		if err := s.Pause.Wait(ctx); err != nil {
			if ctx.Err() == nil {
				r.config.Log.Warn("a pause is not watched any more", "uid", s.UID, "err", err)
			}
			return nil
		}
		r.tell(s.UID)
		return nil
	})
}

// RecordIP implements runtime.Interface.
func (r *Runtime) RecordIP(ctx context.Context, uid types.UID, ip string) error {
	if err := r.enter(ctx); err != nil {
		return err
	}
	s, err := r.sandboxes.RecordIP(uid, ip)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pods[uid] = s
	return nil
}

// RemovePod implements runtime.Interface.
func (r *Runtime) RemovePod(ctx context.Context, uid types.UID) error {
	if err := r.enter(ctx); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, x := range r.of(uid) {
		g.Go(func() error { return r.destroy(gctx, x) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("remove pod %s: %w", uid, err)
	}
	if err := r.sandboxes.Remove(ctx, uid); err != nil {
		return fmt.Errorf("remove pod %s: %w", uid, err)
	}
	r.mu.Lock()
	_, held := r.pods[uid]
	delete(r.pods, uid)
	r.mu.Unlock()
	if held {
		r.tell(uid)
	}
	return nil
}

// destroy ends a container, if it runs, and removes it.
func (r *Runtime) destroy(ctx context.Context, x *record) error {
	r.mu.Lock()
	running := x.State == runtime.Running
	r.mu.Unlock()
	if running {
		if err := r.signal(ctx, x, unix.SIGKILL); err != nil {
			return err
		}
		select {
		case <-x.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return r.remove(ctx, x)
}

func (r *Runtime) of(uid types.UID) []*record {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*record
	for _, x := range r.all {
		if x.uid == uid {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(a, b *record) int { return strings.Compare(a.ID, b.ID) })
	return out
}

func (r *Runtime) find(uid types.UID, id string) (*record, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.all[id]
	if x == nil || x.uid != uid {
		return nil, fmt.Errorf("container %s of pod %s: %w", id, uid, runtime.ErrNotFound)
	}
	return x, nil
}
