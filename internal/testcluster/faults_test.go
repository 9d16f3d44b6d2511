package testcluster_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/testcluster"
)

// placed is which pods run where.
func placed(pods []*corev1.Pod) map[types.UID]string {
	out := map[types.UID]string{}
	for _, p := range pods {
		out[p.UID] = p.Spec.NodeName + " " + p.Status.PodIP
	}
	return out
}

func TestEverythingComesBackFromDisk(t *testing.T) {
	for _, how := range []string{"stopped", "killed"} {
		t.Run(how, func(t *testing.T) {
			inCluster(t, 3, testcluster.Options{EvictionGrace: time.Minute}, func(c *cluster) {
				c.nodes()
				first := c.Names()[0]
				c.create(first, api.Services, newService("web"))
				c.create(first, api.ReplicationControllers, newController("web", 6))
				c.run(first, "web", 6)
				c.Sync()
				rev := c.Registry(first).Revision()
				before := placed(list[*corev1.Pod](c, first, api.Pods, "default"))
				ip := list[*corev1.Service](c, first, api.Services, "default")[0].Spec.ClusterIP
				names := c.Names()
				if how == "stopped" {
					c.Stop(names...)
				} else {
					c.Kill(names...)
				}
				c.Restart(names...)
				c.Sync() // the very last entry may be known to be committed only once there is a Master
				for _, at := range names {
					c.run(at, "web", 6)
					if got := c.Registry(at).Revision(); got < rev {
						c.Errorf("%s is at revision %d, it was at %d", at, got, rev)
					}
				}
				after := placed(list[*corev1.Pod](c, first, api.Pods, "default"))
				for uid, where := range before {
					if after[uid] != where {
						c.Errorf("pod %s at %q is now at %q", uid, where, after[uid])
					}
				}
				if got := list[*corev1.Service](c, first, api.Services, "default")[0].Spec.ClusterIP; got != ip {
					c.Errorf("the Service's address was %s and is %s", ip, got)
				}
				c.scale(names[1], "web", 9)
				c.run(names[2], "web", 9)
			})
		})
	}
}

// TestAMasterKilledWhileItScales kills the Master at different moments of a scale up, by the revisions that pass.
func TestAMasterKilledWhileItScales(t *testing.T) {
	for _, after := range []uint64{1, 2, 8, 20, 40} {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			inCluster(t, 3, testcluster.Options{}, func(c *cluster) {
				c.nodes()
				master := c.Master()
				at := c.others(master)[0]
				c.create(at, api.Services, newService("web"))
				c.create(at, api.ReplicationControllers, newController("web", 2))
				c.run(at, "web", 2)
				c.Sync()
				rev := c.Registry(master).Revision()
				c.scale(at, "web", 20)
				c.WaitRev(rev+after, master)
				c.Kill(master)
				c.run(at, "web", 20)
				for _, p := range list[*corev1.Pod](c, at, api.Pods, "default") {
					if p.Spec.NodeName == master {
						c.Errorf("%s runs on the machine that is gone", p.Name)
					}
				}
				c.Restart(master)
				c.nodes()
				c.scale(master, "web", 21)
				c.run(master, "web", 21)
			})
		})
	}
}

// do sends a raw request and returns how long the answer took.
func (c *cluster) do(cl *client.HTTP, method, path, body string) (*http.Response, string, time.Duration) {
	c.Helper()
	began := time.Now()
	resp, err := cl.Do(c.Context(), method, path, url.Values{}, http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json"},
	}, []byte(body))
	if err != nil {
		c.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.Fatalf("%s %s: %v", method, path, err)
	}
	return resp, string(b), time.Since(began)
}

const configMaps = "/api/v1/namespaces/default/configmaps"

