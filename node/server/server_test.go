package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"

	"shoal/node/runtime"
	"shoal/node/runtime/fake"
)

// onePod is a node with one pod, default/p, whose container c runs.
type onePod struct {
	dir string
	pod *corev1.Pod
	rt  *fake.Runtime

	mu      sync.Mutex
	changed chan struct{}
}

func (o *onePod) Find(namespace, name string) (*corev1.Pod, bool) {
	return o.pod, namespace == o.pod.Namespace && name == o.pod.Name
}
func (o *onePod) List() []*corev1.Pod { return []*corev1.Pod{o.pod} }

func (o *onePod) Containers(uid types.UID) ([]runtime.Container, runtime.Sandbox, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	all, err := o.rt.Pods(context.Background())
	if err != nil || len(all) == 0 {
		return nil, runtime.Sandbox{}, o.changed
	}
	sb := all[0].Sandbox
	sb.NetNS = "" // the test's own network
	return all[0].Containers, sb, o.changed
}

func (o *onePod) LogPath(_ types.UID, container string, attempt int) string {
	return filepath.Join(o.dir, container, strconv.Itoa(attempt)+".log")
}

func (o *onePod) Attempts(uid types.UID, container string) []int {
	var out []int
	runs, _, _ := o.Containers(uid)
	for _, r := range runs {
		if r.Name == container {
			out = append(out, r.Attempt)
		}
	}
	return out
}

// poke tells that a container changed.
func (o *onePod) poke() {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
}

type allow bool

func (a allow) Authorize(*http.Request, string, string, string) error {
	if !a {
		return errors.New("not you")
	}
	return nil
}

