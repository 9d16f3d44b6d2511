//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"shoal/internal/testcluster/linear"
)

// TestHistoriesThroughTheAPI has clients create, change, delete and read ConfigMaps at random peers, and watchers follow them from peer to
// peer, while processes are killed and frozen, machines lose their power, and links are cut. Then it judges what the clients saw, compares
// what the watchers saw, and the peers' whole states; and containers on machines that kept their power and their link must be the same as before.
// CHAOS_TIME makes it go on for so long, from the seed CHAOS_SEED on.
func TestHistoriesThroughTheAPI(t *testing.T) {
	seed, span := linear.Chaos(t, 0.52)
	c := startLab(t, 3)
	apply(t, web(6))
	for began := time.Now(); ; seed++ {
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) { c.chaos(t, seed) }) || time.Since(began) >= span {
			return
		}
	}
}

// chaos makes and judges one history of about half a minute.
func (c *cluster) chaos(t *testing.T, seed int64) {
	space := fmt.Sprintf("chaos-%d", seed)
	shoal(t, "create", "namespace", space)
	running(t, c.api, "web", 6, 60*time.Second)
	before := map[string][]string{}
	for _, name := range c.names {
		before[name] = containers(t, c, name)
	}
	h := &apiHistory{c: c, url: "/api/v1/namespaces/" + space + "/configmaps"}
	for _, name := range c.names {
		cfg := restConfig(t, name)
		hc, err := rest.HTTPClientFor(cfg)
		must(t, err)
		h.at = append(h.at, &apiAt{name, cfg.Host, hc})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	began := h.at[0].revision(t, h.url)
	var clients, watchers sync.WaitGroup
	for i := range 4 {
		rng := rand.New(rand.NewSource(seed<<8 + int64(i)))
		clients.Go(func() { h.client(ctx, i, rng) })
	}
	following, unfollow := context.WithCancel(t.Context())
	defer unfollow()
	seen := make([]*sighting, 3)
	for i := range seen {
		seen[i] = &sighting{after: began}
		rng := rand.New(rand.NewSource(seed<<8 + 100 + int64(i)))
		watchers.Go(func() { seen[i].follow(following, h, rng) })
	}
	moved := c.torment(t, rand.New(rand.NewSource(seed)))
	cancel()
	clients.Wait()
	c.agree(t, h)
	last := h.last(t)
	for i, s := range seen {
		within(t, 30*time.Second, fmt.Sprintf("watcher %d sees the end", i), func(context.Context) error {
			if at := s.reached(); at < last {
				return fmt.Errorf("it is at %d of %d", at, last)
			}
			return nil
		})
	}
	unfollow()
	watchers.Wait()
	h.Judge(t, 100)
	compareSightings(t, seen, h)
	running(t, c.api, "web", 6, 60*time.Second)
	for _, name := range c.names {
		after := containers(t, c, name)
		for _, one := range before[name] {
			if !moved[name] && !slices.Contains(after, one) {
				t.Errorf("%s kept its power and its link, and no longer runs %s", name, one)
			}
		}
	}
	shoal(t, "delete", "namespace", space)
}

// torment does one bad thing after the other, and mends each. It returns the machines whose pods had reason to move.
func (c *cluster) torment(t *testing.T, rng *rand.Rand) (moved map[string]bool) {
	moved = map[string]bool{}
	pause := func(least, most time.Duration) { <-time.After(least + time.Duration(rng.Int63n(int64(most-least)))) }
	deeds := rng.Perm(7)
	pause(time.Second, 2*time.Second)
	for _, deed := range deeds {
		victim := c.names[rng.Intn(len(c.names))]
		if rng.Intn(2) == 0 {
			if m := leader(t); m != "" {
				victim = m
			}
		}
		t.Logf("deed %d to %s", deed, victim)
		switch deed {
		case 0:
			shoal(t, "lab", "kill", "--process", victim)
			pause(0, 2*time.Second)
			shoal(t, "lab", "start", victim)
		case 1:
			shoal(t, "lab", "freeze", victim)
			pause(time.Second, 5*time.Second)
			shoal(t, "lab", "thaw", victim)
		case 2:
			moved[victim] = true
			shoal(t, "lab", "kill", victim)
			pause(time.Second, 3*time.Second)
			shoal(t, "lab", "start", victim)
		case 3:
			moved[victim] = true
			shoal(t, "lab", "partition", victim+"/"+strings.Join(c.others(victim), ","))
			pause(2*time.Second, 6*time.Second)
			shoal(t, "lab", "heal")
		case 4:
			shoal(t, "lab", "stop", victim)
			shoal(t, "lab", "start", victim)
		case 5: // what the peers say to one another on the API's port, Raft among it, but not gossip
			deaf(t, victim, "tcp", "6443", func() { pause(2*time.Second, 5*time.Second) })
		case 6: // gossip alone
			deaf(t, victim, "udp", "7946", func() { pause(2*time.Second, 5*time.Second) })
		}
		pause(500*time.Millisecond, 1500*time.Millisecond)
	}
	return moved
}

// deaf drops what a machine's neighbours send to one of its ports: they hear it, and it does not hear them.
func deaf(t *testing.T, victim, proto, port string, meanwhile func()) {
	t.Helper()
	rule := []string{"INPUT", "-i", "eth0", "-p", proto, "--dport", port, "-m", "iprange", "--src-range", "10.99.77.11-10.99.77.19", "-j", "DROP"}
	shoal(t, append([]string{"lab", "exec", victim, "--", "iptables", "-w", "-I"}, rule...)...)
	meanwhile()
	shoal(t, append([]string{"lab", "exec", victim, "--", "iptables", "-w", "-D"}, rule...)...)
}

// leader returns the Master's name, or nothing when there is none just now.
func leader(t *testing.T) string {
	for _, p := range status(t).Peers {
		if p.Role == "master" {
			return p.Name
		}
	}
	return ""
}

// agree waits until all peers are ready and have the same state, whole.
func (c *cluster) agree(t *testing.T, h *apiHistory) {
	t.Helper()
	within(t, 60*time.Second, "all peers agree", func(ctx context.Context) error {
		var first []byte
		for _, p := range h.at {
			code, body, err := p.do(ctx, http.MethodGet, "/shoal/v1/backup?stale=true", nil)
			if err != nil || code != http.StatusOK {
				return fmt.Errorf("%s: %d %w", p.name, code, err)
			}
			_, state, _ := bytes.Cut(body, []byte("\n"))
			if first == nil {
				first = state
			}
			if !bytes.Equal(first, state) {
				return fmt.Errorf("%s differs from %s", p.name, h.at[0].name)
			}
		}
		return nil
	})
}

// apiAt speaks with one peer and no other, and tries nothing again.
type apiAt struct {
	name, host string
	client     *http.Client
}

func (a *apiAt) do(ctx context.Context, method, url string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.host+url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	if resp.Header.Get("Warning") != "" && method == http.MethodGet {
		return 0, nil, errNotYet // without a quorum: what it knows, and no more
	}
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}
