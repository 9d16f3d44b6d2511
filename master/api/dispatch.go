package api

import (
	"net/http"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	shoalapi "shoal/internal/api"
)

// dispatch finds who answers.
func (s *Server) dispatch(w http.ResponseWriter, r *request) {
	switch {
	case r.IsResource:
		s.resource(w, r)
	case r.extra():
		if s.cfg.Extra == nil {
			s.fail(w, r, notServed())
			return
		}
		s.cfg.Extra.ServeHTTP(w, r.WithContext(r.context()))
	default:
		s.other(w, r)
	}
}

// other answers paths that are not about resources.
func (s *Server) other(w http.ResponseWriter, r *request) {
	parts := split(r.URL.Path)
	if len(parts) == 0 {
		s.servePaths(w, r, http.StatusOK)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.fail(w, r, notAllowed())
		return
	}
	switch parts[0] {
	case "api", "apis":
		s.serveDiscovery(w, r, parts)
	case "version":
		s.serveVersion(w, r)
	case "healthz", "livez", "readyz":
		s.serveHealth(w, r, parts)
	case "metrics":
		s.serveInstruments(w)
	case "openapi":
		s.serveOpenAPI(w, r)
	case ".well-known", "openid":
		s.serveIssuer(w, r, parts)
	default:
		s.servePaths(w, r, http.StatusNotFound)
	}
}

// resource answers requests about objects.
func (s *Server) resource(w http.ResponseWriter, r *request) {
	k, ok := s.kind(r)
	if !ok {
		s.virtual(w, r)
		return
	}
	r.kind = k
	if !s.served(r) {
		s.fail(w, r, notServed())
		return
	}
	if r.Subresource != "" && streams(r.Resource, r.Subresource) {
		s.serveStream(w, r)
		return
	}
	if proxied(r.Resource, r.Subresource) {
		s.serveProxy(w, r)
		return
	}
	offers := offersOf(k, r.Verb)
	if r.format, ok = negotiate(r.Header.Get("Accept"), offers); !ok {
		accepted := offers.String()
		if r.Verb == "watch" {
			accepted = strings.Join([]string{mediaJSON + ";stream=watch", mediaProto + ";stream=watch"}, ", ")
		}
		s.fail(w, r, notAcceptable(accepted))
		return
	}
	if !s.allows(r) {
		s.fail(w, r, notAllowed())
		return
	}
	switch r.Verb {
	case "get":
		s.get(w, r)
	case "list":
		s.list(w, r)
	case "watch":
		s.watch(w, r)
	case "create":
		s.create(w, r)
	case "update":
		s.update(w, r)
	case "patch":
		s.patch(w, r)
	case "delete":
		s.delete(w, r)
	case "deletecollection":
		s.deleteCollection(w, r)
	default:
		s.fail(w, r, notAllowed())
	}
}

// kind finds the row of a request's resource. A custom kind may have been defined at another peer a moment ago.
func (s *Server) kind(r *request) (*shoalapi.Kind, bool) {
	gvr := schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Resource}
	k, ok := s.reg.Kinds().ByResource(gvr)
	if !ok && strings.Contains(r.Group, ".") && s.reg.Reach(r.Context()) == nil {
		return s.reg.Kinds().ByResource(gvr)
	}
	return k, ok
}

func offersOf(k *shoalapi.Kind, verb string) *accepts {
	switch {
	case verb == "watch" && k.Custom != nil:
		return customWatches
	case verb == "watch":
		return watchFormats
	case k.Custom != nil:
		return customFormats
	}
	return objectFormats
}

// served reports whether the path exists for the kind.
func (s *Server) served(r *request) bool {
	if r.deep && r.Subresource != "proxy" {
		return false
	}
	if !r.kind.Namespaced && r.Namespace != "" && r.Resource != "namespaces" {
		return false
	}
	if r.Subresource == "" {
		// An object of a namespaced kind is only found in its namespace.
		return r.Name == "" || !r.kind.Namespaced || r.Namespace != ""
	}
	return r.kind.HasSubresource(r.Subresource) && (!r.kind.Namespaced || r.Namespace != "")
}

// allows reports whether the verb fits the path.
func (s *Server) allows(r *request) bool {
	if r.Subresource != "" {
		for _, sub := range r.kind.Subresources {
			if sub.Name == r.Subresource {
				return slices.Contains(sub.Verbs, r.Verb)
			}
		}
		return false
	}
	if !slices.Contains(verbsOf(r.kind), r.Verb) {
		return false
	}
	whole := r.kind.Namespaced && r.Namespace == "" // across namespaces: read only
	switch r.Verb {
	case "create":
		return r.Name == "" && !whole
	case "deletecollection":
		return !whole
	case "update", "patch", "delete":
		return r.Name != ""
	case "get", "list", "watch":
		return true
	}
	return false
}

// verbsOf returns what a kind offers, as discovery shows it. Namespaces go one by one: all at once would be everything there is.
func verbsOf(k *shoalapi.Kind) []string {
	if k == shoalapi.Namespaces {
		return []string{"create", "delete", "get", "list", "patch", "update", "watch"}
	}
	if k.Custom != nil { // the order is Kubernetes' too
		return []string{"delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"}
	}
	return []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
}
