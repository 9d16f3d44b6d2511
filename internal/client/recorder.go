package client

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

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

	// What follows is used by Run's goroutine only.
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
	ref corev1.ObjectReference
	at  metav1.Time
}

// Events wait in memory up to maxQueued and are folded with the last maxWritten ones.
const (
	maxQueued  = 2048
	maxWritten = 4096
	foldFor    = time.Hour
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
		ref: ref,
		at:  metav1.NewTime(r.cfg.Now()),
	}
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
		for _, h := range queue {
			if err := r.write(ctx, h); err != nil && ctx.Err() == nil {
				// An Event is a remark: losing one changes nothing, and trying for long would hold up the others.
				r.cfg.Log.Debug("event not written", "name", h.name, "ns", h.namespace, "err", err)
			}
		}
	}
}

func (r *Recorder) write(ctx context.Context, h happening) error {
	if last := r.written[h.happeningKey]; last != nil && h.at.Sub(last.FirstTimestamp.Time) < foldFor {
		last.Count++
		last.LastTimestamp = h.at
		body, err := json.Marshal(map[string]any{"count": last.Count, "lastTimestamp": h.at})
		if err != nil {
			return fmt.Errorf("encode event patch: %w", err)
		}
		_, err = r.cfg.Client.Patch(ctx, api.Events, keyOf(last), Patch{Type: types.MergePatchType, Data: body}, PatchOptions{})
		if !apierrors.IsNotFound(err) {
			return err
		}
	}
	if len(r.written) >= maxWritten {
		clear(r.written)
	}
	e := r.event(h)
	if _, err := r.cfg.Client.Create(ctx, api.Events, e, CreateOptions{}); err != nil {
		return err
	}
	r.written[h.happeningKey] = e
	return nil
}

func (r *Recorder) event(h happening) *corev1.Event {
	namespace := h.namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	// Two things may happen to an object at once as far as the clock can tell.
	r.stamp = max(r.stamp+1, h.at.UnixNano())
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Name:      fmt.Sprintf("%.200s.%x", h.name, r.stamp),
			Namespace: namespace,
		},
		InvolvedObject: h.ref, Reason: h.reason, Message: h.message, Type: h.typ,
		FirstTimestamp: h.at, LastTimestamp: h.at, Count: 1,
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
