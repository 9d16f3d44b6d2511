package api

import (
	"net/http"
	"net/url"
	"path"
	"runtime/debug"
	"strings"

	"k8s.io/apimachinery/pkg/fields"

	shoalapi "shoal/internal/api"
)

// request is an HTTP request with what the chain has found out about it.
type request struct {
	*http.Request
	Attributes
	user   *User
	kind   *shoalapi.Kind
	format format
	prefix string // "api" or "apis" of a resource request
	params url.Values
	deep   bool   // the path has more below the subresource
	raw    []byte // the body, once it was read

	answer *countedWriter
	turns  turns
	noted  bool // by the audit log, when it began

	notes map[string]string // for the audit log

	warnings []string // shown with the answer to a write

	// mayWait: a write that this peer turns out not to be Master for is not answered but noted in again.
	mayWait, again bool
}

func (r *request) query() url.Values {
	if r.params == nil {
		r.params = r.URL.Query()
	}
	return r.params
}

// extra reports whether the request is for Config.Extra.
func (r *request) extra() bool { return strings.HasPrefix(r.URL.Path, "/shoal/") }

// isWrite reports whether the Master must answer.
func (r *request) isWrite() bool {
	if streams(r.Resource, r.Subresource) || proxied(r.Resource, r.Subresource) {
		return false
	}
	switch r.Verb {
	case "create", "update", "patch", "delete", "deletecollection":
		return true
	}
	return false
}

// forMaster reports whether the request is a write of objects, which the Master must answer.
func (r *request) forMaster() bool { return r.IsResource && r.isWrite() && !isQuestion(r.Group) }

// streams reports whether a subresource is a conversation with a pod's peer.
func streams(resource, sub string) bool {
	if resource != "pods" {
		return false
	}
	switch sub {
	case "log", "exec", "attach", "portforward":
		return true
	}
	return false
}

// withRequestInfo reads what the request is about from its method and path.
func (s *Server) withRequestInfo(next handler) handler {
	return func(w http.ResponseWriter, r *request) {
		if strings.Contains(r.URL.Path, "//") {
			to := *r.URL
			to.Path, to.RawPath = path.Clean(r.URL.Path), ""
			http.Redirect(w, r.Request, to.RequestURI(), http.StatusMovedPermanently)
			return
		}
		r.parse()
		next(w, r)
	}
}

// parse understands /api/V/…, /apis/G/V/…, with namespaces/NS/ and the old watch/ in between, then
// RESOURCE[/NAME[/SUBRESOURCE]].
func (r *request) parse() {
	r.Path = r.URL.Path
	r.Verb = strings.ToLower(r.Method)
	parts := split(r.Path)
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		r.prefix, r.Version = "api", parts[1]
		parts = parts[2:]
	case len(parts) >= 4 && parts[0] == "apis":
		r.prefix, r.Group, r.Version = "apis", parts[1], parts[2]
		parts = parts[3:]
	default:
		return
	}
	r.IsResource = true
	watch := false
	if parts[0] == "watch" && len(parts) > 1 {
		watch = true
		parts = parts[1:]
	}
	if parts[0] == "namespaces" && len(parts) > 1 {
		r.Namespace = parts[1]
		if len(parts) > 2 && parts[2] != "status" && parts[2] != "finalize" {
			parts = parts[2:]
		}
	}
	r.Resource = parts[0]
	if len(parts) > 1 {
		r.Name = parts[1]
	}
	if len(parts) > 2 {
		r.Subresource = parts[2]
	}
	r.deep = len(parts) > 3
	r.Verb = r.resourceVerb(watch)
}

func (r *request) resourceVerb(watch bool) string {
	switch r.Method {
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		if r.Name == "" {
			return "deletecollection"
		}
		return "delete"
	case http.MethodGet, http.MethodHead:
	default:
		return strings.ToLower(r.Method)
	}
	switch {
	case watch && r.Subresource == "":
		// A watch of one object is a watch of the collection with its name as field selector.
		return "watch"
	case r.Name != "":
		return "get"
	case strings.Contains(r.URL.RawQuery, "watch") && boolParam(r.query(), "watch"):
		return "watch"
	}
	return "list"
}

// judged is what the request is authorised as. Who lists or watches a single object, by a field selector, needs the right to no more
// than that object, as in Kubernetes: nodes follow the ConfigMaps of their pods so.
func (r *request) judged() *Attributes {
	a := r.Attributes
	if (a.Verb == "list" || a.Verb == "watch") && a.Name == "" && strings.Contains(r.URL.RawQuery, "fieldSelector") {
		if selector, err := fields.ParseSelector(r.query().Get("fieldSelector")); err == nil {
			a.Name, _ = selector.RequiresExactMatch("metadata.name")
		}
	}
	return &a
}

// split returns the segments of a path; empty ones at the end are dropped.
func split(p string) []string {
	p = strings.Trim(p, "/")
	if p == "" {
		return nil
	}
	return strings.Split(p, "/")
}

// boolParam reads a boolean as Kubernetes does: present and neither "false" nor "0" is true.
func boolParam(q url.Values, name string) bool {
	v, ok := q[name]
	return ok && v[0] != "false" && v[0] != "0"
}

func stack() string { return string(debug.Stack()) }
