package api

import (
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

// servePaths lists what is served: at /, and to those who asked for something else.
func (s *Server) servePaths(w http.ResponseWriter, r *request, code int) {
	paths := []string{"/api", "/api/v1", "/apis"}
	for _, g := range s.discovery().groups.Groups {
		paths = append(paths, "/apis/"+g.Name)
		for _, v := range g.Versions {
			paths = append(paths, "/apis/"+v.GroupVersion)
		}
	}
	paths = append(paths, "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version")
	s.writeJSON(w, r, code, metav1.RootPaths{Paths: paths})
}
