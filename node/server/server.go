// Package server answers requests about the pods of one machine: logs, exec, attach, port-forward and statistics, with
// the wire protocols that kubectl speaks. Who may ask is decided by its Authorizer, once more after the peer that passed
// the request on. It starts and stops no containers.
package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/node/runtime"
)

// Authorizer decides whether a request may do sub (log, exec, attach, portforward, stats) to a pod. Namespace and name
// are empty for stats. The error says why not.
type Authorizer interface {
	Authorize(r *http.Request, namespace, name, sub string) error
}

// Pods is what the server needs of the node.
type Pods interface {
	// Find returns a pod of this machine as it is wanted; read-only.
	Find(namespace, name string) (*corev1.Pod, bool)
	// List returns all of them.
	List() []*corev1.Pod
	// Containers returns the runs of a pod's containers as observed last, newest first for each name, where the pod's
	// network namespace is, and a channel that is closed when that changes.
	Containers(uid types.UID) (runs []runtime.Container, sandbox runtime.Sandbox, changed <-chan struct{})
	// LogPath returns where a run's log is.
	LogPath(uid types.UID, container string, attempt int) string
	// Attempts returns the runs of a container that have a log, newest first.
	Attempts(uid types.UID, container string) []int
}

// Config is complete when passed to New.
type Config struct {
	Node       string
	Pods       Pods
	Runtime    runtime.Interface
	Authorizer Authorizer // nil refuses everyone
	Dir        string     // on the disk that pods use
	Now        func() time.Time
	Log        *slog.Logger
}

type server struct {
	cfg Config
	log *slog.Logger
}

// New returns the handler.
func New(c Config) http.Handler {
	s := &server{cfg: c, log: c.Log}
	m := http.NewServeMux()
	m.HandleFunc("GET /stats/summary", s.stats)
	m.HandleFunc("GET /metrics/cadvisor", s.cadvisor)
	m.HandleFunc("GET /metrics/resource", s.resource)
	m.HandleFunc("GET /{namespace}/{name}/log", s.pod("log", s.serveLog))
	m.HandleFunc("/{namespace}/{name}/exec", s.pod("exec", s.serveExec))
	m.HandleFunc("/{namespace}/{name}/attach", s.pod("attach", s.serveAttach))
	m.HandleFunc("/{namespace}/{name}/portforward", s.pod("portforward", s.servePortForward))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rest, ok := strings.CutPrefix(r.URL.Path, "/peer/pods/"); ok {
			r2 := new(http.Request)
			*r2 = *r
			u := *r.URL
			u.Path, u.RawPath = "/"+rest, ""
			r2.URL = &u
			r = r2
		}
		m.ServeHTTP(w, r)
	})
}

// refusal is an error with the code of its answer.
type refusal struct {
	code   int
	reason metav1.StatusReason
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func refuse(code int, reason metav1.StatusReason, format string, args ...any) error {
	return &refusal{code, reason, fmt.Errorf(format, args...)}
}

func badRequest(format string, args ...any) error {
	return refuse(http.StatusBadRequest, metav1.StatusReasonBadRequest, format, args...)
}

// answer writes err as the API would.
func answer(w http.ResponseWriter, err error) {
	st := metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure,
		Code: http.StatusInternalServerError, Reason: metav1.StatusReasonInternalError, Message: err.Error(),
	}
	var r *refusal
	if errors.As(err, &r) {
		st.Code, st.Reason = int32(r.code), r.reason
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(st.Code))
	_ = json.NewEncoder(w).Encode(st)
}

type podHandler func(w http.ResponseWriter, r *http.Request, p *corev1.Pod) error

// pod authorises the request and finds the pod.
func (s *server) pod(sub string, serve podHandler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		namespace, name := r.PathValue("namespace"), r.PathValue("name")
		if err := s.authorise(r, namespace, name, sub); err != nil {
			answer(w, err)
			return
		}
		p, ok := s.cfg.Pods.Find(namespace, name)
		if !ok {
			answer(w, refuse(http.StatusNotFound, metav1.StatusReasonNotFound, "pods %q not found on node %s", name, s.cfg.Node))
			return
		}
		if err := serve(w, r, p); err != nil {
			answer(w, err)
		}
	}
}

func (s *server) authorise(r *http.Request, namespace, name, sub string) error {
	if s.cfg.Authorizer == nil {
		return refuse(http.StatusForbidden, metav1.StatusReasonForbidden, "nobody may reach pods here")
	}
	if err := s.cfg.Authorizer.Authorize(r, namespace, name, sub); err != nil {
		return &refusal{http.StatusForbidden, metav1.StatusReasonForbidden, err}
	}
	return nil
}

// container returns the name of the container that a request is about.
func container(p *corev1.Pod, name string) (string, error) {
	var names []string
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers, api.EphemeralContainers(p)} {
		for i := range list {
			if list[i].Name == name {
				return name, nil
			}
			names = append(names, list[i].Name)
		}
	}
	if name != "" {
		return "", badRequest("container %s is not valid for pod %s", name, p.Name)
	}
	if def := p.Annotations["kubectl.kubernetes.io/default-container"]; def != "" {
		return def, nil
	}
	if len(p.Spec.Containers) == 1 {
		return p.Spec.Containers[0].Name, nil
	}
	return "", badRequest("a container name must be specified for pod %s, choose one of: [%s]", p.Name, strings.Join(names, " "))
}

// running returns the run of a container that commands can be sent to.
func (s *server) running(p *corev1.Pod, name string) (runtime.Container, error) {
	runs, _, _ := s.cfg.Pods.Containers(p.UID)
	for _, r := range runs {
		if r.Name == name && r.State == runtime.Running {
			return r, nil
		}
	}
	return runtime.Container{}, badRequest("container %q in pod %q is not running", name, p.Name)
}

// exitError tells the stream protocols which code a command ended with.
type exitError int

func (e exitError) Error() string   { return fmt.Sprintf("exit status %d", int(e)) }
func (e exitError) String() string  { return e.Error() }
func (e exitError) Exited() bool    { return true }
func (e exitError) ExitStatus() int { return int(e) }

// ended turns the end of a command into what its caller must hear.
func ended(ctx context.Context, code int, err error) error {
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case code != 0:
		return exitError(code)
	}
	return nil
}
