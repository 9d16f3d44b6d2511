package api

import (
	"cmp"
	"context"
	"crypto/tls"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	shoalapi "shoal/internal/api"
	"shoal/internal/client"
)

// Requests below the proxy subresource of a pod or a service are passed on to the pod, or to one of the service's endpoints, by
// the peer that received them: pods are reachable from every machine, so no other peer is asked.

// proxied reports whether what is below a subresource is another server's.
func proxied(resource, sub string) bool {
	return sub == "proxy" && (resource == "pods" || resource == "services" || resource == "nodes")
}

// serveProxy passes a request on.
func (s *Server) serveProxy(w http.ResponseWriter, r *request) {
	if !s.allows(r) {
		s.fail(w, r, notAllowed())
		return
	}
	r.format = format{media: mediaJSON} // of errors; all else has the format that the other server gives it
	if r.kind == shoalapi.Nodes {
		s.serveNode(w, r)
		return
	}
	scheme, name, port, ok := splitProxyName(r.Name)
	if !ok {
		s.fail(w, r, badRequest("invalid %s request %q: it must be NAME, NAME:PORT, http:NAME:PORT or https:NAME:PORT", strings.TrimSuffix(r.Resource, "s"), r.Name))
		return
	}
	var object, endpoints shoalapi.Object
	err := s.read(w, r, "", func(ctx context.Context, rv string) (err error) {
		object, endpoints, err = s.proxyObjects(ctx, r.kind, client.Key{Namespace: r.Namespace, Name: name}, rv)
		return err
	})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	host, err := proxyTarget(object, endpoints, port)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	prefix, rest, below := belowProxy(r.URL)
	if !below && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		to := url.URL{Path: r.URL.Path + "/", RawQuery: r.URL.RawQuery} // relative links need it
		w.Header().Set("Location", to.String())
		w.WriteHeader(http.StatusMovedPermanently)
		return
	}
	s.proxy(w, r, &url.URL{Scheme: cmp.Or(scheme, "http"), Host: host}, prefix, rest)
}

// belowProxy splits a path behind the subresource. It stays encoded: what is below means something to the other server only.
func belowProxy(u *url.URL) (prefix, rest string, ok bool) {
	const deep = 8 // "", api, v1, namespaces, NS, RESOURCE, NAME, proxy
	parts := strings.SplitN(u.EscapedPath(), "/", deep+1)
	if len(parts) <= deep {
		return u.EscapedPath(), "/", false
	}
	return strings.Join(parts[:deep], "/"), "/" + parts[deep], true
}

// proxyObjects reads the pod or the service, and the service's endpoints, which may be nil.
func (s *Server) proxyObjects(ctx context.Context, k *shoalapi.Kind, key client.Key, rv string) (object, endpoints shoalapi.Object, err error) {
	o := client.GetOptions{ResourceVersion: rv}
	if object, err = s.reg.Get(ctx, k, key, o); err != nil || k != shoalapi.Services {
		return object, nil, err
	}
	if endpoints, err = s.reg.Get(ctx, shoalapi.Endpoints, key, o); apierrors.IsNotFound(err) {
		return object, nil, nil
	}
	return object, endpoints, err
}

// proxyTarget returns the address of the server that is meant.
func proxyTarget(object, endpoints shoalapi.Object, port string) (string, error) {
	if pod, ok := object.(*corev1.Pod); ok {
		return podTarget(pod, port)
	}
	eps, _ := endpoints.(*corev1.Endpoints)
	return serviceTarget(object.(*corev1.Service), eps, port)
}

// splitProxyName reads [http:|https:]NAME[:PORT], where ":" at both ends may stand without scheme and port.
func splitProxyName(id string) (scheme, name, port string, ok bool) {
	parts := strings.Split(id, ":")
	switch len(parts) {
	case 1:
		name = parts[0]
	case 2:
		name, port = parts[0], parts[1]
	case 3:
		scheme, name, port = parts[0], parts[1], parts[2]
	}
	return scheme, name, port, name != "" && (scheme == "" || scheme == "http" || scheme == "https")
}

