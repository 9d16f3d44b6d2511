package testcluster_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/testcluster"
)

// observer follows one kind by watches, one after the other, each at another peer and from where the last one ended. It
// writes down what it saw.
type observer struct {
	c    *cluster
	kind *api.Kind
	at   int // index of the peer it begins at
	rng  *rand.Rand
	from uint64

	mu   sync.Mutex
	seen []seen
}

// seen is one event: what the store says of it, and for watches the object.
type seen struct {
	rev     uint64
	key     client.Key
	deleted bool
	object  api.Object
}

func (s seen) String() string { return fmt.Sprintf("%d %s deleted=%v", s.rev, s.key, s.deleted) }

// observe follows a kind from a peer's revision on, until ctx ends.
func (c *cluster) observe(ctx context.Context, wg *sync.WaitGroup, k *api.Kind, at int, from uint64, seed int64) *observer {
	o := &observer{c: c, kind: k, at: at, rng: rand.New(rand.NewSource(seed)), from: from}
	clients := map[string]*client.HTTP{}
	for _, n := range c.Names() {
		clients[n] = c.Client(n)
	}
	names := c.Names()
	wg.Go(func() { o.run(ctx, names, clients) })
	return o
}

func (o *observer) run(ctx context.Context, names []string, clients map[string]*client.HTTP) {
	rev := o.from
	for i := o.at; ctx.Err() == nil; i++ {
		name := names[i%len(names)]
		one, cancel := context.WithTimeout(ctx, 50*time.Millisecond+time.Duration(o.rng.Intn(3000))*time.Millisecond)
		err := o.watch(one, clients[name], &rev)
		ended := one.Err() != nil
		cancel()
		switch {
		case err == nil, ended, errors.Is(err, io.EOF), apierrors.IsServiceUnavailable(err), apierrors.IsTimeout(err):
		case apierrors.IsInternalError(err): // a frame that broke off with its peer
		default:
			o.c.Errorf("%s's watch at %s from %d: %v", o.kind.Resource, name, rev, err)
			return
		}
		testcluster.Pass(ctx, 10*time.Millisecond)
	}
}

func (o *observer) watch(ctx context.Context, cl *client.HTTP, rev *uint64) error {
	w, err := cl.Watch(ctx, o.kind, client.ListOptions{ResourceVersion: strconv.FormatUint(*rev, 10), Bookmarks: true})
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		events, err := w.Next(ctx)
		if err != nil {
			return err
		}
		for _, ev := range events {
			n, err := strconv.ParseUint(ev.Object.GetResourceVersion(), 10, 64)
			if err != nil {
				return err
			}
			if ev.Type == watch.Bookmark {
				if n < *rev {
					return fmt.Errorf("bookmark %d after %d", n, *rev)
				}
				*rev = n
				continue
			}
			if n <= *rev {
				return fmt.Errorf("%s %s at %d after %d", ev.Type, client.KeyOf(ev.Object), n, *rev)
			}
			*rev = n
			o.mu.Lock()
			o.seen = append(o.seen, seen{n, client.KeyOf(ev.Object), ev.Type == watch.Deleted, ev.Object})
			o.mu.Unlock()
		}
	}
}

// truth is what a peer's store says happened to a kind after a revision.
func (c *cluster) truth(at string, k *api.Kind, from uint64) []seen {
	c.Helper()
	st := c.Raft(at).Store()
	prefix := "/" + k.Resource + "/"
	w := st.Watch(store.Key(prefix), store.Rev(from))
	defer w.Close()
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	// The mark of the end is the store's revision when we begin; Next would wait for more.
	end := st.Rev()
	var all []seen
	for {
		page, err := nextUntil(ctx, w, st, end)
		if err != nil {
			c.Fatalf("history of %s from %d: %v", k.Resource, from, err)
		}
		if len(page) == 0 {
			return all
		}
		for _, ev := range page {
			name := string(ev.Key)[len(prefix):]
			key := client.Key{Name: name}
			if k.Namespaced {
				for i := range name {
					if name[i] == '/' {
						key = client.Key{Namespace: name[:i], Name: name[i+1:]}
					}
				}
			}
			all = append(all, seen{rev: uint64(ev.Rev), key: key, deleted: ev.Deleted})
		}
	}
}

// nextUntil returns events that have happened, or none when all have been returned.
func nextUntil(ctx context.Context, w *store.Watcher, st *store.Store, end store.Rev) ([]store.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	events, err := w.Next(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, nil
	}
	return events, err
}

// agree fails unless an observer saw exactly what happened.
func (o *observer) agree(want []seen) {
	o.c.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range want {
		if i >= len(o.seen) {
			o.c.Errorf("%s's observer %d saw %d of %d events; the next is %v", o.kind.Resource, o.at, len(o.seen), len(want), want[i])
			return
		}
		if got := o.seen[i]; got.rev != want[i].rev || got.key != want[i].key || got.deleted != want[i].deleted {
			o.c.Errorf("%s's observer %d: event %d is %v, want %v", o.kind.Resource, o.at, i, got, want[i])
			return
		}
	}
	if len(o.seen) > len(want) {
		o.c.Errorf("%s's observer %d saw %v, which never happened", o.kind.Resource, o.at, o.seen[len(want)])
	}
}

// holders checks that at no revision two living objects held one address, and that none changed its address.
func (o *observer) holders(address func(api.Object) string) (handedOut int) {
	o.c.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	by := map[string]client.Key{}
	of := map[client.Key]string{}
	for _, s := range o.seen {
		a := address(s.object)
		if s.deleted {
			delete(by, of[s.key])
			delete(of, s.key)
			continue
		}
		if old, ok := of[s.key]; ok {
			if a != old {
				o.c.Errorf("%s %s had %s and has %s at revision %d", o.kind.Kind, s.key, old, a, s.rev)
			}
			continue
		}
		if a == "" || a == corev1.ClusterIPNone {
			o.c.Errorf("%s %s has no address", o.kind.Kind, s.key)
			continue
		}
		if other, taken := by[a]; taken {
			o.c.Errorf("%s has %s, which is %s's, at revision %d", s.key, a, other, s.rev)
		}
		by[a], of[s.key] = s.key, a
		handedOut++
	}
	return handedOut
}
