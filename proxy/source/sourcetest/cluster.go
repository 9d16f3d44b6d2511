// Package sourcetest is a cluster's API in memory, with just what a Source reads, and short ways to write Services and
// endpoints. Only tests import it.
package sourcetest

import (
	"context"
	"io"
	"maps"
	"slices"
	"strconv"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"

	"shoal/internal/api"
	"shoal/internal/client"
)

// Cluster holds objects and serves List and Watch. Its other methods of client.Interface panic. Safe for concurrent use.
type Cluster struct {
	client.Interface

	mu      sync.Mutex
	rev     uint64
	objects map[string]map[client.Key]api.Object // by resource
	log     []change
	more    chan struct{} // closed and replaced at each change
}

type change struct {
	resource string
	rev      uint64
	event    client.Event
}

// New returns an empty cluster.
func New() *Cluster {
	return &Cluster{rev: 1, objects: map[string]map[client.Key]api.Object{}, more: make(chan struct{})}
}

// Apply creates or replaces objects, one revision each.
func (c *Cluster) Apply(objects ...api.Object) {
	for _, o := range objects {
		c.write(o, false)
	}
}

// Remove deletes objects by kind and name.
func (c *Cluster) Remove(objects ...api.Object) {
	for _, o := range objects {
		c.write(o, true)
	}
}

func (c *Cluster) write(o api.Object, remove bool) {
	kind := kindOf(o)
	key := client.KeyOf(o)
	o = o.DeepCopyObject().(api.Object)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rev++
	o.SetResourceVersion(strconv.FormatUint(c.rev, 10))
	e := client.Event{Type: watch.Added, Object: o}
	if c.objects[kind.Resource] == nil {
		c.objects[kind.Resource] = map[client.Key]api.Object{}
	}
	if _, had := c.objects[kind.Resource][key]; had {
		e.Type = watch.Modified
	}
	c.objects[kind.Resource][key] = o
	if remove {
		e.Type = watch.Deleted
		delete(c.objects[kind.Resource], key)
	}
	c.log = append(c.log, change{resource: kind.Resource, rev: c.rev, event: e})
	close(c.more)
	c.more = make(chan struct{})
}

// List is client.Interface's. It ignores selectors.
func (c *Cluster) List(_ context.Context, k *api.Kind, _ client.ListOptions) (*client.List, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &client.List{
		Items:           slices.Collect(maps.Values(c.objects[k.Resource])),
		ResourceVersion: strconv.FormatUint(c.rev, 10),
	}, nil
}

// Watch is client.Interface's. It ignores selectors and sends no bookmarks.
func (c *Cluster) Watch(_ context.Context, k *api.Kind, o client.ListOptions) (client.Watch, error) {
	after, err := strconv.ParseUint(o.ResourceVersion, 10, 64)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return &stream{c: c, resource: k.Resource, after: after, closed: make(chan struct{})}, nil
}

type stream struct {
	c        *Cluster
	resource string
	after    uint64
	closed   chan struct{}
	once     sync.Once
}

func (s *stream) Next(ctx context.Context) ([]client.Event, error) {
	for {
		s.c.mu.Lock()
		var out []client.Event
		for _, ch := range s.c.log {
			if ch.resource == s.resource && ch.rev > s.after {
				out = append(out, ch.event)
			}
		}
		s.after = s.c.rev
		more := s.c.more
		s.c.mu.Unlock()
		if len(out) > 0 {
			return out, nil
		}
		select {
		case <-more:
		case <-s.closed:
			return nil, io.EOF
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *stream) Close() { s.once.Do(func() { close(s.closed) }) }
