package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// relay passes bytes on to a server until it goes dark, as a machine does that loses its power: then nobody hears anything any more.
type relay struct {
	net.Listener
	to   string
	dark atomic.Bool
}

func (r *relay) serve() {
	for {
		in, err := r.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", r.to)
		if err != nil {
			_ = in.Close()
			continue
		}
		pass := func(to, from net.Conn) {
			buf := make([]byte, 32<<10)
			for {
				n, err := from.Read(buf)
				if err != nil {
					_ = to.Close()
					return
				}
				if !r.dark.Load() {
					_, _ = to.Write(buf[:n])
				}
			}
		}
		go pass(out, in)
		go pass(in, out)
	}
}

// TestAWatchGoesOnAtAnotherPeer when the machine of the first loses its power in the middle of it.
func TestAWatchGoesOnAtAnotherPeer(t *testing.T) {
	defer func(d time.Duration) { silence = d }(silence)
	silence = 100 * time.Millisecond
	var first, second *relay
	var order sync.Mutex
	var asked []string
	row := func(event, name string, rev int) string {
		return fmt.Sprintf(`{"type":%q,"object":{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"%d"},"columnDefinitions":[{"name":"Name"}],"rows":[{"cells":[%q],"object":{"metadata":{"name":%q,"resourceVersion":"%d"}}}]}}`+"\n", event, rev, name, name, rev)
	}
	peer := func(name string, watch func(w http.ResponseWriter, r *http.Request)) *relay {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if r.URL.Query().Get("watch") == "" {
				_, _ = io.WriteString(w, `{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"5"},"columnDefinitions":[{"name":"Name"}],"rows":[]}`)
				return
			}
			order.Lock()
			asked = append(asked, name+" from "+r.URL.Query().Get("resourceVersion"))
			order.Unlock()
			watch(w, r)
		}))
		s.EnableHTTP2 = true
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.StartTLS()
		t.Cleanup(s.Close)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		r := &relay{Listener: l, to: s.Listener.Addr().String()}
		go r.serve()
		return r
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	first = peer("first", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, row("ADDED", "a", 6))
		w.(http.Flusher).Flush()
		<-ctx.Done()
	})
	second = peer("second", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, row("ADDED", "b", 7))
		w.(http.Flusher).Flush()
		<-ctx.Done()
	})
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: %q, insecure-skip-tls-verify: true}}]\ncontexts: [{name: a, context: {cluster: a, user: u}}]\ncurrent-context: a\nusers: [{name: u}]\n", "https://"+first.Addr().String())
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out := &until{then: map[string]func(){
		"a": func() {
			first.dark.Store(true)
			_ = first.Close()
		},
		"b": cancel,
	}}
	code := run(ctx, []string{
		"--kubeconfig", file, "--peer", "https://" + first.Addr().String() + ",https://" + second.Addr().String(), "get", "pods", "-w",
	}, streams{in: strings.NewReader(""), out: out, err: out})
	order.Lock()
	defer order.Unlock()
	if got := strings.Join(asked, ", "); got != "first from 5, second from 6" || !strings.Contains(out.String(), "b") {
		t.Errorf("code %d, asked %s:\n%s", code, got, out.String())
	}
}

// until collects what is written, and does something at the first line that is a text.
type until struct {
	mu   sync.Mutex
	all  strings.Builder
	then map[string]func()
}

func (u *until) Write(b []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.all.Write(b)
	for line := range strings.Lines(u.all.String()) {
		if f := u.then[strings.TrimSpace(line)]; f != nil {
			delete(u.then, strings.TrimSpace(line))
			f()
		}
	}
	return len(b), nil
}

func (u *until) String() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.all.String()
}