func TestAMinorityReadsWithAWarningAndRefusesWrites(t *testing.T) {
	for _, who := range []string{"master", "follower"} {
		t.Run(who, func(t *testing.T) {
			inCluster(t, 3, testcluster.Options{NoNodes: true}, func(c *cluster) {
				master := c.Master()
				c.create(master, api.ConfigMaps, newConfigMap("a", "old"))
				c.Sync()
				alone := master
				if who == "follower" {
					alone = c.others(master)[0]
				}
				cl := c.Client(alone)
				c.Isolate(alone)
				for i, bound := range []time.Duration{6 * time.Second, time.Second} {
					resp, body, took := c.do(cl, http.MethodGet, configMaps+"/a", "")
					if resp.StatusCode != http.StatusOK || !strings.Contains(body, "old") || resp.Header.Get("Warning") == "" || took > bound {
						c.Errorf("read %d after %v: %s, warning %q: %s", i, took, resp.Status, resp.Header.Get("Warning"), body)
					}
				}
				resp, body, took := c.do(cl, http.MethodPost, configMaps, `{"metadata":{"name":"b"}}`)
				if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || took > 10*time.Second {
					c.Errorf("write after %v: %s, retry after %q: %s", took, resp.Status, resp.Header.Get("Retry-After"), body)
				}
				if m := c.Master(); m == alone {
					c.Fatalf("%s is still the Master", m)
				}
				other := c.others(alone)[0]
				c.create(other, api.ConfigMaps, newConfigMap("c", "new"))
				if resp, body, _ := c.do(cl, http.MethodGet, configMaps+"/c", ""); resp.StatusCode != http.StatusNotFound || resp.Header.Get("Warning") == "" {
					c.Errorf("read of what it cannot know: %s: %s", resp.Status, body)
				}
				c.Heal()
				c.Sync()
				if resp, body, _ := c.do(cl, http.MethodGet, configMaps+"/c", ""); resp.StatusCode != http.StatusOK || resp.Header.Get("Warning") != "" {
					c.Errorf("read after healing: %s, warning %q: %s", resp.Status, resp.Header.Get("Warning"), body)
				}
			})
		})
	}
}

func TestAnIsolatedMasterStopsActing(t *testing.T) {
	inCluster(t, 3, testcluster.Options{}, func(c *cluster) {
		c.nodes()
		old := c.Master()
		at := c.others(old)[0]
		c.create(at, api.Services, newService("web"))
		c.create(at, api.ReplicationControllers, newController("web", 6))
		c.run(at, "web", 6)
		term := c.Peer(old).Leading()
		c.Isolate(old)
		c.Until("the old Master's work has ended", func() bool { return c.Peer(old).Leading() == 0 })
		c.Until("another Master works", func() bool {
			m := c.Master()
			return m != old && c.Peer(m).Leading() > term
		})
		c.run(at, "web", 6) // what was on the old Master's machine has moved
		c.scale(at, "web", 8)
		c.run(at, "web", 8)
		c.Heal()
		c.nodes()
		c.run(old, "web", 8)
	})
}

// TestReadYourWritesAtEveryPeer writes at one peer and reads at another, while leadership moves.
func TestReadYourWritesAtEveryPeer(t *testing.T) {
	inCluster(t, 3, testcluster.Options{NoNodes: true, Seed: 1}, func(c *cluster) {
		names := c.Names()
		clients := map[string]*client.HTTP{}
		for _, n := range names {
			clients[n] = c.Client(n)
		}
		key := client.Key{Namespace: "default", Name: "a"}
		c.create(names[0], api.ConfigMaps, newConfigMap("a", "start"))
		last, accepted := "", 0
		for i := range 150 {
			if i%25 == 24 {
				c.MoveMaster()
			}
			w, r := names[i%3], names[(i/3)%3]
			value := fmt.Sprint(i)
			ctx, cancel := context.WithTimeout(c.Context(), 20*time.Second)
			o, err := clients[w].Patch(ctx, api.ConfigMaps, key, client.Patch{
				Type: types.MergePatchType, Data: fmt.Appendf(nil, `{"data":{"v":%q}}`, value),
			}, client.PatchOptions{})
			if err == nil {
				last = o.(*corev1.ConfigMap).Data["v"]
				accepted++
				// Where it was written, even a read of whatever is there shows it.
				got, err := clients[w].Get(ctx, api.ConfigMaps, key, client.GetOptions{ResourceVersion: "0"})
				if err != nil || got.(*corev1.ConfigMap).Data["v"] != value {
					c.Errorf("%s has not what it acknowledged itself: %v, %v", w, got, err)
				}
			} else if code := status(err); code != http.StatusServiceUnavailable && code != http.StatusGatewayTimeout {
				c.Fatalf("write %d at %s: %v", i, w, err)
			}
			got, err := clients[r].Get(ctx, api.ConfigMaps, key, client.GetOptions{})
			if err != nil {
				c.Fatalf("read %d at %s: %v", i, r, err)
			}
			if v := got.(*corev1.ConfigMap).Data["v"]; v != last && v != value {
				c.Errorf("%s has %q after %q was acknowledged at %s", r, v, last, w)
			}
			cancel()
		}
		if accepted < 120 {
			c.Errorf("only %d writes were accepted", accepted)
		}
	})
}
