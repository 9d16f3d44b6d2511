//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/lab"
)

// TestFigures measures what the README claims: through TLS, at a follower, everything of three peers and the clients on
// the same cores. It fails only where something does not work; the figures are printed.
func TestFigures(t *testing.T) {
	c := startLab(t, 3)
	follower := c.others(master(t))[0]
	at := clientFor(t, follower)

	t.Run("idle", func(t *testing.T) {
		const length = 15 * time.Second
		before := map[string]usage{}
		for _, p := range labPeers(t) {
			before[p.Name] = usageOf(t, p)
		}
		<-time.After(length)
		for _, p := range labPeers(t) {
			after := usageOf(t, p)
			t.Logf("FIGURES %s idle: %.2f %% of a core, RSS %d MiB (shoal), PSS %d MiB (all of the machine)", p.Name,
				(after.cpu-before[p.Name].cpu).Seconds()/length.Seconds()*100, after.rss>>20, after.pss>>20)
		}
	})
	t.Run("pod start", func(t *testing.T) {
		var all []time.Duration
		for i := range 20 {
			all = append(all, c.podStart(t, at, fmt.Sprintf("start-%d", i)))
		}
		slices.Sort(all)
		t.Logf("FIGURES create → Running seen by a watch: median %v, min %v, max %v", all[10], all[0], all[19])
	})
	t.Run("50 and back", func(t *testing.T) {
		apply(t, web(0))
		started := time.Now()
		shoal(t, "scale", "rc", "web", "--replicas", "50")
		running(t, at, "web", 50, 120*time.Second)
		up := time.Since(started)
		started = time.Now()
		shoal(t, "scale", "rc", "web", "--replicas", "0")
		gone(t, at, "web", 120*time.Second)
		t.Logf("FIGURES 0 → 50 Running: %v; 50 → 0 gone: %v", up, time.Since(started))
	})
	t.Run("creates", func(t *testing.T) {
		for _, peer := range []string{master(t), follower} {
			t.Logf("FIGURES %d creates/s at %s, 16 clients", c.creates(t, peer, 4000), peer)
		}
	})
	info, err := os.Stat(binary())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("FIGURES binary: %.1f MB", float64(info.Size())/1e6)
}

func labPeers(t *testing.T) []lab.Peer {
	t.Helper()
	peers, err := lab.Peers()
	if err != nil {
		t.Fatal(err)
	}
	return peers
}

// podStart creates one pod and returns how long a watch took to show it Running.
func (c *cluster) podStart(t *testing.T, at client.Interface, name string) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	list, err := at.List(ctx, api.Pods, client.ListOptions{Namespace: "default"})
	if err != nil {
		t.Fatal(err)
	}
	w, err := at.Watch(ctx, api.Pods, client.ListOptions{
		Namespace: "default", ResourceVersion: list.ResourceVersion, Fields: fields.OneTermEqualSelector("metadata.name", name),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	zero := int64(0)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{
		TerminationGracePeriodSeconds: &zero,
		Containers:                    []corev1.Container{{Name: "probe", Image: "shoal.local/probe:1", Args: []string{"sleep"}}},
	}}
	started := time.Now()
	if _, err := at.Create(ctx, api.Pods, p, client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for {
		events, err := w.Next(ctx)
		if err != nil {
			t.Fatalf("watch %s: %v", name, err)
		}
		for _, ev := range events {
			if p, ok := ev.Object.(*corev1.Pod); ok && p.Status.Phase == corev1.PodRunning {
				took := time.Since(started)
				if _, err := at.Delete(ctx, api.Pods, client.Key{Namespace: "default", Name: name}, client.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
					t.Fatal(err)
				}
				return took
			}
		}
	}
}

// creates makes n ConfigMaps with 16 clients, each on a connection of its own, and returns how many a second.
func (c *cluster) creates(t *testing.T, peer string, n int) int {
	t.Helper()
	const clients = 16
	var (
		next atomic.Int64
		wg   sync.WaitGroup
		apis [clients]*client.HTTP
	)
	for i := range apis {
		apis[i] = clientFor(t, peer)
		if _, err := apis[i].Get(t.Context(), api.Namespaces, client.Key{Name: "default"}, client.GetOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	started := time.Now()
	for _, a := range apis {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("load-%s-%d", peer, i)}}
				if _, err := a.Create(t.Context(), api.ConfigMaps, cm, client.CreateOptions{}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(started)
	out := shoal(t, "get", "cm", "-o", "name")
	if got := strings.Count(out, "load-"+peer+"-"); got != n {
		t.Errorf("%d of %d creates are there", got, n)
	}
	return int(float64(n) / took.Seconds())
}
