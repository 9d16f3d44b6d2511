package controller

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/api/custom"
	"shoal/internal/client"
)

// Objects are all that there are, kind by kind, but for Events: those that the typed caches have, and those of every other kind in a cache of
// its own, which comes and goes with the definition of a custom kind. The registry has them decoded anyway; here they are a pointer each. It is
// for those who judge objects whatever they are: by their owners, finalizers and namespaces.
type Objects struct {
	config   func(*api.Kind) client.CacheConfig
	handlers []func(k *api.Kind, old, o api.Object)
	settled  []func(k *api.Kind)
	wake     chan struct{} // a definition has changed
	begun    chan struct{} // closed when the kinds are known that were defined when the term began

	mu    sync.RWMutex
	kinds map[schema.GroupKind]*kindObjects
	past  map[schema.GroupKind]bool // custom kinds that are defined no more: a definition goes after its objects
}

// kindObjects are those of one kind. WaitFor and Synced are its cache's.
type kindObjects struct {
	cached
	kind    *api.Kind
	get     func(client.Key) (api.Object, bool)
	list    func(namespace string) []api.Object // of all, when it is empty
	ownedBy func(types.UID) []api.Object

	run        func(context.Context) error // nil: somebody else does
	stop       context.CancelFunc          // of a custom kind
	generation int64                       // of its definition
	ended      chan struct{}               // closed when a custom kind is followed no more
}

type cached interface {
	shows
	Synced() <-chan struct{}
}

func newObjects(c *Caches, config func(*api.Kind) client.CacheConfig) *Objects {
	o := &Objects{config: config, wake: make(chan struct{}, 1), begun: make(chan struct{}), kinds: map[schema.GroupKind]*kindObjects{}, past: map[schema.GroupKind]bool{}}
	for _, k := range []*kindObjects{
		objectsIn(o, api.Namespaces, c.Namespaces), objectsIn(o, api.ServiceAccounts, c.ServiceAccounts), objectsIn(o, api.Nodes, c.Nodes),
		objectsIn(o, api.Pods, c.Pods), objectsIn(o, api.ReplicationControllers, c.RCs), objectsIn(o, api.ReplicaSets, c.ReplicaSets),
		objectsIn(o, api.Deployments, c.Deployments), objectsIn(o, api.DaemonSets, c.DaemonSets), objectsIn(o, api.StatefulSets, c.StatefulSets),
		objectsIn(o, api.ControllerRevisions, c.Revisions), objectsIn(o, api.Jobs, c.Jobs), objectsIn(o, api.CronJobs, c.CronJobs),
		objectsIn(o, api.PodDisruptionBudgets, c.Budgets), objectsIn(o, api.HorizontalPodAutoscalers, c.Autoscalers),
		objectsIn(o, api.Services, c.Services), objectsIn(o, api.PersistentVolumeClaims, c.Claims), objectsIn(o, api.PersistentVolumes, c.Volumes),
		objectsIn(o, api.StorageClasses, c.Classes),
		objectsIn(o, api.CSIDrivers, c.Drivers),
		objectsIn(o, api.VolumeAttachments, c.Attachments),
		objectsIn(o, api.Endpoints, c.Endpoints), objectsIn(o, api.EndpointSlices, c.Slices),
		objectsIn(o, api.ClusterRoles, c.ClusterRoles), objectsIn(o, api.CustomResourceDefinitions, c.Definitions),
	} {
		o.kinds[k.kind.GroupKind()] = k
	}
	for _, k := range api.Kinds() {
		if k.Stored == nil && k.Collected() && o.kinds[k.GroupKind()] == nil {
			o.kinds[k.GroupKind()] = o.follow(k)
		}
	}
	c.Definitions.OnChange(func(_, _ *apiextensionsv1.CustomResourceDefinition) {
		select {
		case o.wake <- struct{}{}:
		default:
		}
	})
	return o
}

// follow are the objects of a kind in a cache of their own, which is to be run.
func (o *Objects) follow(k *api.Kind) *kindObjects {
	cache := client.NewCache[api.Object](o.config(k))
	s := objectsIn(o, k, cache)
	s.run = cache.Run
	return s
}

func objectsIn[T api.Object](o *Objects, k *api.Kind, cache *client.Cache[T]) *kindObjects {
	var none T
	cache.OnChange(func(old, now T) {
		var before, after api.Object // nil rather than a pointer of a type that is nil
		if any(old) != any(none) {
			before = old
		}
		if any(now) != any(none) {
			after = now
		}
		for _, f := range o.handlers {
			f(k, before, after)
		}
	})
	return &kindObjects{
		kind: k, cached: cache,
		get:     func(key client.Key) (api.Object, bool) { return cache.Get(key) },
		list:    func(namespace string) []api.Object { return objects(cache.List(namespace, nil)) },
		ownedBy: func(uid types.UID) []api.Object { return objects(cache.ByIndex(byOwner, string(uid))) },
	}
}

func objects[T api.Object](of []T) []api.Object {
	out := make([]api.Object, len(of))
	for i := range of {
		out[i] = of[i]
	}
	return out
}

// OnChange calls f for every change, as Cache.OnChange does, but from several goroutines: one for each kind. Must be called before Run.
func (o *Objects) OnChange(f func(k *api.Kind, old, now api.Object)) {
	o.handlers = append(o.handlers, f)
}

