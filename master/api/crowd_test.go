package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"

	shoalapi "shoal/internal/api"
	"shoal/internal/client"
)

// TestAThousandPatchesOfOneObject: each is done, or told that it was not.
func TestAThousandPatchesOfOneObject(t *testing.T) {
	h, reg := server(t)
	if _, err := reg.Create(t.Context(), shoalapi.Namespaces, namespace("ns"), client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	do(t, h, http.MethodPost, "/api/v1/namespaces/ns/configmaps", `{"metadata":{"name":"a"}}`, "Content-Type", "application/json")
	const n = 1000
	var done [n]bool
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			w := do(t, h, http.MethodPatch, "/api/v1/namespaces/ns/configmaps/a", fmt.Sprintf(`{"data":{"k%d":"v"}}`, i), "Content-Type", "application/merge-patch+json")
			switch w.Code {
			case http.StatusOK:
				done[i] = true
			case http.StatusConflict:
			default:
				t.Errorf("patch %d: %d %s", i, w.Code, w.Body)
			}
		})
	}
	all.Wait()
	o, err := reg.Get(t.Context(), shoalapi.ConfigMaps, client.Key{Namespace: "ns", Name: "a"}, client.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	data, succeeded := o.(*corev1.ConfigMap).Data, 0
	for i, ok := range done {
		if _, there := data[fmt.Sprintf("k%d", i)]; there != ok {
			t.Errorf("patch %d: succeeded is %v, there is %v", i, ok, there)
		}
		if ok {
			succeeded++
		}
	}
	if succeeded == 0 {
		t.Error("none succeeded")
	}
	t.Logf("%d of %d succeeded", succeeded, n)
}

// pipe is what a client reads from, or not: each Write waits until somebody takes it.
type pipe struct {
	header http.Header
	out    chan string
	done   <-chan struct{}
}

func (p *pipe) Header() http.Header { return p.header }
func (p *pipe) WriteHeader(int)     {}
func (p *pipe) Flush()              {}

func (p *pipe) Write(b []byte) (int, error) {
	select {
	case p.out <- string(b):
		return len(b), nil
	case <-p.done:
		return 0, context.Canceled
	}
}

// TestTenThousandIdleWatches: what they hold is bounded, they all hear of a change, and nothing is left of them.
func TestTenThousandIdleWatches(t *testing.T) {
	h, reg := server(t)
	if _, err := reg.Create(t.Context(), shoalapi.Namespaces, namespace("ns"), client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const n = 10_000
	before, goroutines := memory(), runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var heard, begun, ended sync.WaitGroup
	heard.Add(n)
	begun.Add(n)
	for range n {
		p := &pipe{http.Header{}, make(chan string), ctx.Done()}
		ended.Go(func() {
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/namespaces/ns/configmaps?watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan", nil)
			h.ServeHTTP(p, r)
		})
		ended.Go(func() {
			started, found := sync.OnceFunc(begun.Done), sync.OnceFunc(heard.Done)
			for {
				select {
				case s := <-p.out:
					if strings.Contains(s, "initial-events-end") {
						started()
					}
					if strings.Contains(s, `"name":"news"`) {
						found()
					}
				case <-ctx.Done():
					return
				}
			}
		})
	}
	begun.Wait()
	each := int64(memory()-before) / n
	t.Logf("%d bytes for each watch and its reader", each)
	if each > 64<<10 {
		t.Errorf("a watch holds %d bytes", each)
	}
	do(t, h, http.MethodPost, "/api/v1/namespaces/ns/configmaps", `{"metadata":{"name":"news"}}`, "Content-Type", "application/json")
	heard.Wait()
	cancel()
	ended.Wait()
	if left := runtime.NumGoroutine(); left > goroutines+20 {
		t.Errorf("%d goroutines are left", left-goroutines)
	}
}

func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// TestASlowReaderHoldsNobodyUp: while one watch takes nothing, the others hear of everything. When it reads on it gets every event, or is
// told that some are gone.
func TestASlowReaderHoldsNobodyUp(t *testing.T) {
	h, reg := server(t)
	if _, err := reg.Create(t.Context(), shoalapi.Namespaces, namespace("ns"), client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const path, n = "/api/v1/namespaces/ns/configmaps?watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan", 1000
	var ended sync.WaitGroup
	watch := func() *pipe {
		p := &pipe{http.Header{}, make(chan string), ctx.Done()}
		ended.Go(func() { h.ServeHTTP(p, httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil)) })
		for !strings.Contains(<-p.out, "initial-events-end") {
		}
		return p
	}
	slow, quick := watch(), watch()
	ended.Go(func() {
		for i := range n {
			body := fmt.Sprintf(`{"metadata":{"name":"n%d"},"data":{"v":%q}}`, i, strings.Repeat("x", 10<<10))
			if w := do(t, h, http.MethodPost, "/api/v1/namespaces/ns/configmaps", body, "Content-Type", "application/json"); w.Code != http.StatusCreated {
				t.Errorf("create %d: %d %s", i, w.Code, w.Body)
			}
		}
	})
	events := func(p *pipe) (names int) {
		for names < n {
			s := <-p.out
			if strings.Contains(s, `"type":"ERROR"`) {
				return -1
			}
			names += strings.Count(s, `"type":"ADDED"`)
		}
		return names
	}
	if got := events(quick); got != n {
		t.Errorf("the quick one heard of %d", got)
	}
	if got := events(slow); got != n && got != -1 {
		t.Errorf("the slow one heard of %d", got)
	}
	cancel()
	ended.Wait()
}
