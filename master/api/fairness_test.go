package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shoalapi "shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/api"
	"shoal/master/registry"
	"shoal/master/registry/registrytest"
)

// crowded is a server with one seat, and room for little.
func crowded(t *testing.T, l api.Limits) (*api.Server, *registry.Registry, *registrytest.Log) {
	t.Helper()
	reg, log := registrytest.New(t)
	if _, err := reg.Create(t.Context(), shoalapi.Namespaces, namespace("ns"), client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return api.New(api.Config{Registry: reg, Auth: everyone{}, Limits: l}), reg, log
}

const configMaps = "/api/v1/namespaces/ns/configmaps"

func create(t *testing.T, h http.Handler, user, name string) *httptest.ResponseRecorder {
	t.Helper()
	return do(t, h, "POST", configMaps, fmt.Sprintf(`{"metadata":{"name":%q}}`, name), "Content-Type", "application/json", "Test-User", user)
}

// figure reads one of the server's own metrics.
func figure(t *testing.T, h http.Handler, name string) string {
	t.Helper()
	for line := range strings.Lines(do(t, h, "GET", "/metrics", "").Body.String()) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			return v
		}
	}
	t.Errorf("no metric %s", name)
	return ""
}

// TestWhoFloodsIsRefused: with more requests than there is room for, the one who sends most is told to come again later, as Kubernetes tells it, and
// others are served.
func TestWhoFloodsIsRefused(t *testing.T) {
	h, _, log := crowded(t, api.Limits{Writes: 4, WritesEach: 2, Present: 8})
	log.SetQuorum(false)
	answers := make(chan *httptest.ResponseRecorder, 20)
	for i := range 20 {
		go func() { answers <- create(t, h, "loud", fmt.Sprint("loud-", i)) }()
	}
	for range 12 { // 8 have room
		w := <-answers
		var st metav1.Status
		if err := json.Unmarshal(w.Body.Bytes(), &st); err != nil {
			t.Fatal(err)
		}
		if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "1" || st.Reason != metav1.StatusReasonTooManyRequests ||
			st.Message != "Too many requests, please try again later." || st.Details.RetryAfterSeconds != 1 {
			t.Fatalf("%d %v %s", w.Code, w.Header(), w.Body)
		}
	}
	if got := figure(t, h, `apiserver_flowcontrol_rejected_requests_total{priority_level="writes"}`); got != "12" {
		t.Errorf("%s are counted as refused", got)
	}
	quiet := make(chan *httptest.ResponseRecorder, 1)
	go func() {
		quiet <- do(t, h, "POST", "/api/v1/namespaces/default/configmaps", `{"metadata":{"name":"a"}}`, "Content-Type", "application/json", "Test-User", "quiet")
	}()
	if w := <-answers; w.Code != http.StatusTooManyRequests { // in whose place the quiet one is
		t.Errorf("%d %s", w.Code, w.Body)
	}
	log.SetQuorum(true)
	for range 7 {
		if w := <-answers; w.Code != http.StatusCreated {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	if w := <-quiet; w.Code == http.StatusTooManyRequests {
		t.Errorf("the quiet one: %d %s", w.Code, w.Body)
	}
}

// TestNobodyComputesWhileTheyWait: whatever requests wait for, their seat is free meanwhile; and nothing is held when they are over.
func TestNobodyComputesWhileTheyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, reg, log := crowded(t, api.Limits{Seats: 1})
		if w := create(t, h, "one", "there"); w.Code != http.StatusCreated {
			t.Fatal(w.Body)
		}
		rev := reg.Revision()
		log.SetQuorum(false)
		ctx, cancel := context.WithCancel(t.Context())
		unfinished, _ := io.Pipe()
		context.AfterFunc(ctx, func() { unfinished.CloseWithError(context.Canceled) })
		var all sync.WaitGroup
		for what, r := range map[string]struct {
			method, path string
			body         io.Reader
		}{
			"a read index":      {"GET", configMaps + "/there", nil},
			"a revision":        {"GET", configMaps + "/there?resourceVersion=1000000", nil},
			"a list's":          {"GET", configMaps, nil},
			"the log":           {"PUT", configMaps + "/there", strings.NewReader(`{"metadata":{"name":"there"},"data":{"a":"b"}}`)},
			"the log, new":      {"POST", configMaps, strings.NewReader(`{"metadata":{"name":"new"}}`)},
			"the log, no more":  {"DELETE", configMaps + "/there", nil},
			"the log, patched":  {"PATCH", configMaps + "/there", strings.NewReader(`{"data":{"a":"c"}}`)},
			"an Event's turn":   {"POST", "/api/v1/namespaces/ns/events", strings.NewReader(`{"metadata":{"name":"e"},"involvedObject":{"namespace":"ns"}}`)},
			"the rest of it":    {"POST", configMaps, unfinished},
			"changes":           {"GET", fmt.Sprint(configMaps, "?watch=1&resourceVersion=", rev), nil},
			"a watch's state":   {"GET", configMaps + "?watch=1", nil},
			"a kind to be made": {"GET", "/apis/example.org/v1/things", nil},
		} {
			all.Go(func() {
				req := httptest.NewRequestWithContext(ctx, r.method, r.path, r.body)
				req.Header.Set("Test-User", what)
				req.Header.Set("Content-Type", "application/json")
				if r.method == "PATCH" {
					req.Header.Set("Content-Type", "application/merge-patch+json")
				}
				h.ServeHTTP(httptest.NewRecorder(), req)
			})
			synctest.Wait()
			if got := figure(t, h, `apiserver_flowcontrol_current_executing_requests{priority_level="compute"}`); got != "0" {
				t.Errorf("who waits for %s has a seat", what)
			}
			if w := do(t, h, "GET", configMaps+"/there?resourceVersion=0", "", "Test-User", "other"); w.Code != http.StatusOK {
				t.Errorf("while one waits for %s: %d %s", what, w.Code, w.Body)
			}
		}
		cancel()
		log.SetQuorum(true)
		all.Wait()
		for _, level := range []string{"compute", "reads", "writes", "large"} {
			for _, name := range []string{"executing", "inqueue"} {
				if got := figure(t, h, fmt.Sprintf("apiserver_flowcontrol_current_%s_requests{priority_level=%q}", name, level)); got != "0" {
					t.Errorf("%s are %s, %s", got, name, level)
				}
			}
		}
	})
}

