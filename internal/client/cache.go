package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"

	"shoal/internal/api"
)

// CacheConfig says what a Cache holds.
type CacheConfig struct {
	Client Interface
	Kind   *api.Kind
	// ListOptions select the objects. ResourceVersion is that of the first list only: empty asks for the most recent
	// state, "0" for whatever the backend has.
	ListOptions ListOptions
	// Indexes name functions that return the values under which ByIndex finds an object.
	Indexes map[string]func(api.Object) []string
	// Keep returns what is kept of an object, with its name, UID and revision; nil keeps all of it.
	Keep func(api.Object) api.Object
	Log  *slog.Logger
	// Detector, when set, remembers every object handed out, so that a test can tell whether one was changed.
	Detector *MutationDetector
}

// Cache is a copy of the selected objects of one kind, kept up to date by list and watch. Objects it hands out are
// shared and read-only. All methods are safe for concurrent use.
type Cache[T api.Object] struct {
	cfg    CacheConfig
	synced chan struct{}
	// rev is the revision reached; the zero string before the first list. Only Run's goroutine uses it.
	rev string

	handlers []func(old, new T)

	mu      sync.RWMutex
	objects map[Key]T
	index   map[string]map[string]map[Key]struct{} // index name → value → keys
	reached uint64
	advance chan struct{} // closed and replaced when reached grows
}

const namespaceIndex = "\x00namespace"

// NewCache returns a cache that is empty until Run. T must be the type of c.Kind's objects.
func NewCache[T api.Object](c CacheConfig) *Cache[T] {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Cache[T]{
		cfg:     c,
		synced:  make(chan struct{}),
		objects: map[Key]T{},
		index:   map[string]map[string]map[Key]struct{}{},
		advance: make(chan struct{}),
	}
}

// OnChange calls f for every change: old is the zero T when an object appears, new when it goes. Calls come one at a
// time from Run's goroutine, after the cache shows the change, and must not block. After history was lost the
// differences are delivered like changes, several of one object folded into one. Must be called before Run.
func (c *Cache[T]) OnChange(f func(old, new T)) { c.handlers = append(c.handlers, f) }

// Synced is closed once the first list is in the cache and was delivered.
func (c *Cache[T]) Synced() <-chan struct{} { return c.synced }

// Get returns the object under key.
func (c *Cache[T]) Get(key Key) (T, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	o, ok := c.objects[key]
	return o, ok
}

// List returns the objects of namespace (empty means all) that match sel (nil means all), in no particular order.
func (c *Cache[T]) List(namespace string, sel labels.Selector) []T {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var out []T
	if namespace != "" {
		for key := range c.index[namespaceIndex][namespace] {
			if o := c.objects[key]; sel == nil || sel.Matches(labels.Set(o.GetLabels())) {
				out = append(out, o)
			}
		}
		return out
	}
	for _, o := range c.objects {
		if sel == nil || sel.Matches(labels.Set(o.GetLabels())) {
			out = append(out, o)
		}
	}
	return out
}

// ByIndex returns the objects for which the index function called name returns value, in no particular order.
func (c *Cache[T]) ByIndex(name, value string) []T {
	c.mu.RLock()
	defer c.mu.RUnlock()
	keys := c.index[name][value]
	out := make([]T, 0, len(keys))
	for key := range keys {
		out = append(out, c.objects[key])
	}
	return out
}

// Len returns the number of objects.
func (c *Cache[T]) Len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.objects)
}

// Rev returns the revision that the cache is known to have reached, zero before the first list.
func (c *Cache[T]) Rev() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.reached
}

