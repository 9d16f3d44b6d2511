package containerd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	apitypes "github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"shoal/node/runtime"
	"shoal/node/runtime/sandbox"
)

// shim is the runtime of every container.
const shim = "io.containerd.runc.v2"

// StartContainer implements runtime.Interface. A program that cannot be run is no error: the container has ended then,
// with StartError. An attempt that is there already is returned as it is; one that was cut short is begun anew.
func (r *Runtime) StartContainer(ctx context.Context, c runtime.ContainerConfig) (runtime.Container, error) {
	if err := r.enter(ctx); err != nil {
		return runtime.Container{}, err
	}
	r.mu.Lock()
	s, ok := r.pods[c.UID]
	old := r.all[identify(c.UID, c.Name, c.Attempt)]
	r.mu.Unlock()
	if old != nil {
		if state := r.view(old); state.State != runtime.Created {
			return state, nil
		}
		if err := r.remove(ctx, old); err != nil {
			return runtime.Container{}, &runtime.Error{Reason: runtime.ReasonCreate, Err: err}
		}
	}
	if !ok || !s.Running() {
		err := fmt.Errorf("sandbox of %s/%s does not run: %w", c.Namespace, c.Pod, runtime.ErrNotFound)
		return runtime.Container{}, &runtime.Error{Reason: runtime.ReasonCreate, Err: err}
	}
	x := newRecord(c, filepath.Join(s.Cgroup, identify(c.UID, c.Name, c.Attempt)), time.Now())
	x.busy = true
	r.mu.Lock()
	r.all[x.ID] = x
	r.mu.Unlock()
	err := r.start(ctx, x, c, s)
	r.mu.Lock()
	x.busy = false
	r.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("start container %s of %s/%s: %w", c.Name, c.Namespace, c.Pod, err)
		return runtime.Container{}, errors.Join(err, r.remove(context.WithoutCancel(ctx), x))
	}
	r.tell(c.UID)
	return r.view(x), nil
}

func (r *Runtime) view(x *record) runtime.Container {
	r.mu.Lock()
	defer r.mu.Unlock()
	return x.Container
}

func (r *Runtime) start(ctx context.Context, x *record, c runtime.ContainerConfig, s sandbox.Sandbox) error {
	img, err := r.imageOf(ctx, c.Image)
	if err != nil {
		return err
	}
	var pipes fifos
	var rootfs []mount.Mount
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		pipes, err = r.openPipes(gctx, x, c)
		return err
	})
	g.Go(func() (err error) {
		rootfs, err = r.prepare(gctx, x, img)
		return err
	})
	if err := g.Wait(); err != nil {
		return &runtime.Error{Reason: runtime.ReasonCreate, Err: err}
	}
	spec, err := r.spec(x, c, s, img, rootfs)
	if err != nil {
		return &runtime.Error{Reason: runtime.ReasonConfig, Err: err}
	}
	if err := r.create(ctx, x, spec); err != nil {
		return &runtime.Error{Reason: runtime.ReasonCreate, Err: err}
	}
	if err := r.run(ctx, x, pipes, c.LogPath, rootfs); err != nil {
		if ctx.Err() != nil || errdefs.IsUnavailable(err) || errdefs.IsCanceled(err) || errdefs.IsDeadlineExceeded(err) {
			return &runtime.Error{Reason: runtime.ReasonRun, Err: err}
		}
		r.fail(ctx, x, err)
	}
	return nil
}

// fail records that the program of a container could not be run.
func (r *Runtime) fail(ctx context.Context, x *record, cause error) {
	r.mu.Lock()
	if x.ending || x.State == runtime.Exited {
		r.mu.Unlock()
		return
	}
	x.ending = true
	r.mu.Unlock()
	now := time.Now()
	r.conclude(ctx, x, outcome{
		started: now, finished: now, code: codeStartError, reason: startError, message: cause.Error(),
	})
}

// labelRoot keeps a snapshot from being collected before its container exists. sync removes those without one.
const labelRoot = "containerd.io/gc.root"

func (r *Runtime) prepare(ctx context.Context, x *record, img *image) ([]mount.Mount, error) {
	service := r.client.SnapshotService(r.snapshotter)
	opt := snapshots.WithLabels(map[string]string{labelRoot: time.Now().UTC().Format(time.RFC3339), labelUID: string(x.uid)})
	m, err := service.Prepare(ctx, x.ID, img.chain, opt)
	if errdefs.IsAlreadyExists(err) { // left by a start that was cut short
		if err := service.Remove(ctx, x.ID); err != nil {
			return nil, fmt.Errorf("remove old root filesystem: %w", err)
		}
		m, err = service.Prepare(ctx, x.ID, img.chain, opt)
	}
	if err != nil {
		return nil, fmt.Errorf("prepare root filesystem: %w", err)
	}
	return m, nil
}