// TestAForwardedRequestCountsForItsUser: a user who floods one follower has no more of the Master for it, whichever peer others ask.
func TestAForwardedRequestCountsForItsUser(t *testing.T) {
	h, _, log := crowded(t, api.Limits{Writes: 8, WritesEach: 2})
	log.SetQuorum(false)
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			do(t, h, "POST", configMaps, fmt.Sprintf(`{"metadata":{"name":"a%d"}}`, i), "Content-Type", "application/json",
				"X-Shoal-Forwarded", "1", "X-Shoal-User", "loud", "X-Shoal-Groups", "system:authenticated")
		})
	}
	for figure(t, h, `apiserver_flowcontrol_current_inqueue_requests{priority_level="writes"}`) != "8" {
		runtime.Gosched()
	}
	if got := figure(t, h, `apiserver_flowcontrol_current_executing_requests{priority_level="writes"}`); got != "2" {
		t.Errorf("%s are under way", got)
	}
	log.SetQuorum(true)
	all.Wait()
}

// TestSomeNeverWait: administrators, machines and who asks whether this peer is well, though all seats are taken and there is no room.
func TestSomeNeverWait(t *testing.T) {
	h, _, log := crowded(t, api.Limits{Seats: 1, Writes: 1, Present: 1})
	log.SetQuorum(false)
	done := make(chan int, 1)
	go func() { done <- create(t, h, "loud", "a").Code }()
	for figure(t, h, `apiserver_flowcontrol_current_executing_requests{priority_level="writes"}`) != "1" {
		runtime.Gosched()
	}
	const get = configMaps + "/none?resourceVersion=0"
	for _, c := range []struct {
		path string
		want int
		as   []string
	}{
		{get, http.StatusNotFound, []string{"X-Shoal-User", "root", "X-Shoal-Groups", "system:masters"}},
		{get, http.StatusNotFound, []string{"X-Shoal-User", "system:node:a", "X-Shoal-Groups", "system:nodes"}},
		{"/livez", http.StatusOK, []string{"Test-User", "loud"}},
		{"/readyz/ping", http.StatusOK, []string{"Test-User", "loud"}},
	} {
		if w := do(t, h, "GET", c.path, "", c.as...); w.Code != c.want {
			t.Errorf("%s as %v: %d %s", c.path, c.as, w.Code, w.Body)
		}
	}
	if w := create(t, h, "other", "b"); w.Code != http.StatusTooManyRequests { // the room is for one
		t.Errorf("%d %s", w.Code, w.Body)
	}
	log.SetQuorum(true)
	if code := <-done; code != http.StatusCreated {
		t.Error(code)
	}
}