func podTarget(pod *corev1.Pod, port string) (string, error) {
	if pod.Status.PodIP == "" {
		return "", unreachable("pod %q has no address yet", pod.Name)
	}
	for i := 0; port == "" && i < len(pod.Spec.Containers); i++ {
		if ports := pod.Spec.Containers[i].Ports; len(ports) > 0 {
			port = strconv.Itoa(int(ports[0].ContainerPort))
		}
	}
	if port == "" {
		port = "80"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", badRequest("port %q of pod %q: must be a number from 1 to 65535", port, pod.Name)
	}
	return net.JoinHostPort(pod.Status.PodIP, port), nil
}

// serviceTarget picks one of the endpoints that are ready. A number is a port of the service, not of its endpoints.
func serviceTarget(svc *corev1.Service, eps *corev1.Endpoints, port string) (string, error) {
	if n, err := strconv.ParseInt(port, 10, 64); err == nil {
		found := false
		for i := range svc.Spec.Ports {
			if p := &svc.Spec.Ports[i]; !found && int64(p.Port) == n {
				port, found = p.Name, true
			}
		}
		if !found {
			return "", unreachable("no service port %d found for service %q", n, svc.Name)
		}
	}
	var hosts []string
	for i := 0; eps != nil && i < len(eps.Subsets); i++ {
		for _, p := range eps.Subsets[i].Ports {
			if p.Name != port {
				continue
			}
			for _, a := range eps.Subsets[i].Addresses {
				hosts = append(hosts, net.JoinHostPort(a.IP, strconv.Itoa(int(p.Port))))
			}
		}
	}
	if len(hosts) == 0 {
		return "", unreachable("no endpoints available for service %q", svc.Name)
	}
	return hosts[rand.IntN(len(hosts))], nil
}

func unreachable(format string, args ...any) error {
	return apierrors.NewServiceUnavailable(badRequest(format, args...).Error())
}

// proxy carries a request to target and its answer back, in both directions for as long as it takes if it asks for an upgrade.
func (s *Server) proxy(w http.ResponseWriter, r *request, target *url.URL, prefix, rest string) {
	host, _, _ := net.SplitHostPort(target.Host)
	if ip := net.ParseIP(host); ip == nil || ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast() || ip.IsMulticast() {
		s.fail(w, r, badRequest("address not allowed: %s", host)) // an endpoint that leads into this very machine
		return
	}
	transport := &http.Transport{
		DialContext: s.cfg.Dial, DisableKeepAlives: true, DisableCompression: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // as Kubernetes: nobody has told us which certificate the pod has
	}
	p := httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,
		Rewrite: func(pr *httputil.ProxyRequest) {
			out := pr.Out
			out.URL.Scheme, out.URL.Host, out.Host = target.Scheme, target.Host, target.Host
			out.URL.RawPath = rest
			out.URL.Path, _ = url.PathUnescape(rest) // it was parsed before
			out.URL.RawQuery = pr.In.URL.RawQuery    // as it came, also what Go would not parse
			pr.SetXForwarded()
			out.Header.Set("X-Forwarded-Uri", prefix+rest)
			withoutSecrets(out.Header)
		},
		ModifyResponse: func(resp *http.Response) error {
			relocate(resp, target, prefix)
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			s.fail(w, r, unreachable("error trying to reach service: %v", err))
		},
	}
	r.turns.leave()
	p.ServeHTTP(w, r.Request)
}

// withoutSecrets drops what a user shows to the API only.
func withoutSecrets(h http.Header) {
	h.Del("Authorization")
	for name := range h {
		if strings.HasPrefix(name, "Impersonate-") || strings.HasPrefix(name, "X-Shoal-") {
			h.Del(name)
		}
	}
}

// relocate makes a redirect within the other server one below the proxy.
func relocate(resp *http.Response, target *url.URL, prefix string) {
	to, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || to.Path == "" || !strings.HasPrefix(to.Path, "/") || to.Host != "" && to.Host != target.Host {
		return
	}
	resp.Header.Set("Location", (&url.URL{
		Path: prefix + to.Path, RawQuery: to.RawQuery, Fragment: to.Fragment,
	}).String())
}
