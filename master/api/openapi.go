package api

import (
	"errors"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	shoalapi "shoal/internal/api"
	"shoal/master/api/openapi"
)

// serveOpenAPI answers what is below /openapi/.
func (s *Server) serveOpenAPI(w http.ResponseWriter, r *request) {
	doc, err := s.openapi.Find(strings.TrimPrefix(r.URL.Path, "/openapi"), r.Header.Get("Accept"))
	switch {
	case errors.Is(err, openapi.ErrNotFound):
		s.fail(w, r, notServed())
	case errors.Is(err, openapi.ErrNotAcceptable):
		s.fail(w, r, notAcceptable(strings.Join(openapi.Media(r.URL.Path), ", ")))
	case err != nil:
		s.fail(w, r, internalError(err.Error()))
	default:
		doc.ServeHTTP(w, r.Request)
	}
}

// described returns what the OpenAPI documents are about: the kinds of t and the questions of virtual.go.
func described(t *shoalapi.Table) []openapi.Resource {
	var out []openapi.Resource
	for _, k := range t.Kinds() {
		r := openapi.Resource{GroupVersionKind: k.GroupVersionKind, Resource: k.Resource, Namespaced: k.Namespaced, Verbs: verbsOf(k)}
		if k.Custom != nil {
			r.Schema = k.Custom.Schema
		}
		for _, sub := range k.Subresources {
			r.Subs = append(r.Subs, openapi.Sub{Name: sub.Name, Kind: kindOf(k, sub), Verbs: sub.Verbs})
		}
		out = append(out, r)
	}
	for _, q := range questions() {
		out = append(out, openapi.Resource{
			GroupVersionKind: schema.GroupVersionKind{Group: q.Group, Version: q.Version, Kind: q.Kind},
			Resource:         q.Name, Namespaced: q.Namespaced, Verbs: q.Verbs,
		})
	}
	return out
}

// kindOf returns the kind that a subresource is sent and answered as.
func kindOf(k *shoalapi.Kind, sub shoalapi.Subresource) schema.GroupVersionKind {
	gvk := k.GroupVersionKind
	if sub.Kind != "" {
		gvk.Kind = sub.Kind
	}
	if sub.Group != "" && sub.Group != k.Group {
		gvk.Group, gvk.Version = sub.Group, "v1"
	}
	return gvk
}