// TestWatchesOfOneUserAreBounded, and of others too, each for themselves.
func TestWatchesOfOneUserAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _, _ := crowded(t, api.Limits{Seats: 1, Present: 1, LastingEach: 2})
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		watch := func(ctx context.Context, user string) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			all.Go(func() {
				r := httptest.NewRequestWithContext(ctx, "GET", configMaps+"?watch=1", nil)
				r.Header.Set("Test-User", user)
				h.ServeHTTP(w, r)
			})
			synctest.Wait()
			return w
		}
		for _, c := range []struct {
			user string
			want int
		}{{"a", 200}, {"a", 200}, {"a", 429}, {"system:serviceaccount:ns:x", 200}, {"system:serviceaccount:ns:y", 200}, {"system:serviceaccount:ns:z", 429}, {"b", 200}} {
			if w := watch(ctx, c.user); w.Code != c.want {
				t.Errorf("%s: %d %s", c.user, w.Code, w.Body)
			}
		}
		if w := create(t, h, "a", "news"); w.Code != http.StatusCreated { // they do not count as present
			t.Errorf("%d %s", w.Code, w.Body)
		}
		cancel()
		all.Wait()
		ctx, cancel = context.WithCancel(t.Context())
		if w := watch(ctx, "a"); w.Code != http.StatusOK {
			t.Errorf("after they ended: %d %s", w.Code, w.Body)
		}
		cancel()
		all.Wait()
	})
}

// TestALongListLetsOthersIn: while one user's list of many objects is encoded, sent and compressed, another one's requests are answered, and a third
// list of the first waits for room.
func TestALongListLetsOthersIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, reg, _ := crowded(t, api.Limits{Seats: 1, LargeEach: 2})
		for i := range 1000 {
			if _, err := reg.Create(t.Context(), shoalapi.ConfigMaps, configMap(fmt.Sprint("a", i)), client.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for _, encoding := range []string{"gzip", "", "gzip"} { // to clients that take nothing
			all.Go(func() {
				r := httptest.NewRequestWithContext(ctx, "GET", configMaps+"?resourceVersion=0", nil)
				r.Header.Set("Test-User", "loud")
				r.Header.Set("Accept-Encoding", encoding)
				h.ServeHTTP(&pipe{http.Header{}, make(chan string), ctx.Done()}, r)
			})
			synctest.Wait()
		}
		if got := figure(t, h, `apiserver_flowcontrol_current_executing_requests{priority_level="large"}`); got != "2" {
			t.Errorf("%s large answers are under way", got)
		}
		if w := do(t, h, "GET", configMaps+"/a1", "", "Test-User", "quiet"); w.Code != http.StatusOK {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		cancel()
		all.Wait()
	})
}

// TestAQueueIsNoLostQuorum: who waits long for a turn after the newest revision is known reads what is newest, and nobody takes it for a log that does not
// answer.
func TestAQueueIsNoLostQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := registrytest.NewLog()
		c := registrytest.Config(log)
		c.Admit = func(_ context.Context, a *registry.Admission) error {
			if a.Key.Name == "long" {
				time.Sleep(2 * time.Minute) // stands for work
			}
			return nil
		}
		h := api.New(api.Config{Registry: registrytest.Start(t, c), Auth: everyone{}, Limits: api.Limits{Seats: 1}})
		var all sync.WaitGroup
		log.SetQuorum(false)
		all.Go(func() {
			w := do(t, h, "GET", configMaps, "", "Test-User", "one")
			if w.Code != http.StatusOK || w.Header().Get("Warning") != "" {
				t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
			}
		})
		synctest.Wait()
		all.Go(func() { create(t, h, "other", "long") })
		synctest.Wait()
		log.SetQuorum(true)
		all.Wait()
	})
}
