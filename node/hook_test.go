package node

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"shoal/node/runtime"
	"shoal/node/runtime/fake"
)

func TestHooks(t *testing.T) {
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; r.URL.Path != "/drain" {
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
	rt := fake.New(nil)
	rt.OnExec(func(_ runtime.Container, c runtime.ExecConfig) (int, error) { return len(c.Command) - 1, nil })
	w := &worker{n: New(Config{Runtime: rt}), pod: newPod("a"), sandbox: runtime.Sandbox{IP: ip}}
	c := &w.pod.Spec.Containers[0]
	for name, x := range map[string]struct {
		h  corev1.LifecycleHandler
		ok bool
	}{
		"GET":               {corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/drain", Port: intstr.FromInt(n)}}, true},
		"GET that fails":    {corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt(n)}}, false},
		"connect":           {corev1.LifecycleHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(n)}}, true},
		"connect to no one": {corev1.LifecycleHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(1)}}, false},
		"sleep":             {corev1.LifecycleHandler{Sleep: &corev1.SleepAction{}}, true},
		"nothing":           {corev1.LifecycleHandler{}, false},
	} {
		if err := w.hook(t.Context(), w.pod, c, "id", &x.h); (err == nil) != x.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if asked != 2 {
		t.Errorf("the server was asked %d times", asked)
	}
}

func TestAHookThatSleepsIsCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worker{pod: newPod("a")}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begun := time.Now()
		err := w.hook(ctx, w.pod, &w.pod.Spec.Containers[0], "id", &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 60}})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
}

func TestHostsFile(t *testing.T) {
	n := New(Config{Machine: Machine{Name: "machine"}})
	p := newPod("a")
	p.Status.PodIPs = []corev1.PodIP{{IP: "10.244.0.5"}}
	p.Spec.HostAliases = []corev1.HostAlias{{IP: "192.0.2.7", Hostnames: []string{"one.example", "two.example"}}}
	if got := string(n.hostsFile(p)); !strings.HasSuffix(got, "\n10.244.0.5\ta\n192.0.2.7\tone.example\ttwo.example\n") {
		t.Errorf("%q", got)
	}
	p.Spec.Subdomain = "db"
	if got := string(n.hostsFile(p)); !strings.Contains(got, "\n10.244.0.5\ta.db.default.svc.cluster.local\ta\n") {
		t.Errorf("with a subdomain: %q", got)
	}
}

// Kubernetes, "Customizing the termination message": the file, or the end of the log if the container failed, said nothing, and its policy says so.
func TestLastWords(t *testing.T) {
	n := New(Config{Dir: t.TempDir()})
	p := newPod("a")
	p.ObjectMeta = metav1.ObjectMeta{Name: "a", Namespace: "default", UID: "1"}
	w := newWorker(n, "1")
	w.want(p, false)
	write := func(path, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	c := &runtime.Container{Name: "c", ExitCode: 1}
	write(w.logPath("c", 0), "2030-01-01T00:00:00Z stdout F first\n2030-01-01T00:00:00Z stderr P sec\n2030-01-01T00:00:00Z stderr F ond\n")
	says := func(when, want string) {
		t.Helper()
		if got := w.lastWords(c); got != want {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	says("by the file alone", "")
	p.Spec.Containers[0].TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
	says("by the log", "first\nsecond\n")
	c.ExitCode = 0
	says("without an error", "")
	c.ExitCode = 1
	write(w.wordsPath("c", 0), "so long")
	says("both", "so long")
	write(w.wordsPath("c", 0), strings.Repeat("x", 2*wordsMost))
	says("too much", strings.Repeat("x", wordsMost))
}
