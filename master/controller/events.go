package controller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// events removes Events that have not been repeated for an hour. It needs no cache: what is written after a look cannot
// be due before the next one.
type events struct {
	Config
	queue client.Queue
}

const (
	eventsKept = time.Hour
	// Events are removed in batches at least this far apart, so that a busy cluster does not look for each one.
	eventsPause = 5 * time.Minute
)

func newEvents(c Config) loop {
	e := &events{Config: c, queue: client.NewQueue()}
	e.queue.Add(client.Key{Name: "events"})
	return newLoop("events", e.queue, 1, e.reconcile)
}

func (e *events) reconcile(ctx context.Context, _ client.Key) (time.Duration, error) {
	l, err := e.Client.List(ctx, api.Events, client.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return 0, fmt.Errorf("list events: %w", err)
	}
	now, next := e.Now(), eventsKept
	var old []api.Object
	for _, o := range l.Items {
		ev, ok := o.(*corev1.Event)
		if !ok {
			continue
		}
		if left := lastSeen(ev).Add(eventsKept).Sub(now); left <= 0 {
			old = append(old, ev)
		} else {
			next = min(next, left)
		}
	}
	err = each(ctx, old, func(ctx context.Context, o api.Object) error {
		var w written
		return deleteObject(ctx, e.Client, api.Events, o, nil, &w)
	})
	return max(next, eventsPause), err
}

// lastSeen returns when the Event last happened.
func lastSeen(e *corev1.Event) time.Time {
	last := e.CreationTimestamp.Time
	for _, t := range []time.Time{e.LastTimestamp.Time, e.EventTime.Time} {
		if t.After(last) {
			last = t
		}
	}
	if e.Series != nil && e.Series.LastObservedTime.After(last) {
		last = e.Series.LastObservedTime.Time
	}
	return last
}
