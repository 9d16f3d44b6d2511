//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"
)

// sighting is what one watcher saw. It goes on at another peer wherever a watch ends, from the last revision it heard of.
type sighting struct {
	mu    sync.Mutex
	after uint64 // the last revision, of a change or of a bookmark
	seen  []change
	wrong []string
}

// change is one event of a watch.
type change struct {
	rev  uint64
	what string
}

func (s *sighting) reached() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.after
}

func (s *sighting) follow(ctx context.Context, h *apiHistory, rng *rand.Rand) {
	for ctx.Err() == nil {
		at := h.at[rng.Intn(len(h.at))]
		one, cancel := context.WithTimeout(ctx, time.Second+time.Duration(rng.Int63n(int64(3*time.Second))))
		s.watch(one, at, h.url)
		cancel()
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// watch takes the events of one connection.
func (s *sighting) watch(ctx context.Context, at *apiAt, url string) {
	url += fmt.Sprintf("?watch=true&allowWatchBookmarks=true&timeoutSeconds=2&resourceVersion=%d", s.reached())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.host+url, nil)
	if err != nil {
		return
	}
	resp, err := at.client.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return // a peer that is behind, or not ready: ask another one
	}
	in := json.NewDecoder(resp.Body)
	for {
		var e struct {
			Type   string
			Object register
		}
		if in.Decode(&e) != nil {
			return
		}
		s.take(at.name, e.Type, &e.Object)
	}
}

func (s *sighting) take(at, what string, r *register) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rev := r.rev()
	switch {
	case what == "ERROR":
		s.wrong = append(s.wrong, at+" ended the watch: its revision is forgotten")
		return
	case what == "BOOKMARK":
		if rev < s.after {
			s.wrong = append(s.wrong, fmt.Sprintf("%s: a bookmark of %d after %d", at, rev, s.after))
		}
		s.after = max(s.after, rev)
		return
	case rev <= s.after:
		s.wrong = append(s.wrong, fmt.Sprintf("%s: %s %s at %d, after %d", at, what, r.Name, rev, s.after))
	}
	s.after = max(s.after, rev)
	s.seen = append(s.seen, change{rev, what + " " + r.Name + "=" + r.value()})
}

// compareSightings: all watchers saw the same, each change once and in order, and every write that was acknowledged.
func compareSightings(t *testing.T, all []*sighting, h *apiHistory) {
	t.Helper()
	for i, s := range all {
		for _, w := range s.wrong {
			t.Errorf("watcher %d: %s", i, w)
		}
		first := all[0].seen
		for j := range max(len(first), len(s.seen)) {
			if j >= len(first) || j >= len(s.seen) || first[j] != s.seen[j] {
				t.Errorf("watchers 0 and %d differ at their change %d: %v and %v", i, j, first[min(j, len(first)):min(j+2, len(first))], s.seen[min(j, len(s.seen)):min(j+2, len(s.seen))])
				break
			}
		}
	}
	shown := map[uint64]string{}
	for _, c := range all[0].seen {
		shown[c.rev] = c.what
	}
	for rev, what := range h.acked {
		if got := shown[rev]; got != "ADDED "+what && got != "MODIFIED "+what {
			t.Errorf("%s was acknowledged at revision %s, where the watchers saw %q", what, strconv.FormatUint(rev, 10), got)
		}
	}
	t.Logf("%d changes, %d of them acknowledged to a client, were seen by each of %d watchers", len(all[0].seen), len(h.acked), len(all))
}
