package api_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	shoalapi "shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/api"
	"shoal/master/registry/registrytest"
)

// proxies is a peer with a pod and services; all addresses lead to one server, which tells what it was asked.
func proxies(t *testing.T) (s *api.Server, dialled *atomic.Value) {
	t.Helper()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			w.Header().Set("Location", "/there?x=1")
			w.WriteHeader(http.StatusFound)
		case "/outside":
			w.Header().Set("Location", "https://example.com/there")
			w.WriteHeader(http.StatusFound)
		case "/upgrade":
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			line, _ := rw.ReadString('\n')
			_, _ = io.WriteString(conn, "echo "+line)
		default:
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s host=%s auth=%q as=%q uri=%s body=%s", r.Method, r.RequestURI, r.Host, r.Header.Get("Authorization"),
				r.Header.Get("Impersonate-User"), r.Header.Get("X-Forwarded-Uri"), body)
		}
	}))
	t.Cleanup(web.Close)
	reg, _ := registrytest.New(t)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{
			{Name: "a", Image: "i"}, {Name: "b", Image: "i", Ports: []corev1.ContainerPort{{ContainerPort: 8080}}},
		}},
	}
	create := func(k *shoalapi.Kind, o shoalapi.Object) {
		t.Helper()
		if _, err := reg.Create(t.Context(), k, o, client.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	create(shoalapi.Pods, pod)
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.1.2.3", PodIPs: []corev1.PodIP{{IP: "10.1.2.3"}}}
	if _, err := reg.Update(t.Context(), shoalapi.Pods, pod, client.UpdateOptions{Subresource: "status"}); err != nil {
		t.Fatal(err)
	}
	create(shoalapi.Pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "new"}, Spec: pod.Spec})
	trap := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "trap"}, Spec: pod.Spec}
	create(shoalapi.Pods, trap)
	trap.Status = corev1.PodStatus{PodIP: "127.0.0.1", PodIPs: []corev1.PodIP{{IP: "127.0.0.1"}}}
	if _, err := reg.Update(t.Context(), shoalapi.Pods, trap, client.UpdateOptions{Subresource: "status"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"web", "empty"} {
		create(shoalapi.Services, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
			Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{
				{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}, {Name: "admin", Port: 81, TargetPort: intstr.FromInt32(9090)},
			}},
		})
	}
	create(shoalapi.Endpoints, &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"},
		Subsets: []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: "10.1.2.4"}}, NotReadyAddresses: []corev1.EndpointAddress{{IP: "10.1.2.5"}},
			Ports: []corev1.EndpointPort{{Name: "http", Port: 8080}, {Name: "admin", Port: 9090}},
		}},
	})
	dialled = new(atomic.Value)
	s = api.New(api.Config{Registry: reg, Auth: everyone{}, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialled.Store(addr)
		return new(net.Dialer).DialContext(ctx, network, strings.TrimPrefix(web.URL, "http://"))
	}})
	return s, dialled
}

func TestProxyPassesRequestsOn(t *testing.T) {
	s, dialled := proxies(t)
	const base = "/api/v1/namespaces/ns/"
	tests := []struct {
		method, path string
		dialled      string
		code         int
		says         string
	}{
		{"GET", "pods/p/proxy/", "10.1.2.3:8080", 200, `GET / host=10.1.2.3:8080 auth="" as="" uri=/api/v1/namespaces/ns/pods/p/proxy/ body=`},
		{"GET", "pods/p:9000/proxy/a/b%2Fc?q=1&q=2;3", "10.1.2.3:9000", 200, "GET /a/b%2Fc?q=1&q=2;3 "},
		{"POST", "pods/http:p:9000/proxy/form", "10.1.2.3:9000", 200, "body=hello"},
		{"PUT", "services/web:http/proxy/x", "10.1.2.4:8080", 200, "PUT /x "},
		{"PATCH", "services/web:80/proxy/x", "10.1.2.4:8080", 200, "PATCH /x "},
		{"DELETE", "services/web:81/proxy/x", "10.1.2.4:9090", 200, "DELETE /x "},
		{"GET", "pods/p/proxy/away", "10.1.2.3:8080", 302, ""},
		{"GET", "pods/p/proxy?x=1", "", 301, ""},
		{"GET", "pods/new/proxy/", "", 503, "has no address yet"},
		{"GET", "pods/trap/proxy/", "", 400, "address not allowed: 127.0.0.1"}, // what listens for its own machine only
		{"GET", "pods/none/proxy/", "", 404, "not found"},
		{"GET", "pods/ftp:p:21/proxy/", "", 400, "invalid pod request"},
		{"GET", "pods/p:many/proxy/", "", 400, "must be a number"},
		{"GET", "services/web:82/proxy/", "", 503, `no service port 82 found for service \"web\"`},
		{"GET", "services/web/proxy/", "", 503, `no endpoints available for service \"web\"`},
		{"GET", "services/empty:80/proxy/", "", 503, `no endpoints available for service \"empty\"`},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			dialled.Store("")
			w := do(t, s, tt.method, base+tt.path, "hello", "Authorization", "Bearer secret", "Impersonate-User", "joe")
			if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.says) || dialled.Load() != tt.dialled {
				t.Errorf("%d %s from %q", w.Code, w.Body, dialled.Load())
			}
		})
	}
	for path, want := range map[string]string{
		"pods/p/proxy?x=1":     "/api/v1/namespaces/ns/pods/p/proxy/?x=1",
		"pods/p/proxy/away":    "/api/v1/namespaces/ns/pods/p/proxy/there?x=1",
		"pods/p/proxy/outside": "https://example.com/there",
	} {
		if got := do(t, s, "GET", base+path, "").Header().Get("Location"); got != want {
			t.Errorf("%s leads to %s, want %s", path, got, want)
		}
	}
}

func TestProxyCarriesUpgrades(t *testing.T) {
	s, _ := proxies(t)
	peer := httptest.NewServer(s)
	defer peer.Close()
	r, err := http.NewRequestWithContext(t.Context(), "GET", peer.URL+"/api/v1/namespaces/ns/pods/p/proxy/upgrade", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "echo")
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	conn := resp.Body.(io.ReadWriteCloser)
	defer conn.Close()
	if _, err := io.WriteString(conn, "ahoy\n"); err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(conn); string(got) != "echo ahoy\n" {
		t.Errorf("got %q", got)
	}
}
