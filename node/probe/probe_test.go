package probe

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestThresholdsDelayAndPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		answers := []bool{false, true, false, true, true, false, true, false, false, true}
		type change struct {
			Second int
			Good   bool
		}
		var got []change
		ctx, cancel := context.WithCancel(t.Context())
		i := 0
		Run(ctx, Config{
			Spec:    &corev1.Probe{InitialDelaySeconds: 5, PeriodSeconds: 10, SuccessThreshold: 2, FailureThreshold: 2},
			Started: begun.Add(-3 * time.Second), Now: time.Now,
			Check: func(context.Context) error {
				i++
				if i == len(answers) {
					cancel()
				}
				if answers[i-1] {
					return nil
				}
				return errors.New("ill")
			},
			Changed: func(good bool, _ error) bool {
				got = append(got, change{int(time.Since(begun) / time.Second), good})
				return true
			},
		})
		if diff := cmp.Diff([]change{{42, true}, {82, false}}, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestSlowAnswerIsABadOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		Run(t.Context(), Config{
			Spec: &corev1.Probe{TimeoutSeconds: 3, FailureThreshold: 1}, Started: begun, Now: time.Now, Good: true,
			Check:   func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			Changed: func(good bool, _ error) bool { return good },
		})
		if took := time.Since(begun); took != 3*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestHTTPAndTCP(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/away":
			http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusFound)
		case r.Host != "named" || r.Header.Get("X-Key") != "v" || r.URL.RawQuery != "q=1":
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	defer srv.Close()
	ip, number, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	c := &corev1.Container{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: int32(n)}}}
	get := &corev1.HTTPGetAction{Path: "/x?q=1", Port: intstr.FromString("web"), HTTPHeaders: []corev1.HTTPHeader{{Name: "Host", Value: "named"}, {Name: "X-Key", Value: "v"}}}
	if err := HTTP(t.Context(), ip, c, get); err != nil {
		t.Error(err)
	}
	if err := HTTP(t.Context(), ip, c, &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt(n)}); err == nil {
		t.Error("a bad answer was taken for a good one")
	}
	if err := HTTP(t.Context(), ip, c, &corev1.HTTPGetAction{Path: "/away", Port: intstr.FromInt(n)}); err != nil {
		t.Error("a redirect elsewhere was followed:", err)
	}
	if err := HTTP(t.Context(), ip, c, &corev1.HTTPGetAction{Path: "/", Port: intstr.FromString("none")}); err == nil {
		t.Error("a port without a name was found")
	}
	if err := TCP(t.Context(), ip, c, &corev1.TCPSocketAction{Port: intstr.FromString("web")}); err != nil {
		t.Error(err)
	}
	srv.Close()
	if err := TCP(t.Context(), ip, c, &corev1.TCPSocketAction{Port: intstr.FromInt(n)}); err == nil {
		t.Error("a closed port was taken for an open one")
	}
}

func TestGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, services := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(srv, services)
	services.SetServingStatus("sick", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	go func() { _ = srv.Serve(l) }()
	defer srv.Stop()
	port := int32(l.Addr().(*net.TCPAddr).Port)
	for service, ok := range map[string]bool{"": true, "sick": false, "unknown": false} {
		if err := GRPC(t.Context(), "127.0.0.1", &corev1.GRPCAction{Port: port, Service: &service}); (err == nil) != ok {
			t.Errorf("%q: %v", service, err)
		}
	}
	srv.Stop()
	if err := GRPC(t.Context(), "127.0.0.1", &corev1.GRPCAction{Port: port}); err == nil {
		t.Error("nobody answers, and that is taken for healthy")
	}
}
