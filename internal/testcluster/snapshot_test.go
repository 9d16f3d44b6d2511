package testcluster_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"shoal/consensus"
	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/testcluster"
)

// TestCachesComeThroughSnapshots leaves a peer behind for longer than logs and histories reach. What watches there must
// end up with the truth, whether its peer was cut off or stopped.
func TestCachesComeThroughSnapshots(t *testing.T) {
	inCluster(t, 3, testcluster.Options{
		NoNodes: true, HistoryMax: 100,
		Timing: consensus.Timing{SnapshotEvery: 200 * time.Millisecond, SnapshotLogs: 64, TrailingLogs: 16},
	}, func(c *cluster) {
		ctx, cancel := context.WithCancel(c.Context())
		var running sync.WaitGroup
		caches := map[string]*client.Cache[*corev1.ConfigMap]{}
		for _, n := range c.Names() {
			cache := client.NewCache[*corev1.ConfigMap](client.CacheConfig{Client: c.Client(n), Kind: api.ConfigMaps, Detector: c.Detector()})
			caches[n] = cache
			running.Go(func() {
				if err := cache.Run(ctx); !errors.Is(err, context.Canceled) {
					c.Error(err)
				}
			})
		}
		rng := rand.New(rand.NewSource(1))
		for round := range 4 {
			master := c.Master()
			behind := c.others(master)[rng.Intn(2)]
			has := c.Raft(behind).Status().Last
			if round%2 == 0 {
				c.Isolate(behind)
			} else {
				c.Stop(behind)
			}
			rev := c.churn(master, rng, 200)
			c.Retry("the log is shorter than what the peer lacks", func(context.Context) error {
				if st := c.Raft(master).Status(); st.Last-st.LogLen <= has {
					return fmt.Errorf("%+v", st)
				}
				return nil
			})
			if round%2 == 0 {
				c.Heal()
			} else {
				c.Restart(behind)
			}
			c.Sync()
			want := list[*corev1.ConfigMap](c, master, api.ConfigMaps, "default")
			for n, cache := range caches {
				one, done := context.WithTimeout(ctx, time.Minute)
				if err := cache.WaitFor(one, strconv.FormatUint(rev, 10)); err != nil {
					c.Fatalf("round %d: the cache at %s stays at %d of %d: %v", round, n, cache.Rev(), rev, err)
				}
				done()
				if got := cache.Len(); got != len(want) {
					c.Errorf("round %d: the cache at %s has %d objects, want %d", round, n, got, len(want))
				}
				for _, cm := range want {
					if got, ok := cache.Get(client.KeyOf(cm)); !ok || got.UID != cm.UID || got.ResourceVersion != cm.ResourceVersion {
						c.Errorf("round %d: the cache at %s has another %s", round, n, cm.Name)
					}
				}
			}
		}
		cancel()
		running.Wait()
	})
}

// churn makes, changes and deletes objects under few names, and returns the revision of the last write.
func (c *cluster) churn(at string, rng *rand.Rand, writes int) uint64 {
	c.Helper()
	cl := c.Client(at)
	for i := range writes {
		name := fmt.Sprint("cm-", rng.Intn(30))
		var err error
		if rng.Intn(3) == 0 {
			_, err = cl.Delete(c.Context(), api.ConfigMaps, client.Key{Namespace: "default", Name: name}, client.DeleteOptions{})
		} else {
			_, err = cl.Update(c.Context(), api.ConfigMaps, newConfigMap(name, strconv.Itoa(i)), client.UpdateOptions{})
			if apierrors.IsNotFound(err) {
				_, err = cl.Create(c.Context(), api.ConfigMaps, newConfigMap(name, strconv.Itoa(i)), client.CreateOptions{})
			}
		}
		if err != nil && !apierrors.IsNotFound(err) {
			c.Fatal(err)
		}
	}
	last := newConfigMap("", "last")
	last.GenerateName = "last-"
	o, err := cl.Create(c.Context(), api.ConfigMaps, last, client.CreateOptions{})
	if err != nil {
		c.Fatal(err)
	}
	rev, err := strconv.ParseUint(o.(*corev1.ConfigMap).ResourceVersion, 10, 64)
	if err != nil {
		c.Fatal(err)
	}
	return rev
}
