package testcluster_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/testcluster"
)

// TestAQuotaHoldsWhileMastersChange has 64 clients at all peers create and delete Secrets, while Masters are killed, cut off and
// asked to hand over. An observer of every change counts: there is never one too many. In the end what is said to be used is what there is.
func TestAQuotaHoldsWhileMastersChange(t *testing.T) {
	inCluster(t, 3, testcluster.Options{NoNodes: true}, func(c *cluster) {
		const most = 20
		at := c.Names()[0]
		c.create(at, api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}})
		c.create(at, api.ResourceQuotas, &corev1.ResourceQuota{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "few"},
			Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourceSecrets: resource.MustParse(strconv.Itoa(most))}},
		})
		var peers []client.Interface
		for _, name := range c.Names() {
			peers = append(peers, c.Client(name))
		}
		var mu sync.Mutex
		tally := map[string]int{}
		noted := func(what string) {
			mu.Lock()
			defer mu.Unlock()
			tally[what]++
		}
		end := time.After(40 * time.Second)
		over := make(chan struct{})
		var clients sync.WaitGroup
		for i := range 64 {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			clients.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-over:
						return
					case <-time.After(time.Duration(rng.IntN(2000)) * time.Millisecond):
					}
					at := peers[rng.IntN(len(peers))]
					ctx, cancel := context.WithTimeout(c.Context(), 8*time.Second)
					key := client.Key{Namespace: "team", Name: fmt.Sprintf("s-%d-%d", i, n)}
					_, err := at.Create(ctx, api.Secrets, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}, client.CreateOptions{})
					switch {
					case err == nil:
						noted("made")
						if rng.IntN(2) == 0 {
							_, _ = at.Delete(ctx, api.Secrets, key, client.DeleteOptions{})
						}
					case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota: few"):
						noted("refused")
						if l, err := at.List(ctx, api.Secrets, client.ListOptions{Namespace: "team"}); err == nil && len(l.Items) > 0 { // somebody makes room
							_, _ = at.Delete(ctx, api.Secrets, client.KeyOf(l.Items[rng.IntN(len(l.Items))]), client.DeleteOptions{})
						}
					default:
						noted("failed")
					}
					cancel()
				}
			})
		}
		observed := make(chan int)
		go func() { observed <- c.mostAtOnce(at, "team", over) }()
		rng := rand.New(rand.NewPCG(1, 1000))
		for done := false; !done; {
			switch master := c.Master(); rng.IntN(3) {
			case 0:
				c.MoveMaster()
			case 1:
				c.Isolate(master)
				testcluster.Pass(c.Context(), 3*time.Second)
				c.Heal()
			case 2:
				if master != at { // where the observer is
					c.Kill(master)
					testcluster.Pass(c.Context(), 2*time.Second)
					c.Restart(master)
				}
			}
			select {
			case <-end:
				done = true
			case <-time.After(3 * time.Second):
			}
		}
		close(over)
		clients.Wait()
		if n := <-observed; n > most {
			c.Errorf("there were %d at once, %d are allowed", n, most)
		} else if n < most {
			c.Errorf("there were never more than %d at once", n)
		}
		c.Sync()
		c.Until("the quota says what is used", func() bool {
			used := list[*corev1.ResourceQuota](c, at, api.ResourceQuotas, "team")[0].Status.Used[corev1.ResourceSecrets]
			return used.Value() == int64(len(list[*corev1.Secret](c, at, api.Secrets, "team")))
		})
		t.Logf("%v", tally)
		if tally["made"] < 2*most || tally["refused"] == 0 {
			c.Errorf("too little happened: %v", tally)
		}
	})
}

// mostAtOnce follows the Secrets of a namespace, every change of them, and returns how many there were at most.
func (c *cluster) mostAtOnce(at, namespace string, over <-chan struct{}) (most int) {
	there, rev := map[string]bool{}, "0"
	r := c.Registry(at)
	for {
		w, err := r.Watch(c.Context(), api.Secrets, client.ListOptions{Namespace: namespace, ResourceVersion: rev})
		if err != nil {
			c.Errorf("watch: %v", err)
			return most
		}
		stop := make(chan struct{})
		go func() {
			select {
			case <-over:
				w.Close()
			case <-stop:
			}
		}()
		for {
			events, err := w.Next(c.Context())
			if errors.Is(err, io.EOF) {
				close(stop)
				select {
				case <-over:
					return most
				default:
				}
				break
			}
			if err != nil {
				c.Errorf("watch: %v", err)
				return most
			}
			for _, e := range events {
				rev = e.Object.GetResourceVersion()
				there[e.Object.GetName()] = e.Type != watch.Deleted
				n := 0
				for _, is := range there {
					if is {
						n++
					}
				}
				most = max(most, n)
			}
		}
	}
}
