package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/registry"
	"shoal/master/registry/registrytest"
)

// flaky is a backend whose lists and watches fail or end when told.
type flaky struct {
	client.Interface
	mu      sync.Mutex
	watches []client.Watch
	lists   int
	listErr error
}

func (f *flaky) List(ctx context.Context, k *api.Kind, o client.ListOptions) (*client.List, error) {
	f.mu.Lock()
	f.lists++
	err := f.listErr
	f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return f.Interface.List(ctx, k, o)
}

func (f *flaky) Watch(ctx context.Context, k *api.Kind, o client.ListOptions) (client.Watch, error) {
	f.mu.Lock()
	err := f.listErr
	f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	w, err := f.Interface.Watch(ctx, k, o)
	if err == nil {
		f.mu.Lock()
		f.watches = append(f.watches, w)
		f.mu.Unlock()
	}
	return w, err
}

// cut ends every watch and, while err is set, lets nobody begin anew.
func (f *flaky) cut(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listErr = err
	for _, w := range f.watches {
		w.Close()
	}
	f.watches = nil
}

type cacheTest struct {
	*testing.T
	registry *registry.Registry
	log      *registrytest.Log
	flaky    *flaky
	cache    *client.Cache[*corev1.ConfigMap]
	seen     []string
}

// inCacheTest runs f in a bubble with a cache over a flaky registry.
func inCacheTest(t *testing.T, c client.CacheConfig, f func(*cacheTest)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r, log := registrytest.New(t)
		ct := &cacheTest{T: t, registry: r, log: log, flaky: &flaky{Interface: r}}
		c.Client, c.Kind = ct.flaky, api.ConfigMaps
		ct.cache = client.NewCache[*corev1.ConfigMap](c)
		ct.cache.OnChange(func(old, now *corev1.ConfigMap) {
			value := func(cm *corev1.ConfigMap) string {
				if cm == nil {
					return "-"
				}
				return cm.Name + cm.Data["v"]
			}
			ct.seen = append(ct.seen, value(old)+">"+value(now))
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		ct.put("a", "1")
		go func() { done <- ct.cache.Run(ctx) }()
		<-ct.cache.Synced()
		synctest.Wait()
		f(ct)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
}

func (c *cacheTest) put(name, v string) *corev1.ConfigMap {
	c.Helper()
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"v": v}},
		Data:       map[string]string{"v": v},
	}
	out, err := c.registry.Create(c.Context(), api.ConfigMaps, cm, client.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		out, err = c.registry.Update(c.Context(), api.ConfigMaps, cm, client.UpdateOptions{})
	}
	if err != nil {
		c.Fatal(err)
	}
	return out.(*corev1.ConfigMap)
}

func (c *cacheTest) drop(name string) {
	c.Helper()
	if _, err := c.registry.Delete(c.Context(), api.ConfigMaps, client.Key{Namespace: "default", Name: name}, client.DeleteOptions{}); err != nil {
		c.Fatal(err)
	}
}

// wantSeen checks what handlers were told since the last call, in any order of the names.
func (c *cacheTest) wantSeen(want ...string) {
	c.Helper()
	synctest.Wait()
	slices.Sort(c.seen)
	slices.Sort(want)
	if !slices.Equal(c.seen, want) {
		c.Errorf("seen %v, want %v", c.seen, want)
	}
	c.seen = nil
}

func TestACacheFollowsChanges(t *testing.T) {
	inCacheTest(t, client.CacheConfig{}, func(c *cacheTest) {
		c.wantSeen("->a1")
		c.put("a", "2")
		c.put("b", "1")
		c.drop("a")
		c.wantSeen("a1>a2", "->b1", "a2>-")
		if _, ok := c.cache.Get(client.Key{Namespace: "default", Name: "a"}); ok || c.cache.Len() != 1 {
			t.Errorf("cache holds %v", c.cache.List("", nil))
		}
	})
}

func TestACacheResumesWithoutListing(t *testing.T) {
	inCacheTest(t, client.CacheConfig{}, func(c *cacheTest) {
		c.wantSeen("->a1")
		for i := range 5 {
			c.flaky.cut(nil)
			c.put("a", fmt.Sprint(i))
			<-time.After(time.Minute) // whatever it waits for
			synctest.Wait()
		}
		c.wantSeen("a1>a0", "a0>a1", "a1>a2", "a2>a3", "a3>a4")
		if c.flaky.lists != 1 {
			t.Errorf("%d lists", c.flaky.lists)
		}
	})
}