// WaitFor blocks until the cache shows revision rev (the resourceVersion that a write returned) or something newer. A
// controller calls it after its last write, so that the next reconcile sees its own work. The error is ctx's, or says
// that rev is no revision.
func (c *Cache[T]) WaitFor(ctx context.Context, rev string) error {
	if rev == "" || rev == "0" {
		return nil
	}
	want, err := strconv.ParseUint(rev, 10, 64)
	if err != nil {
		return fmt.Errorf("wait for revision %q of %s: %w", rev, c.cfg.Kind.Resource, err)
	}
	for {
		c.mu.RLock()
		reached, advance := c.reached, c.advance
		c.mu.RUnlock()
		if reached >= want {
			return nil
		}
		select {
		case <-advance:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Run keeps the cache up to date until ctx ends and returns ctx's error. Failures of the backend are logged and tried
// again: a cache goes stale, it does not end.
func (c *Cache[T]) Run(ctx context.Context) error {
	retry := NewBackoff(20*time.Millisecond, 5*time.Second)
	for ctx.Err() == nil {
		err := c.step(ctx, retry)
		if ctx.Err() != nil {
			break
		}
		if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			c.cfg.Log.Debug("history is gone, listing again", "kind", c.cfg.Kind.Kind)
			if lerr := c.list(ctx); lerr == nil {
				continue
			} else if ctx.Err() == nil {
				err = lerr
			}
		}
		if err != nil && ctx.Err() == nil {
			c.cfg.Log.Warn("cannot follow, will retry", "kind", c.cfg.Kind.Kind, "err", err)
			_ = retry.Wait(ctx)
		}
	}
	return ctx.Err()
}

// step lists when nothing was listed yet, else watches from where the cache is until the watch ends. It returns nil
// when the watch ended in good order after it brought something.
func (c *Cache[T]) step(ctx context.Context, retry *Backoff) error {
	if c.rev == "" {
		if err := c.list(ctx); err != nil {
			return err
		}
	}
	o := c.cfg.ListOptions
	o.ResourceVersion, o.ResourceVersionMatch, o.Bookmarks = c.rev, "", true
	w, err := c.cfg.Client.Watch(ctx, c.cfg.Kind, o)
	if err != nil {
		return err
	}
	defer w.Close()
	for first := true; ; first = false {
		events, err := w.Next(ctx)
		if errors.Is(err, io.EOF) && !first {
			return nil
		}
		if err != nil {
			return err // an end without any event is paced like a failure
		}
		retry.Reset()
		for _, e := range events {
			if err := c.take(e); err != nil {
				return err
			}
		}
	}
}

// list replaces the content by a fresh list and delivers the differences. It never goes back in time: once something
// was seen, the list is asked to be at least that new.
func (c *Cache[T]) list(ctx context.Context) error {
	o := c.cfg.ListOptions
	if c.rev != "" {
		o.ResourceVersion = c.rev
	}
	l, err := c.cfg.Client.List(ctx, c.cfg.Kind, o)
	if err != nil {
		return err
	}
	listed := make(map[Key]T, len(l.Items))
	for _, item := range l.Items {
		o, ok := item.(T)
		if !ok {
			return fmt.Errorf("list of %s holds a %T", c.cfg.Kind.Resource, item)
		}
		listed[keyOf(o)] = o
	}
	var gone []Key
	c.mu.RLock()
	for key := range c.objects {
		if _, ok := listed[key]; !ok {
			gone = append(gone, key)
		}
	}
	c.mu.RUnlock()
	for _, key := range gone {
		c.remove(key)
	}
	for key, o := range listed {
		c.put(key, o)
	}
	c.reach(l.ResourceVersion)
	select {
	case <-c.synced:
	default:
		close(c.synced)
	}
	return nil
}

// take applies one event.
func (c *Cache[T]) take(e Event) error {
	switch e.Type {
	case watch.Bookmark:
		c.reach(e.Object.GetResourceVersion())
		return nil
	case watch.Added, watch.Modified, watch.Deleted:
	default:
		return fmt.Errorf("watch of %s brought a %s event", c.cfg.Kind.Resource, e.Type)
	}
	o, ok := e.Object.(T)
	if !ok {
		return fmt.Errorf("watch of %s brought a %T", c.cfg.Kind.Resource, e.Object)
	}
	if e.Type == watch.Deleted {
		c.remove(keyOf(o))
	} else {
		c.put(keyOf(o), o)
	}
	c.reach(o.GetResourceVersion())
	return nil
}

func (c *Cache[T]) put(key Key, o T) {
	old, had := c.Get(key)
	if had && old.GetResourceVersion() == o.GetResourceVersion() && old.GetUID() == o.GetUID() {
		return
	}
	if had && old.GetUID() != o.GetUID() {
		c.remove(key) // another object of the same name: its end was missed
		old, had = *new(T), false
	}
	if c.cfg.Keep != nil {
		o = c.cfg.Keep(o).(T)
	}
	if c.cfg.Detector != nil {
		c.cfg.Detector.Add(o)
	}
	c.mu.Lock()
	if had {
		c.unindexLocked(key, old)
	}
	c.objects[key] = o
	c.indexLocked(key, o)
	c.mu.Unlock()
	for _, f := range c.handlers {
		f(old, o)
	}
}

func (c *Cache[T]) remove(key Key) {
	c.mu.Lock()
	old, had := c.objects[key]
	if had {
		c.unindexLocked(key, old)
		delete(c.objects, key)
	}
	c.mu.Unlock()
	if had {
		for _, f := range c.handlers {
			f(old, *new(T))
		}
	}
}

// reach notes that everything up to rev is in the cache, and wakes those who wait for it.
func (c *Cache[T]) reach(rev string) {
	c.rev = rev
	n, err := strconv.ParseUint(rev, 10, 64)
	if err != nil {
		return // revisions of foreign servers need not be numbers; then nobody can wait for them
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n <= c.reached {
		return
	}
	c.reached = n
	close(c.advance)
	c.advance = make(chan struct{})
}

func (c *Cache[T]) indexLocked(key Key, o T) {
	add := func(name, value string) {
		values := c.index[name]
		if values == nil {
			values = map[string]map[Key]struct{}{}
			c.index[name] = values
		}
		if values[value] == nil {
			values[value] = map[Key]struct{}{}
		}
		values[value][key] = struct{}{}
	}
	add(namespaceIndex, key.Namespace)
	for name, f := range c.cfg.Indexes {
		for _, value := range f(o) {
			add(name, value)
		}
	}
}

func (c *Cache[T]) unindexLocked(key Key, o T) {
	drop := func(name, value string) {
		keys := c.index[name][value]
		delete(keys, key)
		if len(keys) == 0 {
			delete(c.index[name], value)
		}
	}
	drop(namespaceIndex, key.Namespace)
	for name, f := range c.cfg.Indexes {
		for _, value := range f(o) {
			drop(name, value)
		}
	}
}

func keyOf(o api.Object) Key { return Key{Namespace: o.GetNamespace(), Name: o.GetName()} }

// KeyOf returns the key of o.
func KeyOf(o api.Object) Key { return keyOf(o) }
