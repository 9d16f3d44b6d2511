package peer

import (
	"net/http"
	"net/http/httputil"

	corev1 "k8s.io/api/core/v1"

	masterapi "shoal/master/api"
	"shoal/master/auth"
)

// podStreams brings requests for a pod's logs and streams from the peer that received them straight to the pod's peer,
// which authorises them once more.
type podStreams struct{ p *Peer }

// ServePod implements the API's PodStreams.
func (s podStreams) ServePod(w http.ResponseWriter, r *http.Request, node string, pod *corev1.Pod, sub string) {
	out := r.Clone(r.Context())
	out.URL.Path = "/peer/pods/" + pod.Namespace + "/" + pod.Name + "/" + sub
	out.URL.RawPath = ""
	if node == s.p.cfg.Name {
		s.p.machine.node.Server().ServeHTTP(w, out)
		return
	}
	if s.p.redirected(w, r) {
		return
	}
	assertUser(out, masterapi.UserFrom(r.Context()))
	proxy := httputil.ReverseProxy{
		Rewrite:       func(pr *httputil.ProxyRequest) { pr.Out.URL.Host, pr.Out.URL.Scheme = node, "https" },
		Transport:     to{s.p.transport, node},
		FlushInterval: -1, // logs are followed line by line
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			fail(w, failf(http.StatusBadGateway, "reach the pod's peer %s: %v", node, err))
		},
	}
	proxy.ServeHTTP(w, out)
}

// to sends every request to one peer.
type to struct {
	t    *transport
	name string
}

// RoundTrip implements http.RoundTripper.
func (t to) RoundTrip(r *http.Request) (*http.Response, error) { return t.t.RoundTripTo(t.name, r) }

// assertUser makes a request speak for the user whom this peer has authenticated.
func assertUser(r *http.Request, u *masterapi.User) {
	if u != nil {
		user := auth.User(*u)
		auth.Forward(r.Header, &user)
	}
}
