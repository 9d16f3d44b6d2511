package api

import (
	"encoding/json"
	"net/http"

	shoalapi "shoal/internal/api"
)

// openapi is a small description of the API: enough for clients to see that writes are validated by the server
// (fieldValidation) and not by them. The schemas of the kinds are not in it.
type openapi struct {
	index  []byte
	groups map[string][]byte // by path below /openapi/v3/
}

func newOpenAPI(t *shoalapi.Table) *openapi {
	docs := map[string]map[string]any{}
	for _, k := range t.Kinds() {
		path := "api/" + k.Version
		if k.Group != "" {
			path = "apis/" + k.Group + "/" + k.Version
		}
		if docs[path] == nil {
			docs[path] = map[string]any{}
		}
		gvk := map[string]any{"group": k.Group, "version": k.Version, "kind": k.Kind}
		url := "/" + path + "/" + k.Resource + "/{name}"
		if k.Namespaced {
			url = "/" + path + "/namespaces/{namespace}/" + k.Resource + "/{name}"
		}
		docs[path][url] = map[string]any{"patch": map[string]any{
			"operationId":                     "patch" + k.Kind,
			"x-kubernetes-action":             "patch",
			"x-kubernetes-group-version-kind": gvk,
			"parameters":                      []any{queryParam("dryRun"), queryParam("fieldManager"), queryParam("fieldValidation"), queryParam("force")},
			"responses":                       map[string]any{"200": map[string]any{"description": "OK"}},
		}}
	}
	o := &openapi{groups: map[string][]byte{}}
	index := map[string]any{}
	for path, paths := range docs {
		index[path] = map[string]any{"serverRelativeURL": "/openapi/v3/" + path}
		o.groups[path] = mustJSON(map[string]any{
			"openapi": "3.0.0", "info": map[string]any{"title": "Shoal", "version": "v1"},
			"paths": paths, "components": map[string]any{"schemas": map[string]any{}},
		})
	}
	o.index = mustJSON(map[string]any{"paths": index})
	return o
}

func queryParam(name string) map[string]any {
	return map[string]any{"name": name, "in": "query", "schema": map[string]any{"type": "string"}}
}

// mustJSON encodes maps of strings and maps, which always succeeds.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func (s *Server) serveOpenAPI(w http.ResponseWriter, r *request, parts []string) {
	if len(parts) < 2 || parts[1] != "v3" {
		http.NotFound(w, r.Request)
		return
	}
	body := s.openapi.index
	if len(parts) > 2 {
		var ok bool
		if body, ok = s.openapi.groups[r.URL.Path[len("/openapi/v3/"):]]; !ok {
			http.NotFound(w, r.Request)
			return
		}
	}
	s.writeBody(w, r, mediaJSON, http.StatusOK, body)
}