func serve(t *testing.T, ok allow) (*onePod, *httptest.Server) {
	t.Helper()
	o := &onePod{
		dir: t.TempDir(), rt: fake.New(nil), changed: make(chan struct{}),
		pod: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default", UID: "u"},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}},
		},
	}
	if err := os.MkdirAll(filepath.Join(o.dir, "c"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := o.rt.StartSandbox(t.Context(), runtime.SandboxConfig{UID: "u", Namespace: "default", Name: "p"}); err != nil {
		t.Fatal(err)
	}
	if _, err := o.rt.StartContainer(t.Context(), runtime.ContainerConfig{UID: "u", Name: "c"}); err != nil {
		t.Fatal(err)
	}
	h := New(Config{Node: "n", Pods: o, Runtime: o.rt, Authorizer: ok, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return o, srv
}

// entries is a log file of numbered lines, one a second.
func entries(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		at := time.Date(2030, 1, 1, 0, 0, i, 0, time.UTC)
		fmt.Fprintf(&b, "%s stdout F line %d\n", at.Format("2006-01-02T15:04:05.000000000Z07:00"), i)
	}
	return b.String()
}

func lines(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}

func write(t *testing.T, path, content string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(content); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestLogOverRotatedFiles(t *testing.T) {
	o, srv := serve(t, true)
	path := o.LogPath("u", "c", 0)
	write(t, path+".2", entries(0, 10))
	write(t, path+".1", entries(10, 20))
	write(t, path, entries(20, 25)+"2030-01-01T00:00:25Z stderr P half \n2030-01-01T00:00:26Z stderr F a line\n")
	rest := "half a line\n"
	for query, want := range map[string]string{
		"":                               lines(0, 25) + rest,
		"tailLines=0":                    "",
		"tailLines=4":                    lines(23, 25) + rest,
		"tailLines=7":                    lines(20, 25) + rest,
		"tailLines=8":                    lines(19, 25) + rest,
		"tailLines=22":                   lines(5, 25) + rest,
		"tailLines=1000":                 lines(0, 25) + rest,
		"limitBytes=10":                  "line 0\nlin",
		"sinceTime=2030-01-01T00:00:24Z": lines(24, 25) + rest,
		"stream=Stderr":                  rest,
		"stream=Stdout&sinceTime=2030-01-01T00:00:22Z": lines(22, 25),
		"stream=Stderr&timestamps=true":                "2030-01-01T00:00:25Z half a line\n",
	} {
		if code, got := get(t, srv.URL+"/default/p/log?"+query); code != 200 || got != want {
			t.Errorf("%s: %d, got\n%s", query, code, got)
		}
	}
}

func TestLogRefusals(t *testing.T) {
	_, srv := serve(t, true)
	_, closed := serve(t, false)
	for url, want := range map[string]int{
		srv.URL + "/default/p/log?container=x":                                   400,
		srv.URL + "/default/p/log?previous=true":                                 400,
		srv.URL + "/default/p/log?tailLines=-1":                                  400,
		srv.URL + "/default/p/log?sinceSeconds=1&sinceTime=2030-01-01T00:00:00Z": 400,
		srv.URL + "/default/q/log":                                               404,
		srv.URL + "/peer/pods/default/p/log":                                     200,
		closed.URL + "/default/p/log":                                            403,
		closed.URL + "/default/p/exec?command=x&stdout=1":                        403,
		closed.URL + "/stats/summary":                                            403,
	} {
		if code, body := get(t, url); code != want {
			t.Errorf("%s: %d %s", url, code, body)
		}
	}
}

func TestFollowedLogEndsWithItsContainerAndSurvivesRotation(t *testing.T) {
	o, srv := serve(t, true)
	path := o.LogPath("u", "c", 0)
	write(t, path, entries(0, 3))
	res, err := http.Get(srv.URL + "/default/p/log?follow=true")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	read := func(want string) {
		t.Helper()
		buf := make([]byte, len(want))
		if _, err := io.ReadFull(res.Body, buf); err != nil || string(buf) != want {
			t.Fatalf("got %q, %v", buf, err)
		}
	}
	read(lines(0, 3))
	write(t, path, entries(3, 5))
	read(lines(3, 5))
	write(t, path, entries(5, 6))
	for i := 6; i < 9; i++ { // faster than anyone reads
		_ = os.Rename(path+".2", path+".3")
		_ = os.Rename(path+".1", path+".2")
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		write(t, path, entries(i, i+1))
	}
	read(lines(5, 9))
	o.rt.Exit("u", "c", 0)
	o.poke()
	write(t, path, entries(9, 10)) // the keeper was not done
	read(lines(9, 10))
	if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 {
		t.Fatalf("then %q, %v", rest, err)
	}
}

func TestExecBySPDYAndWebSocket(t *testing.T) {
	o, srv := serve(t, true)
	o.rt.OnExec(func(_ runtime.Container, c runtime.ExecConfig) (int, error) {
		in, err := io.ReadAll(c.Stdin)
		if err != nil {
			return 0, err
		}
		fmt.Fprintf(c.Stdout, "%s:%s", strings.Join(c.Command, " "), in)
		fmt.Fprint(c.Stderr, "oops")
		return 7, nil
	})
	u, err := url.Parse(srv.URL + "/default/p/exec?command=say&command=hello&stdin=true&stdout=true&stderr=true")
	if err != nil {
		t.Fatal(err)
	}
	cfg := &rest.Config{Host: srv.URL}
	bySPDY, err := remotecommand.NewSPDYExecutor(cfg, "POST", u)
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	err = bySPDY.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader("in"), Stdout: &out, Stderr: &errs})
	var code exec.CodeExitError
	if !errors.As(err, &code) || code.Code != 7 || out.String() != "say hello:in" || errs.String() != "oops" {
		t.Errorf("spdy: %v, %q, %q", err, out.String(), errs.String())
	}
	// Over WebSocket, version 4 cannot end its input: nobody waits for that here.
	o.rt.OnExec(func(_ runtime.Container, c runtime.ExecConfig) (int, error) {
		fmt.Fprint(c.Stdout, "out")
		return 3, nil
	})
	u.RawQuery = "command=say&stdout=true"
	byWS, err := remotecommand.NewWebSocketExecutorForProtocols(cfg, "GET", u.String(), "v4.channel.k8s.io")
	if err != nil {
		t.Fatal(err)
	}
	out.Reset()
	err = byWS.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &out})
	if !errors.As(err, &code) || code.Code != 3 || out.String() != "out" {
		t.Errorf("websocket: %v, %q", err, out.String())
	}
}

