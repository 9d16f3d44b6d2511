package api_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shoalapi "shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/api"
	"shoal/master/registry/registrytest"
)

func TestHealthByName(t *testing.T) {
	reg, _ := registrytest.New(t)
	wrong := map[string]error{}
	check := func(name string, live bool) api.Check {
		return api.Check{Name: name, Live: live, Err: func() error { return wrong[name] }}
	}
	h := api.New(api.Config{Registry: reg, Auth: everyone{}, Checks: []api.Check{check("disk", true), check("master", false)}})
	for _, c := range []struct {
		wrong, path string
		code        int
		says        string
	}{
		{"", "/livez", 200, "ok"},
		{"", "/livez?verbose", 200, "[+]ping ok\n[+]disk ok\nlivez check passed\n"},
		{"", "/readyz?verbose", 200, "[+]ping ok\n[+]disk ok\n[+]master ok\nreadyz check passed\n"},
		{"", "/readyz/master", 200, "ok"},
		{"", "/livez/master", 404, ""},
		{"", "/livez/ping", 200, "ok"},
		{"", "/healthz/a/b", 404, ""},
		{"master", "/livez", 200, "ok"},
		{"master", "/readyz", 500, "[+]ping ok\n[+]disk ok\n[-]master failed: it burns\nreadyz check failed\n"},
		{"master", "/readyz/master", 500, "internal server error: it burns"},
		{"master", "/readyz?exclude=master", 200, "ok"},
		{"master", "/readyz?verbose&exclude=master&exclude=etcd", 200, "[+]ping ok\n[+]disk ok\n[+]master excluded: ok\n" +
			"warn: some health checks cannot be excluded: no matches for \"etcd\"\nreadyz check passed\n"},
		{"disk", "/healthz", 500, "[-]disk failed: it burns"},
	} {
		clear(wrong)
		if c.wrong != "" {
			wrong[c.wrong] = errors.New("it burns")
		}
		w := do(t, h, http.MethodGet, c.path, "")
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s, %q wrong: %d %s", c.path, c.wrong, w.Code, w.Body)
		}
	}
}

func TestMetricsCountWhatIsServed(t *testing.T) {
	reg, _ := registrytest.New(t)
	h := api.New(api.Config{Registry: reg, Auth: everyone{}, Metrics: func(w io.Writer) { api.WriteGauge(w, "shoal_more", map[string]float64{`a="b"`: 7}) }})
	if _, err := reg.Create(t.Context(), shoalapi.Namespaces, namespace("ns"), client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const maps = "/api/v1/namespaces/ns/configmaps"
	do(t, h, "POST", maps, `{"metadata":{"name":"a"}}`, "Content-Type", "application/json")
	do(t, h, "GET", maps+"/a", "")
	do(t, h, "GET", maps+"/a", "")
	do(t, h, "GET", maps+"/none", "")
	do(t, h, "GET", "/api/v1/configmaps", "")
	do(t, h, "GET", maps+"?watch=1&timeoutSeconds=-1", "")
	for _, made := range []string{"/apis/made.up/v1/things", "/api/v1/namespaces/ns/things-of-ones-own", maps + "/a/nonsense", "/nonsense"} {
		do(t, h, "GET", made, "")
	}
	got := do(t, h, "GET", "/metrics", "").Body.String()
	labels := func(code, scope, verb string) string {
		return `apiserver_request_total{code="` + code + `",dry_run="",component="apiserver",group="",resource="configmaps",scope="` + scope + `",subresource="",verb="` + verb + `",version="v1"} `
	}
	for _, want := range []string{
		labels("201", "namespace", "POST") + "1", labels("200", "resource", "GET") + "2", labels("404", "resource", "GET") + "1",
		labels("200", "cluster", "LIST") + "1", labels("200", "namespace", "WATCH") + "1",
		`apiserver_request_duration_seconds_count{dry_run="",component="apiserver",group="",resource="configmaps",scope="resource",subresource="",verb="GET",version="v1"} 3`,
		`apiserver_longrunning_requests{component="apiserver",group="",resource="configmaps",scope="namespace",subresource="",verb="WATCH",version="v1"} 0`,
		`apiserver_current_inflight_requests{request_kind="readOnly"} 1`,
		`shoal_more{a="b"} 7`, "process_resident_memory_bytes ", "go_goroutines ",
	} {
		if !strings.Contains(got, want+"") {
			t.Errorf("no %s", want)
		}
	}
	types := map[string]int{}
	for line := range strings.Lines(got) {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			types[name]++
		}
	}
	for _, name := range []string{
		"apiserver_request_total counter", "apiserver_request_duration_seconds histogram", "apiserver_current_inflight_requests gauge",
		"shoal_more gauge", "process_resident_memory_bytes gauge",
	} {
		if types[name+"\n"] != 1 {
			t.Errorf("the type of %s is told %d times", name, types[name+"\n"])
		}
	}
	for _, not := range []string{"made.up", "things-of-ones-own", "nonsense", `verb="WATCH",version="v1",le=`} {
		if strings.Contains(got, not) {
			t.Errorf("%s is there", not)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

// taker takes over connections, as conversations with pods do.
type taker struct{}

func (taker) ServePod(w http.ResponseWriter, _ *http.Request, _ string, _ *corev1.Pod, _ string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ntaken")
	_ = conn.Close()
}

func TestCountedConnectionsCanBeTakenOver(t *testing.T) {
	reg, _ := registrytest.New(t)
	srv := httptest.NewServer(api.New(api.Config{Registry: reg, Auth: everyone{}, Streams: taker{}}))
	t.Cleanup(srv.Close)
	if _, err := reg.Create(t.Context(), shoalapi.Namespaces, namespace("ns"), client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	if _, err := reg.Create(t.Context(), shoalapi.Pods, pod, client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if code, body := fetch(t, srv.URL+"/api/v1/namespaces/ns/pods/p/exec?command=true&stdout=true", "*/*"); code != http.StatusOK || body != "taken" {
		t.Errorf("%d %s", code, body)
	}
}

func BenchmarkInstruments(b *testing.B) {
	h, reg := server(b)
	if _, err := reg.Create(b.Context(), shoalapi.Namespaces, namespace("ns"), client.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/livez", nil))
	}
}