func TestACacheDeliversTheDifferenceWhenHistoryIsGone(t *testing.T) {
	inCacheTest(t, client.CacheConfig{}, func(c *cacheTest) {
		c.put("b", "1")
		c.put("c", "1")
		c.wantSeen("->a1", "->b1", "->c1")
		c.flaky.cut(apierrors.NewServiceUnavailable("out"))
		c.put("a", "2")
		c.put("a", "3")
		c.drop("b")
		c.drop("c")
		c.put("c", "9") // another object of the same name
		c.put("d", "1")
		c.drop("d")
		// Far more than any backend remembers, then all of it forgotten.
		for i := range 1200 {
			c.put("e", fmt.Sprint(i))
		}
		synctest.Wait()
		c.log.Compact()
		c.flaky.cut(nil)
		<-time.After(time.Minute)
		c.wantSeen("a1>a3", "b1>-", "c1>-", "->c9", "->e1199")
		if c.flaky.lists < 2 {
			t.Error("the cache did not list again")
		}
	})
}

func TestWaitForShowsOnesOwnWrite(t *testing.T) {
	inCacheTest(t, client.CacheConfig{}, func(c *cacheTest) {
		for i := range 50 {
			v := fmt.Sprint("x", i)
			cm := c.put("a", v)
			if err := c.cache.WaitFor(c.Context(), cm.ResourceVersion); err != nil {
				t.Fatal(err)
			}
			got, _ := c.cache.Get(client.KeyOf(cm))
			if got.Data["v"] != v {
				t.Fatalf("wrote %s, cache shows %s", v, got.Data["v"])
			}
		}
		ctx, cancel := context.WithTimeout(c.Context(), time.Second)
		defer cancel()
		if err := c.cache.WaitFor(ctx, "1000000"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a revision nobody wrote: %v", err)
		}
	})
}

func TestWaitForSeesProgressWithoutChanges(t *testing.T) {
	o := client.ListOptions{Namespace: "elsewhere"}
	synctest.Test(t, func(t *testing.T) {
		r, _ := registrytest.New(t)
		cache := client.NewCache[*corev1.ConfigMap](client.CacheConfig{Client: r, Kind: api.ConfigMaps, ListOptions: o})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- cache.Run(ctx) }()
		<-cache.Synced()
		out, err := r.Create(ctx, api.ConfigMaps, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a"}}, client.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := cache.WaitFor(ctx, out.(*corev1.ConfigMap).ResourceVersion); err != nil {
			t.Fatal(err)
		}
		cancel()
		<-done
	})
}

func TestACacheFindsByIndexSelectorAndNamespace(t *testing.T) {
	indexes := map[string]func(api.Object) []string{"value": func(o api.Object) []string {
		return strings.Split(o.(*corev1.ConfigMap).Data["v"], "-")
	}}
	inCacheTest(t, client.CacheConfig{Indexes: indexes}, func(c *cacheTest) {
		c.put("b", "1-2")
		c.put("c", "2")
		synctest.Wait()
		found := func(l []*corev1.ConfigMap) string {
			var out []string
			for _, cm := range l {
				out = append(out, cm.Name)
			}
			slices.Sort(out)
			return strings.Join(out, "")
		}
		check := func(what, got, want string) {
			t.Helper()
			if got != want {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		check("1", found(c.cache.ByIndex("value", "1")), "ab")
		check("2", found(c.cache.ByIndex("value", "2")), "bc")
		check("selector", found(c.cache.List("", labels.SelectorFromSet(labels.Set{"v": "2"}))), "c")
		check("namespace", found(c.cache.List("default", nil)), "abc")
		check("other namespace", found(c.cache.List("other", nil)), "")
		c.put("a", "2")
		c.drop("b")
		synctest.Wait()
		check("1 after changes", found(c.cache.ByIndex("value", "1")), "")
		check("2 after changes", found(c.cache.ByIndex("value", "2")), "ac")
	})
}

func TestTheDetectorNamesAChangedObject(t *testing.T) {
	var d client.MutationDetector
	inCacheTest(t, client.CacheConfig{Detector: &d}, func(c *cacheTest) {
		if err := d.Check(); err != nil {
			t.Fatal(err)
		}
		shared, _ := c.cache.Get(client.Key{Namespace: "default", Name: "a"})
		shared.Data["v"] = "changed"
		if err := d.Check(); err == nil || !strings.Contains(err.Error(), "default/a") {
			t.Errorf("Check: %v", err)
		}
	})
}

// ending is a watch that ends at once, every time.
type ending struct {
	client.Interface
	mu      sync.Mutex
	watches int
}

func (e *ending) Watch(context.Context, *api.Kind, client.ListOptions) (client.Watch, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.watches++
	return ended{}, nil
}

type ended struct{}

func (ended) Next(context.Context) ([]client.Event, error) { return nil, io.EOF }
func (ended) Close()                                       {}

func TestWatchesThatEndAtOnceArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := registrytest.New(t)
		e := &ending{Interface: r}
		cache := client.NewCache[*corev1.ConfigMap](client.CacheConfig{Client: e, Kind: api.ConfigMaps})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_ = cache.Run(ctx)
		if e.watches < 5 || e.watches > 50 {
			t.Errorf("%d watches in a minute", e.watches)
		}
	})
}
