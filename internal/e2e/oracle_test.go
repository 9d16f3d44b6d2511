//go:build e2e

package e2e

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"shoal/internal/config"
	"shoal/internal/e2e/oracle"
)

// TestOracle replays at a follower what a real API server answered to 1555 requests. Each answer is the same, or differs for a
// reason that oracle/known.go gives; the newest Kubernetes has the last word there.
func TestOracle(t *testing.T) {
	c := startLab(t, 3)
	// As it was where it was recorded: no controller but the API's own wrote to the objects.
	without := strings.Join(slices.DeleteFunc(config.Controllers(), func(name string) bool {
		return name == "replication-controller" || name == "resourcequota-controller"
	}), `", "`)
	c.configure(t, "[timeouts]\neviction_grace = \"5m\"\n[master]\nwithout = [\""+without+"\"]\n")
	cfg := restConfig(t, c.others(master(t))[0])
	cordonAll(t, cfg)                           // nothing was scheduled where it was recorded
	shoal(t, "delete", "storageclass", "local") // nor was there a class
	sequences, err := oracle.Sequences()
	if err != nil {
		t.Fatal(err)
	}
	server := oracleServer(t, cfg)
	var mu sync.Mutex
	total, same, newer, explained := 0, 0, 0, map[string]int{}
	var g errgroup.Group
	g.SetLimit(12)                                 // most of the time somebody waits for a watch to end
	for i, s := range slices.Backward(sequences) { // the longest is near the end
		g.Go(func() error {
			return server.Replay(t.Context(), fmt.Sprintf("o-%d", i+1), s, func(r oracle.Result) {
				mu.Lock()
				defer mu.Unlock()
				total++
				listed, own := false, false
				for _, d := range r.Differences {
					why := oracle.Explain(r.Case, d)
					if why == "" {
						t.Errorf("%s: %s %s", r.ID, d, r.Got.Message)
					}
					explained[why]++
					listed, own = listed || why == oracle.Reason(r.Case), own || oracle.Own(why)
				}
				switch {
				case len(r.Differences) == 0:
					same++
				case !own:
					newer++
				}
				if !listed && oracle.Reason(r.Case) != "" && !oracle.Racy(r.Case) {
					t.Errorf("%s is listed, but it agrees: %s", r.ID, oracle.Reason(r.Case))
				}
			})
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d cases: %d answered as recorded, %d as newer versions or in another cluster, %d in Shoal's own way", total, same, newer, total-same-newer)
	for _, why := range slices.SortedFunc(maps.Keys(explained), func(a, b string) int { return explained[b] - explained[a] }) {
		t.Logf("%5d  %s", explained[why], why)
	}
}

func cordonAll(t *testing.T, cfg *rest.Config) {
	t.Helper()
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := c.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes.Items {
		if _, err := c.CoreV1().Nodes().Patch(t.Context(), n.Name, types.MergePatchType, []byte(`{"spec":{"unschedulable":true}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// oracleServer talks HTTP/1.1, as it was recorded.
func oracleServer(t *testing.T, cfg *rest.Config) *oracle.Server {
	t.Helper()
	admin, err := rest.TLSConfigFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	anyone := admin.Clone()
	anyone.Certificates, anyone.GetClientCertificate = nil, nil
	u, err := url.Parse(cfg.Host)
	if err != nil {
		t.Fatal(err)
	}
	transport := func(c *tls.Config) *http.Transport {
		tr := &http.Transport{TLSClientConfig: c, DisableCompression: true}
		t.Cleanup(tr.CloseIdleConnections)
		return tr
	}
	return &oracle.Server{Host: u.Host, Admin: transport(admin), Anyone: transport(anyone)}
}
