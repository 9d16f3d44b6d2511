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
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	"k8s.io/apimachinery/pkg/types"

	"shoal/node/runtime"
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
	if r.snapshotter == "" {
		if err := r.chooseSnapshotter(ctx); err != nil {
			return err
		}
	}
	if err := r.sync(ctx); err != nil {
		return fmt.Errorf("list what containerd holds: %w", err)
	}
	select {
	case <-r.ready:
	default:
		if err := r.sweep(ctx); err != nil {
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
	if o.finished.Before(o.started) {
		o.started = o.finished // it had ended before its start was confirmed
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