// OnSettled calls f when the objects of a custom kind are known as they are now, or known to be gone with their definition: deletions may have
// been missed before. Must be called before Run.
func (o *Objects) OnSettled(f func(*api.Kind)) { o.settled = append(o.settled, f) }

// of returns the objects of a kind, nil if it is not followed.
func (o *Objects) of(gk schema.GroupKind) *kindObjects {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.kinds[gk]
}

// isPast reports whether a kind is defined no more, so that it has no objects.
func (o *Objects) isPast(gk schema.GroupKind) bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.past[gk]
}

// Each implements quota.Objects.
func (o *Objects) Each(namespace string, f func(*api.Kind, api.Object)) {
	for _, k := range o.all() {
		if k.kind.Namespaced {
			for _, one := range k.list(namespace) {
				f(k.kind, one)
			}
		}
	}
}

// WaitFor implements quota.Objects.
func (o *Objects) WaitFor(ctx context.Context, k *api.Kind, rev string) error {
	return o.of(k.GroupKind()).WaitFor(ctx, rev)
}

// WaitSettled blocks until the objects of all kinds are known that were defined when the term began.
func (o *Objects) WaitSettled(ctx context.Context) error {
	if err := o.WaitSynced(ctx); err != nil {
		return err
	}
	for _, k := range o.all() {
		if err := client.WaitSynced(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

func (o *Objects) all() []*kindObjects {
	o.mu.RLock()
	defer o.mu.RUnlock()
	out := make([]*kindObjects, 0, len(o.kinds))
	for _, k := range o.kinds {
		out = append(out, k)
	}
	return out
}

// owned is an object that another one owns.
type owned struct {
	api.Object
	*kindObjects
}

// ownedBy returns everything that an object owns.
func (o *Objects) ownedBy(uid types.UID) (out []owned) {
	for _, k := range o.all() {
		for _, one := range k.ownedBy(uid) {
			out = append(out, owned{one, k})
		}
	}
	return out
}

// WaitSynced blocks until all objects are known but those of custom kinds, which OnSettled tells of.
func (o *Objects) WaitSynced(ctx context.Context) error {
	select {
	case <-o.begun:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for _, k := range o.all() {
		if k.stop == nil {
			if err := client.WaitSynced(ctx, k); err != nil {
				return err
			}
		}
	}
	return nil
}

// isSettled reports whether the objects of all kinds are known.
func (o *Objects) isSettled() bool {
	for _, k := range o.all() {
		select {
		case <-k.Synced():
		default:
			return false
		}
	}
	return true
}

// run follows the kinds that have no typed cache until ctx ends.
func (o *Objects) run(ctx context.Context, definitions *client.Cache[*apiextensionsv1.CustomResourceDefinition]) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, k := range o.all() {
		if k.run != nil {
			g.Go(func() error { return k.run(ctx) })
		}
	}
	g.Go(func() error {
		if err := client.WaitSynced(ctx, definitions); err != nil {
			return err
		}
		o.followDefined(ctx, g, definitions.List("", nil))
		close(o.begun)
		for ; ; o.followDefined(ctx, g, definitions.List("", nil)) {
			select {
			case <-o.wake:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	return g.Wait()
}

// followDefined follows the custom kinds that are defined now, and no others. One whose definition is another than before is begun anew.
func (o *Objects) followDefined(ctx context.Context, g *errgroup.Group, defs []*apiextensionsv1.CustomResourceDefinition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	defined := map[schema.GroupKind]bool{}
	for _, def := range defs {
		gk := schema.GroupKind{Group: def.Spec.Group, Kind: def.Status.AcceptedNames.Kind}
		if !api.CRDEstablished(def) {
			continue
		}
		defined[gk] = true
		had := o.kinds[gk]
		if had != nil && (had.stop == nil || had.generation == def.Generation) {
			continue
		}
		before := closed // nobody is told of an old state after a newer one
		if had != nil {
			had.stop()
			delete(o.kinds, gk)
			before = had.ended
		}
		kinds, err := custom.Kinds(def)
		if err != nil || len(kinds) == 0 {
			continue // it was validated; what is not served cannot be followed
		}
		s := o.follow(kinds[0])
		s.generation, s.ended = def.Generation, make(chan struct{})
		var run context.Context
		run, s.stop = context.WithCancel(ctx)
		o.kinds[gk] = s
		delete(o.past, gk)
		g.Go(func() error {
			defer close(s.ended)
			<-before
			_ = s.run(run)
			return nil
		})
		g.Go(func() error {
			select {
			case <-s.Synced():
				o.tellSettled(s.kind)
			case <-run.Done():
			}
			return nil
		})
	}
	for gk, k := range o.kinds {
		if k.stop != nil && !defined[gk] {
			k.stop()
			delete(o.kinds, gk)
			o.past[gk] = true
			g.Go(func() error { o.tellSettled(k.kind); return nil })
		}
	}
}

var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

func (o *Objects) tellSettled(k *api.Kind) {
	for _, f := range o.settled {
		f(k)
	}
}

// describe names an object for people.
func describe(k *api.Kind, o api.Object) string {
	return fmt.Sprintf("%s %s", k.Singular, client.KeyOf(o))
}
