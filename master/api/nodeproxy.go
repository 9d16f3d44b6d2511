package api

import (
	"context"
	"io"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	shoalapi "shoal/internal/api"
	"shoal/internal/client"
)

// nodePaths are what the proxy subresource of a node serves, and where its peer has them. There is no more: what is done to pods has
// subresources of its own.
var nodePaths = map[string]string{
	"/healthz": "/healthz", "/metrics": "/metrics", "/stats/summary": "/peer/pods/stats/summary",
	"/metrics/cadvisor": "/peer/pods/metrics/cadvisor", "/metrics/resource": "/peer/pods/metrics/resource",
}

// serveNode asks the peer of a node. It is asked with this peer's own right, as Kubernetes' server asks kubelets with its own: who may is
// decided here.
func (s *Server) serveNode(w http.ResponseWriter, r *request) {
	const deep = 6 // "", api, v1, nodes, NAME, proxy
	path := ""
	if parts := strings.SplitN(r.URL.Path, "/", deep+1); len(parts) > deep {
		path = nodePaths["/"+parts[deep]]
	}
	err := s.read(w, r, "", func(ctx context.Context, rv string) error {
		_, err := s.reg.Get(ctx, shoalapi.Nodes, client.Key{Name: r.Name}, client.GetOptions{ResourceVersion: rv})
		return err
	})
	switch {
	case err != nil:
		s.fail(w, r, err)
		return
	case path == "" || r.Method != http.MethodGet && r.Method != http.MethodHead:
		e := notServed()
		e.ErrStatus.Message = "a node serves /healthz, /metrics, /metrics/cadvisor, /metrics/resource and /stats/summary, to be read"
		s.fail(w, r, e)
		return
	}
	r.turns.leave()
	out, err := http.NewRequestWithContext(r.Context(), r.Method, "https://"+r.Name+path, nil)
	if err == nil {
		out.URL.RawQuery = r.URL.RawQuery
		var resp *http.Response
		if resp, err = s.cfg.Peers.RoundTripTo(r.Name, out); err == nil {
			pass(w, resp)
			return
		}
	}
	s.fail(w, r, apierrors.NewServiceUnavailable("the peer of node "+r.Name+" does not answer: "+err.Error()))
}

// pass gives an answer of another server to the client.
func pass(w http.ResponseWriter, resp *http.Response) {
	defer resp.Body.Close()
	for _, name := range []string{"Content-Type", "Cache-Control", "X-Content-Type-Options"} {
		if v := resp.Header.Values(name); len(v) > 0 {
			w.Header()[name] = v
		}
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body) // the client is gone, or the peer
}
