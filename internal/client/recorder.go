package client

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
)

// RecorderConfig says on whose behalf Events are written.
type RecorderConfig struct {
	Client    Interface
	Component string // source.component
	Host      string // source.host; may be empty
	Now       func() time.Time
	Log       *slog.Logger
}

// Recorder writes Events about objects. Equal ones within an hour are folded into one with a count. It never blocks
// its callers: what cannot be written in time is dropped and counted in the log.
type Recorder struct {
	cfg   RecorderConfig
	kinds *api.Table
	wake  chan struct{}

	mu      sync.Mutex
	queue   []happening
	dropped int

	written map[happeningKey]*corev1.Event
	stamp   int64 // in the last name given
}

type happeningKey struct {
	uid                   types.UID
	component             string
	typ, reason, message  string
	namespace, name, kind string
}

type happening struct {
	happeningKey
	ref         corev1.ObjectReference
	first, last metav1.Time
	count       int32
}

// Events wait in memory up to maxQueued and are folded with the last maxWritten ones.
const (
	maxQueued  = 2048
	maxWritten = 4096
	foldFor    = time.Hour
	// atOnce is how many are written at a time: the Master answers those that come together in one go.
	atOnce = 64
)

// NewRecorder returns a recorder that keeps what it is told until Run writes it.
func NewRecorder(c RecorderConfig) *Recorder {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Recorder{cfg: c, kinds: api.Default(), wake: make(chan struct{}, 1), written: map[happeningKey]*corev1.Event{}}
}

// Event notes that something happened to o. typ is corev1.EventTypeNormal or EventTypeWarning. It may be called on a
// nil Recorder, and before or after Run.
func (r *Recorder) Event(o api.Object, typ, reason, format string, args ...any) {
	r.EventFrom("", o, typ, reason, format, args...)
}

// EventFrom is Event on behalf of another component than the recorder's own.
func (r *Recorder) EventFrom(component string, o api.Object, typ, reason, format string, args ...any) {
	if r == nil {
		return
	}
	if component == "" {
		component = r.cfg.Component
	}
	ref := r.refTo(o)
	h := happening{
		happeningKey: happeningKey{
			uid: ref.UID, component: component, typ: typ, reason: reason, message: fmt.Sprintf(format, args...),
			namespace: ref.Namespace, name: ref.Name, kind: ref.Kind,
		},
		ref:   ref,
		first: metav1.NewTime(r.cfg.Now()),
		count: 1,
	}
	h.last = h.first
	r.mu.Lock()
	if len(r.queue) < maxQueued {
		r.queue = append(r.queue, h)
	} else {
		r.dropped++
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run writes Events until ctx ends.
func (r *Recorder) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.wake:
		}
		r.mu.Lock()
		queue, dropped := r.queue, r.dropped
		r.queue, r.dropped = nil, 0
		r.mu.Unlock()
		if dropped > 0 {
			r.cfg.Log.Warn("too many events at once, some were dropped", "dropped", dropped)
		}
		var writes errgroup.Group
		writes.SetLimit(atOnce)
		for _, h := range fold(queue) {
			writes.Go(func() error {
				if err := r.write(ctx, h); err != nil && ctx.Err() == nil {
					// An Event is a remark: losing one changes nothing, and trying for long would hold up the others.
					r.cfg.Log.Debug("event not written", "name", h.name, "ns", h.namespace, "err", err)
				}
				return nil
			})
		}
		_ = writes.Wait()
	}
}

// fold makes one of all that are equal, in the order of the first.
func fold(queue []happening) []*happening {
	var all []*happening
	known := map[happeningKey]*happening{}
	for i := range queue {
		h := &queue[i]
		if same := known[h.happeningKey]; same != nil {
			same.last = h.last
			same.count += h.count
			continue
		}
		known[h.happeningKey] = h
		all = append(all, h)
	}
	return all
}

// write writes one. No two writes of equal ones may go on at once.
func (r *Recorder) write(ctx context.Context, h *happening) error {
	r.mu.Lock()
	last := r.written[h.happeningKey]
	r.mu.Unlock()
	if last != nil && h.last.Sub(last.FirstTimestamp.Time) < foldFor {
		last.Count += h.count
		last.LastTimestamp = h.last
		body, err := json.Marshal(map[string]any{"count": last.Count, "lastTimestamp": h.last})
		if err != nil {
			return fmt.Errorf("encode event patch: %w", err)
		}
		_, err = r.cfg.Client.Patch(ctx, api.Events, keyOf(last), Patch{Type: types.MergePatchType, Data: body}, PatchOptions{})
		if !apierrors.IsNotFound(err) {
			return err
		}
	}
	e := r.event(h)
	if _, err := r.cfg.Client.Create(ctx, api.Events, e, CreateOptions{}); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.written) >= maxWritten {
		clear(r.written)
	}
	r.written[h.happeningKey] = e
	return nil
}

func (r *Recorder) event(h *happening) *corev1.Event {
	namespace := h.namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	// Two things may happen to an object at once as far as the clock can tell.
	r.mu.Lock()
	r.stamp = max(r.stamp+1, h.first.UnixNano())
	stamp := r.stamp
	r.mu.Unlock()
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Name:      fmt.Sprintf("%.200s.%x", h.name, stamp),
			Namespace: namespace,
		},
		InvolvedObject: h.ref, Reason: h.reason, Message: h.message, Type: h.typ,
		FirstTimestamp: h.first, LastTimestamp: h.last, Count: h.count,
		Source:              corev1.EventSource{Component: h.component, Host: r.cfg.Host},
		ReportingController: h.component, ReportingInstance: r.cfg.Host,
	}
}

// refTo names o for humans and kubectl describe, which looks Events up by these fields.
func (r *Recorder) refTo(o api.Object) corev1.ObjectReference {
	gvk := o.GetObjectKind().GroupVersionKind()
	if k, ok := r.kinds.For(o); ok {
		gvk = k.GroupVersionKind
	}
	return corev1.ObjectReference{
		Kind: gvk.Kind, APIVersion: gvk.GroupVersion().String(), Namespace: o.GetNamespace(), Name: o.GetName(),
		UID: o.GetUID(), ResourceVersion: o.GetResourceVersion(),
	}
}
