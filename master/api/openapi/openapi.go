// Package openapi describes the Kubernetes API in OpenAPI v2 and v3: what kubectl explain prints, what clients check manifests
// by, and what they read before they send a dry run or fieldValidation. It is made from the Go types of the kinds by
// reflection, helped by facts.txt where the types do not say enough. It knows nothing of the registry, and of HTTP only
// how a document is sent; master/api finds the request's document here.
//
// Its invariant: a document is built when it is first asked for, once for each generation of the resources, and only its
// compressed form is kept.
package openapi

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Config is complete when passed to New.
type Config struct {
	// Scheme has the Go types of every resource that has no Schema.
	Scheme *runtime.Scheme
	// Resources returns what is served, and a number that differs when that differs. It must not block.
	Resources func() ([]Resource, uint64)
	Version   string // of the API, in the documents' info
}

// Resource is one served resource.
type Resource struct {
	schema.GroupVersionKind
	Resource   string // plural, as in URLs
	Namespaced bool
	Verbs      []string
	Subs       []Sub
	// Schema is the OpenAPI v3 schema (JSON) of kinds that have no Go type; its apiVersion, kind and metadata are added.
	// Nil for kinds of the scheme.
	Schema []byte
}

// Sub is a subresource.
type Sub struct {
	Name  string
	Kind  schema.GroupVersionKind // of what is sent and answered
	Verbs []string
}

var (
	// ErrNotFound means that there is no such document.
	ErrNotFound = errors.New("no such OpenAPI document")
	// ErrNotAcceptable means that the document exists in none of the forms that the client accepts.
	ErrNotAcceptable = errors.New("the client accepts no form of this OpenAPI document")
)

// OpenAPI has the documents. It is safe for concurrent use.
type OpenAPI struct {
	cfg Config

	mu         sync.Mutex
	generation uint64
	resources  []Resource
	built      map[want]*Document // of generation
}

// want names one form of one document.
type want struct {
	path string // v2, v3, v3/api/v1, v3/apis/apps/v1
	form form
}

// New returns an OpenAPI without building anything.
func New(c Config) *OpenAPI {
	return &OpenAPI{cfg: c}
}

// Find returns the document at a path below /openapi/ in the form that an Accept header prefers. It may take some tens of
// milliseconds when nobody asked before. Its errors are ErrNotFound and ErrNotAcceptable.
func (o *OpenAPI) Find(path, accept string) (*Document, error) {
	path = strings.Trim(path, "/")
	o.mu.Lock()
	defer o.mu.Unlock()
	if rs, generation := o.cfg.Resources(); o.built == nil || generation != o.generation {
		o.resources, o.generation, o.built = rs, generation, map[want]*Document{}
	}
	offers := offersOf(path)
	if gv, ok := groupVersionOf(path); offers == nil || ok && !o.servesLocked(gv) {
		return nil, ErrNotFound
	}
	f, ok := negotiate(accept, offers)
	if !ok {
		return nil, ErrNotAcceptable
	}
	w := want{path, f}
	if d := o.built[w]; d != nil {
		return d, nil
	}
	return o.buildLocked(newMaker(o.cfg.Scheme), w)
}

// buildLocked returns what is kept, or builds it. Caller holds mu.
func (o *OpenAPI) buildLocked(m *maker, w want) (*Document, error) {
	if d := o.built[w]; d != nil {
		return d, nil
	}
	var tree object
	switch gv, ok := groupVersionOf(w.path); {
	case ok:
		tree = o.documentV3(m, gv)
	case w.path == "v3":
		var err error
		if tree, err = o.indexLocked(m); err != nil {
			return nil, err
		}
	default:
		tree = o.documentV2(m)
	}
	d, err := m.document(w.form, tree)
	if err != nil {
		return nil, fmt.Errorf("write %s as %s: %w", w.path, w.form, err)
	}
	o.built[w] = d
	return d, nil
}

// indexLocked lists the documents of v3 with the hash of each, which needs them all. Caller holds mu.
func (o *OpenAPI) indexLocked(m *maker) (object, error) {
	var paths object
	for _, gv := range o.versions() {
		path := pathOf(gv)
		d, err := o.buildLocked(m, want{"v3/" + path, formJSON})
		if err != nil {
			return nil, err
		}
		paths.add(path, object{{"serverRelativeURL", "/openapi/v3/" + path + "?hash=" + d.hash}})
	}
	return object{{"paths", paths}}, nil
}

func (o *OpenAPI) servesLocked(gv schema.GroupVersion) bool {
	for i := range o.resources {
		if o.resources[i].GroupVersion() == gv {
			return true
		}
	}
	return false
}

// versions returns every served group and version, in the order of their first resource.
func (o *OpenAPI) versions() []schema.GroupVersion {
	var out []schema.GroupVersion
	seen := map[schema.GroupVersion]bool{}
	for i := range o.resources {
		if gv := o.resources[i].GroupVersion(); !seen[gv] {
			seen[gv] = true
			out = append(out, gv)
		}
	}
	return out
}

// pathOf returns where a group and version is served: api/v1 or apis/GROUP/VERSION.
func pathOf(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "api/" + gv.Version
	}
	return "apis/" + gv.Group + "/" + gv.Version
}

// groupVersionOf reads v3/api/VERSION and v3/apis/GROUP/VERSION.
func groupVersionOf(path string) (schema.GroupVersion, bool) {
	parts := strings.Split(path, "/")
	switch {
	case len(parts) == 3 && parts[0] == "v3" && parts[1] == "api":
		return schema.GroupVersion{Version: parts[2]}, true
	case len(parts) == 4 && parts[0] == "v3" && parts[1] == "apis":
		return schema.GroupVersion{Group: parts[2], Version: parts[3]}, true
	}
	return schema.GroupVersion{}, false
}
