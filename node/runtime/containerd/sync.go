package containerd

import (
	"context"
	"fmt"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"golang.org/x/sync/errgroup"

	"shoal/node/runtime"
	"shoal/node/runtime/proc"
)

// sync makes the index what containerd and the run directory hold.
func (r *Runtime) sync(ctx context.Context) error {
	uids, err := r.sandboxes.List()
	if err != nil {
		return err
	}
	for _, uid := range uids {
		s, err := r.sandboxes.Load(uid)
		if err != nil {
			// Made in part by a peer that died, or unreadable. It is listed, so that the node removes it.
			s.UID = uid
		}
		r.hold(s)
	}
	list, err := r.client.ContainerService().List(ctx)
	if err != nil {
		return err
	}
	answer, err := r.client.TaskService().List(ctx, &tasksapi.ListTasksRequest{})
	if err != nil {
		return errgrpc.ToNative(err)
	}
	tasks := map[string]*tasktypes.Process{}
	for _, t := range answer.Tasks {
		tasks[t.ID] = t
	}
	held := map[string]bool{}
	var late []func() // ends that nobody saw; they are recorded before anyone is told what there is
	for _, c := range list {
		fresh, ours := read(c)
		if !ours {
			continue
		}
		held[c.ID] = true
		r.mu.Lock()
		x := r.all[c.ID]
		if x == nil {
			x = fresh
			r.all[c.ID] = x
		}
		r.mu.Unlock()
		if f := r.compare(ctx, x, fresh.State == runtime.Exited, tasks[c.ID]); f != nil {
			late = append(late, f)
		}
	}
	var g errgroup.Group
	g.SetLimit(8)
	for _, f := range late {
		g.Go(func() error { f(); return nil })
	}
	_ = g.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, x := range r.all {
		if !held[id] && !x.busy {
			if x.State != runtime.Exited {
				x.apply(outcome{finished: time.Now(), code: codeUnknown, reason: unknown})
			}
			delete(r.all, id)
		}
	}
	return nil
}

// compare brings one record in line with its task; marked says that containerd has the container's end on record. It
// returns what is left to do without the lock, or nil.
func (r *Runtime) compare(ctx context.Context, x *record, marked bool, t *tasktypes.Process) func() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if x.busy || x.ending && x.State != runtime.Exited {
		return nil
	}
	if x.State == runtime.Exited {
		if t == nil && marked {
			return nil
		}
		o := outcome{started: x.Started, finished: x.Finished, code: x.ExitCode, reason: x.Reason, message: x.Message}
		return func() { r.conclude(ctx, x, o) }
	}
	switch {
	case t == nil:
		// The machine was restarted, or the shim was killed while nobody looked.
		x.ending = true
		o := outcome{started: x.Started, finished: time.Now(), code: codeUnknown, reason: unknown}
		return func() { r.conclude(ctx, x, o) }
	case t.Status == tasktypes.Status_STOPPED:
		return func() { r.end(ctx, x, int(t.ExitStatus), t.ExitedAt.AsTime()) }
	case t.Status == tasktypes.Status_RUNNING || t.Status == tasktypes.Status_PAUSED:
		x.State, x.Pid = runtime.Running, int(t.Pid)
		if p, err := proc.Of(x.Pid); err == nil && x.Started.IsZero() {
			x.Started = p.Since()
		}
	}
	return nil
}

// sweep removes root filesystems of containers that do not exist: a peer died between making the one and the other.
func (r *Runtime) sweep(ctx context.Context) error {
	service := r.client.SnapshotService(r.snapshotter)
	var orphans []string
	err := service.Walk(ctx, func(_ context.Context, s snapshots.Info) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.all[s.Name] == nil {
			orphans = append(orphans, s.Name)
		}
		return nil
	}, `labels."`+labelUID+`"`)
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	for _, name := range orphans {
		if err := service.Remove(ctx, name); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("remove snapshot %s: %w", name, err)
		}
	}
	return nil
}
