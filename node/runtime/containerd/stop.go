package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/moby/sys/signal"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"shoal/node/runtime"
	"shoal/node/runtime/cgroup"
	"shoal/node/runtime/proc"
)

// StopContainer implements runtime.Interface.
func (r *Runtime) StopContainer(ctx context.Context, uid types.UID, id string, grace time.Duration) error {
	if err := r.enter(ctx); err != nil {
		return err
	}
	x, err := r.find(uid, id)
	if err != nil {
		return err
	}
	if r.view(x).State != runtime.Running {
		return r.settled(ctx, x)
	}
	if grace > 0 {
		sig, err := signal.ParseSignal(x.signal)
		if err != nil {
			sig = unix.SIGTERM
		}
		if err := r.signal(ctx, x, sig); err != nil {
			return err
		}
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-x.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
	if err := r.signal(ctx, x, unix.SIGKILL); err != nil {
		return err
	}
	select {
	case <-x.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settled waits for an end that is being recorded.
func (r *Runtime) settled(ctx context.Context, x *record) error {
	r.mu.Lock()
	waiting := x.ending && x.State != runtime.Exited
	r.mu.Unlock()
	if !waiting {
		return nil
	}
	select {
	case <-x.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// signal signals a container's first process directly: it works while containerd is away, and saves a run of runc.
func (r *Runtime) signal(ctx context.Context, x *record, sig unix.Signal) error {
	r.mu.Lock()
	pid := x.Pid
	if sig == unix.SIGKILL {
		x.killed = true
	}
	r.mu.Unlock()
	if pid == 0 {
		return nil
	}
	ours := func(pid int) bool { return cgroup.Holds(pid, x.cgroup) }
	if err := proc.Signal(pid, sig, ours); err != nil {
		_, err2 := r.client.TaskService().Kill(ctx, &tasksapi.KillRequest{ContainerID: x.ID, Signal: uint32(sig)})
		if err2 = errgrpc.ToNative(err2); err2 != nil && !errdefs.IsNotFound(err2) {
			return errors.Join(err, err2)
		}
	}
	return nil
}

// RemoveContainer implements runtime.Interface. Removing what is not there succeeds.
func (r *Runtime) RemoveContainer(ctx context.Context, uid types.UID, id string) error {
	if err := r.enter(ctx); err != nil {
		return err
	}
	x, err := r.find(uid, id)
	if errors.Is(err, runtime.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if r.view(x).State == runtime.Running {
		return fmt.Errorf("container %s of %s/%s still runs", x.Name, x.namespace, x.pod)
	}
	return r.remove(ctx, x)
}

// remove removes everything of a container that does not run, whatever of it there is.
func (r *Runtime) remove(ctx context.Context, x *record) error {
	if err := r.settled(ctx, x); err != nil {
		return err
	}
	r.mu.Lock()
	over := x.State == runtime.Exited
	x.busy = true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		x.busy = false
	}()
	if !over {
		if err := r.abort(ctx, x); err != nil {
			return err
		}
	}
	if err := r.client.ContainerService().Delete(ctx, x.ID); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove container %s: %w", x.ID, err)
	}
	if err := r.client.SnapshotService(r.snapshotter).Remove(ctx, x.ID); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove root filesystem of container %s: %w", x.ID, err)
	}
	if err := r.config.Keeper.Undrain(ctx, x.ID); err != nil {
		return err
	}
	if err := os.RemoveAll(r.ioDir(x.uid, x.ID)); err != nil {
		return err
	}
	r.mu.Lock()
	delete(r.all, x.ID)
	r.mu.Unlock()
	return nil
}

// abort ends a task that was made but perhaps never started.
func (r *Runtime) abort(ctx context.Context, x *record) error {
	tasks := r.client.TaskService()
	if _, err := tasks.Get(ctx, &tasksapi.GetRequest{ContainerID: x.ID}); err != nil {
		if err = errgrpc.ToNative(err); errdefs.IsNotFound(err) {
			return nil
		}
		return err
	}
	wait := make(chan error, 1)
	go func() {
		_, err := tasks.Wait(ctx, &tasksapi.WaitRequest{ContainerID: x.ID})
		wait <- errgrpc.ToNative(err)
	}()
	_, err := tasks.Kill(ctx, &tasksapi.KillRequest{ContainerID: x.ID, Signal: uint32(unix.SIGKILL), All: true})
	if err = errgrpc.ToNative(err); err != nil && !errdefs.IsNotFound(err) && !errdefs.IsFailedPrecondition(err) {
		return err
	}
	if err := <-wait; err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return r.deleteTask(ctx, x.ID)
}
