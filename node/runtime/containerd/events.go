package containerd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	eventsapi "github.com/containerd/containerd/api/events"
	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"

	"shoal/node/runtime"
	"shoal/node/runtime/proc"
)

// Events implements runtime.Interface.
func (r *Runtime) Events(ctx context.Context, changed func(types.UID)) error {
	r.mu.Lock()
	r.seq++
	n := r.seq
	r.watches[n] = changed
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.watches, n)
	}()
	changed("")
	<-ctx.Done()
	return ctx.Err()
}

// tell calls the watchers without the lock, so that they may ask at once.
func (r *Runtime) tell(uid types.UID) {
	r.mu.Lock()
	watches := make([]func(types.UID), 0, len(r.watches))
	for _, w := range r.watches {
		watches = append(watches, w)
	}
	r.mu.Unlock()
	for _, w := range watches {
		w(uid)
	}
}

// follow keeps the index true: it subscribes, lists, and applies events until the stream breaks; then again.
func (r *Runtime) follow(ctx context.Context) error {
	for n := 0; ; n++ {
		err := r.session(ctx, strconv.Itoa(n))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.config.Log.Warn("containerd's events ended, connecting again", "err", err)
		if errdefs.IsUnavailable(err) || errors.Is(err, errStream) {
			continue // the next call waits for the connection
		}
		t := time.NewTimer(time.Second)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

var errStream = errors.New("stream of events ended")

// fenceTopic carries our own event: once it has come back, nothing that happens from then on is missed.
const fenceTopic = "/shoal/fence"

func (r *Runtime) session(ctx context.Context, nonce string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, errs := r.client.Subscribe(ctx,
		`topic=="/tasks/exit",namespace==`+r.config.Namespace,
		`topic~="^/images/",namespace==`+r.config.Namespace,
		`topic=="`+fenceTopic+`",namespace==`+r.config.Namespace,
	)
	if err := r.fence(ctx, nonce, stream, errs); err != nil {
		return err
	}
	if err := r.sync(ctx); err != nil {
		return fmt.Errorf("list what containerd holds: %w", err)
	}
	select {
	case <-r.ready:
	default:
		if err := r.chooseSnapshotter(ctx); err != nil {
			return err
		}
		close(r.ready)
	}
	r.tell("")
	for {
		select {
		case e := <-stream:
			r.apply(ctx, e)
		case err := <-errs:
			return fmt.Errorf("%w: %w", errStream, errors.Join(err, ctx.Err()))
		}
	}
}

// fence returns when the subscription works. Exits that come meanwhile are seen by the list that follows.
func (r *Runtime) fence(ctx context.Context, nonce string, stream <-chan *events.Envelope, errs <-chan error) error {
	for {
		mark := &eventsapi.NamespaceUpdate{Name: nonce}
		if err := r.client.EventService().Publish(ctx, fenceTopic, mark); err != nil {
			return fmt.Errorf("publish to containerd: %w", err)
		}
		again := time.NewTimer(100 * time.Millisecond) // it may have been published before the subscription was there
		for waiting := true; waiting; {
			select {
			case e := <-stream:
				if e.Topic == fenceTopic {
					again.Stop()
					return nil
				}
			case err := <-errs:
				again.Stop()
				return fmt.Errorf("%w: %w", errStream, errors.Join(err, ctx.Err()))
			case <-again.C:
				waiting = false
			}
		}
	}
}

func (r *Runtime) apply(ctx context.Context, e *events.Envelope) {
	if e.Event == nil {
		return
	}
	v, err := typeurl.UnmarshalAny(e.Event)
	if err != nil {
		r.config.Log.Warn("unreadable event", "topic", e.Topic, "err", err)
		return
	}
	switch v := v.(type) {
	case *eventsapi.TaskExit:
		if v.ID != v.ContainerID {
			return // an exec
		}
		r.mu.Lock()
		x := r.all[v.ContainerID]
		r.mu.Unlock()
		if x != nil {
			r.g.Go(func() error { r.end(ctx, x, int(v.ExitStatus), v.ExitedAt.AsTime()); return nil })
		}
	case *eventsapi.ImageCreate:
		r.images.forget(v.Name)
	case *eventsapi.ImageUpdate:
		r.images.forget(v.Name)
	case *eventsapi.ImageDelete:
		r.images.forget(v.Name)
	}
}

// end puts a container's end on record, in containerd first: from then on it survives anything. Its output is complete
// in the log before anyone is told. It does nothing if the end is, or is being, recorded.
func (r *Runtime) end(ctx context.Context, x *record, code int, at time.Time) {
	r.mu.Lock()
	if x.State == runtime.Exited || x.ending {
		r.mu.Unlock()
		return
	}
	x.ending = true
	o := outcome{started: x.Started, finished: at, code: code, reason: failed}
	if o.started.IsZero() {
		o.started = x.Created
	}
	killed := x.killed
	r.mu.Unlock()
	switch {
	case code == 0:
		o.reason = completed
	case code == 137 && !killed && r.tree.OOMKills(x.cgroup) > 0:
		o.reason = oomKilled
	}
	r.conclude(ctx, x, o)
}

// conclude writes an outcome down, removes the task and tells everyone. Its caller has set ending.
func (r *Runtime) conclude(ctx context.Context, x *record, o outcome) {
	if err := r.mark(ctx, x.ID, o.labels()); err != nil {
		r.config.Log.Warn("a container's end is not on record", "container", x.ID, "uid", x.uid, "err", err)
	}
	if err := r.deleteTask(ctx, x.ID); err != nil {
		r.config.Log.Warn("an ended task stays until the next list", "container", x.ID, "uid", x.uid, "err", err)
	}
	if err := r.config.Keeper.Undrain(ctx, x.ID); err != nil {
		r.config.Log.Warn("output may be incomplete", "container", x.ID, "uid", x.uid, "err", err)
	}
	r.mu.Lock()
	if x.State != runtime.Exited {
		x.apply(o)
	}
	r.mu.Unlock()
	r.tell(x.uid)
}

// mark adds labels to a container.
func (r *Runtime) mark(ctx context.Context, id string, labels map[string]string) error {
	c := containers.Container{ID: id, Labels: labels}
	fields := make([]string, 0, len(labels))
	for k := range maps.Keys(labels) {
		fields = append(fields, "labels."+k)
	}
	_, err := r.client.ContainerService().Update(ctx, c, fields...)
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

func (r *Runtime) deleteTask(ctx context.Context, id string) error {
	_, err := r.client.TaskService().Delete(ctx, &tasksapi.DeleteTaskRequest{ContainerID: id})
	if err = errgrpc.ToNative(err); errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

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
