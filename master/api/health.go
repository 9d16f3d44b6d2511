package api

import (
	"fmt"
	"net/http"
	goruntime "runtime"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
)

// Kubernetes' version that the wire is compatible with; clients compare it with their own.
const (
	kubeMajor = "1"
	kubeMinor = "37"
	kubePatch = "2"

	kubeVersion = "v" + kubeMajor + "." + kubeMinor + "." + kubePatch
)

func (s *Server) serveVersion(w http.ResponseWriter, r *request) {
	suffix := "+shoal"
	if s.cfg.Version != "" {
		suffix += "-" + s.cfg.Version
	}
	info := version.Info{
		Major: kubeMajor, Minor: kubeMinor, GitVersion: kubeVersion + suffix,
		GitTreeState: "clean", GoVersion: goruntime.Version(), Compiler: goruntime.Compiler,
		Platform: goruntime.GOOS + "/" + goruntime.GOARCH,
	}
	s.writeJSON(w, r, http.StatusOK, info)
}

// serveHealth answers /healthz, /livez and /readyz, each also with the check /ping.
func (s *Server) serveHealth(w http.ResponseWriter, r *request, parts []string) {
	if len(parts) > 2 || len(parts) == 2 && parts[1] != "ping" {
		s.servePaths(w, r, http.StatusNotFound)
		return
	}
	w.Header().Set("Cache-Control", "no-cache, private")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if parts[0] == "readyz" && len(parts) == 1 {
		if err := s.cfg.Ready(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = fmt.Fprintf(w, "not ready: %v\n", err)
			return
		}
	}
	_, _ = w.Write([]byte("ok"))
}

// servePaths lists what is served: at /, and to those who asked for something else.
func (s *Server) servePaths(w http.ResponseWriter, r *request, code int) {
	paths := []string{"/api", "/api/v1", "/apis"}
	for _, g := range s.discovery().groups.Groups {
		paths = append(paths, "/apis/"+g.Name)
		for _, v := range g.Versions {
			paths = append(paths, "/apis/"+v.GroupVersion)
		}
	}
	paths = append(paths, "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version")
	s.writeJSON(w, r, code, metav1.RootPaths{Paths: paths})
}