func TestPortForward(t *testing.T) {
	_, srv := serve(t, true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(conn, conn)
			_ = conn.Close()
		}
	}()
	tr, upgrader, err := spdy.RoundTripperFor(&rest.Config{Host: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(srv.URL + "/default/p/portforward")
	if err != nil {
		t.Fatal(err)
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	to := l.Addr().(*net.TCPAddr).Port
	pf, err := portforward.New(spdy.NewDialer(upgrader, &http.Client{Transport: tr}, "POST", u), []string{fmt.Sprintf("0:%d", to)}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- pf.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	ports, err := pf.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("echo")); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(conn); err != nil || string(b) != "echo" {
		t.Fatalf("%q, %v", b, err)
	}
	close(stop)
	<-done
}

func TestStats(t *testing.T) {
	o, srv := serve(t, true)
	o.rt.SetStats("u", runtime.Stats{Memory: 42, Containers: map[string]runtime.ContainerStats{"c": {Memory: 41}}})
	code, body := get(t, srv.URL+"/stats/summary")
	if code != 200 || !strings.Contains(body, `"workingSetBytes":42`) || !strings.Contains(body, `"workingSetBytes":41`) {
		t.Fatalf("%d %s", code, body)
	}
}

func TestMetricsOfPods(t *testing.T) {
	o, srv := serve(t, true)
	o.rt.SetStats("u", runtime.Stats{
		CPU: 3 * time.Second, Memory: 42, Usage: 50, PIDs: 4, Network: &runtime.Network{RxBytes: 7, TxBytes: 9},
		Containers: map[string]runtime.ContainerStats{"c": {CPU: 2 * time.Second, Memory: 41, OOMKills: 1, Started: time.Unix(100, 0)}},
	})
	for path, want := range map[string][]string{
		"/metrics/cadvisor": {
			`container_cpu_usage_seconds_total{container="",image="",namespace="default",pod="p"} 3`,
			`container_memory_working_set_bytes{container="c",image="",namespace="default",pod="p"} 41`,
			`container_oom_events_total{container="c",image="",namespace="default",pod="p"} 1`,
			`container_network_receive_bytes_total{interface="eth0",namespace="default",pod="p"} 7`,
			`container_network_transmit_bytes_total{interface="eth0",namespace="default",pod="p"} 9`,
		},
		"/metrics/resource": {
			`pod_cpu_usage_seconds_total{namespace="default",pod="p"} 3`, `container_memory_working_set_bytes{container="c",namespace="default",pod="p"} 41`,
			`container_start_time_seconds{container="c",namespace="default",pod="p"} 100`, "resource_scrape_error 0",
		},
	} {
		code, body := get(t, srv.URL+path)
		if code != 200 {
			t.Fatalf("%s: %d %s", path, code, body)
		}
		for _, line := range want {
			if !strings.Contains(body, "\n"+line+"\n") {
				t.Errorf("%s: %q is not in\n%s", path, line, body)
			}
		}
		// Each family is in one piece, after its type.
		seen, last := map[string]bool{}, ""
		for line := range strings.Lines(body) {
			name, typed := strings.CutPrefix(line, "# TYPE ")
			name, _, _ = strings.Cut(name, " ")
			if typed && seen[name] {
				t.Errorf("%s: %s comes twice", path, name)
			}
			if typed {
				seen[name], last = true, name
			} else if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, last) {
				t.Errorf("%s: %q is not of the family %s", path, line, last)
			}
		}
	}
}