// fifos are a container's pipes; the empty path is one that it does not have.
type fifos struct{ stdin, stdout, stderr string }

func (r *Runtime) pipes(x *record) fifos {
	dir := r.ioDir(x.uid, x.ID)
	f := fifos{stdout: filepath.Join(dir, "stdout")}
	if !x.tty {
		f.stderr = filepath.Join(dir, "stderr")
	}
	if x.stdin {
		f.stdin = filepath.Join(dir, "stdin")
	}
	return f
}

// openPipes makes the pipes and has the keeper drain them before anything can be written.
func (r *Runtime) openPipes(ctx context.Context, x *record, c runtime.ContainerConfig) (fifos, error) {
	f := r.pipes(x)
	if err := os.MkdirAll(r.ioDir(x.uid, x.ID), 0o700); err != nil {
		return f, err
	}
	for _, path := range []string{f.stdin, f.stdout, f.stderr} {
		if path == "" {
			continue
		}
		if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
			return f, fmt.Errorf("make pipe %s: %w", path, err)
		}
	}
	return f, r.config.Keeper.Drain(ctx, x.ID, f.stdin, f.stdout, f.stderr, c.LogPath)
}

func (r *Runtime) create(ctx context.Context, x *record, spec any) error {
	s, err := typeurl.MarshalAny(spec)
	if err != nil {
		return err
	}
	// The program's own state is keyed by container id: keep it apart from other runtimes on the machine.
	o, err := typeurl.MarshalAny(&options.Options{BinaryName: r.config.OCIRuntime, Root: filepath.Join(r.config.RunDir, filepath.Base(cmp.Or(r.config.OCIRuntime, "runc")))})
	if err != nil {
		return err
	}
	_, err = r.client.ContainerService().Create(ctx, containers.Container{
		ID: x.ID, Labels: x.labels(), Image: x.Image, Spec: s,
		Runtime:     containers.RuntimeInfo{Name: shim, Options: o},
		Snapshotter: r.snapshotter, SnapshotKey: x.ID,
	})
	return err
}

func (r *Runtime) run(ctx context.Context, x *record, f fifos, log string, rootfs []mount.Mount) error {
	req := &tasksapi.CreateTaskRequest{
		ContainerID: x.ID, Terminal: x.tty, Stdin: f.stdin, Stdout: f.stdout, Stderr: f.stderr,
	}
	for _, m := range rootfs {
		req.Rootfs = append(req.Rootfs, &apitypes.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	pid, err := r.createTask(ctx, req, f, log)
	if err != nil {
		return err
	}
	r.mu.Lock()
	x.Pid = pid
	r.mu.Unlock()
	if _, err := r.client.TaskService().Start(ctx, &tasksapi.StartRequest{ContainerID: x.ID}); err != nil {
		return errgrpc.ToNative(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if x.Started.IsZero() {
		x.Started = time.Now()
	}
	if x.State == runtime.Created {
		x.State = runtime.Running
	}
	return nil
}

// A shim that leaves is gone within milliseconds; this is for machines that are very busy.
const (
	shimTries = 8
	shimPause = 10 * time.Millisecond // doubled each time
)

// createTask makes the container's first process. The shim that a pod's containers share leaves with the last of them: one that starts just then may
// still be sent to it, and is sent to a new one instead.
func (r *Runtime) createTask(ctx context.Context, req *tasksapi.CreateTaskRequest, f fifos, log string) (pid int, err error) {
	pause := shimPause
	for try := 1; ; try++ {
		made, err := r.client.TaskService().Create(ctx, req)
		if err == nil {
			return int(made.Pid), nil
		}
		if err = errgrpc.ToNative(err); try == shimTries || !shimLeft(err) && (try == 1 || !errdefs.IsAlreadyExists(err)) {
			return 0, err
		}
		r.config.Log.Debug("the pod's shim was leaving, trying a new one", "container", req.ContainerID, "err", err)
		t := time.NewTimer(pause)
		select {
		case <-t.C:
			pause *= 2
		case <-ctx.Done():
			t.Stop()
			return 0, ctx.Err()
		}
		// What was begun may have opened and closed the pipes, which ends their draining.
		err = errors.Join(r.deleteTask(ctx, req.ContainerID), r.config.Keeper.Undrain(ctx, req.ContainerID),
			r.config.Keeper.Drain(ctx, req.ContainerID, f.stdin, f.stdout, f.stderr, log))
		if err != nil {
			return 0, err
		}
	}
}

// shimLeft reports whether a task could not be made because the shim that was to make it is gone. containerd gives no other sign than its words.
func shimLeft(err error) bool {
	text := err.Error()
	return strings.Contains(text, "ttrpc: closed") ||
		strings.Contains(text, "failed to start shim") && strings.Contains(text, "dial unix")
}
