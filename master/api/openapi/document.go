package openapi

import (
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const title = "Kubernetes"

// documentV2 describes everything in one document.
func (o *OpenAPI) documentV2(m *maker) object {
	s := describe(m, v2, o.resources)
	return object{
		{"swagger", "2.0"},
		{"info", object{{"title", title}, {"version", o.cfg.Version}}},
		{"consumes", answerMedia},
		{"produces", answerMedia},
		{"paths", s.paths.items},
		{"definitions", s.definitions.schemas},
	}
}

// documentV3 describes one group and version. What it shares with others is in each of them.
func (o *OpenAPI) documentV3(m *maker, gv schema.GroupVersion) object {
	var of []Resource
	for _, r := range o.resources {
		if r.GroupVersion() == gv {
			of = append(of, r)
		}
	}
	s := describe(m, v3, of)
	return object{
		{"openapi", "3.0.0"},
		{"info", object{{"title", title}, {"version", o.cfg.Version}}},
		{"paths", s.paths.items},
		{"components", object{{"schemas", s.definitions.schemas}}},
	}
}

// description is a document's paths and schemas in the making.
type description struct {
	types       map[schema.GroupVersionKind]reflect.Type
	resources   []Resource
	definitions *definitions
	paths       *paths
}

func describe(m *maker, d dialect, rs []Resource) *description {
	s := &description{types: m.types, resources: rs, definitions: newDefinitions(d, m)}
	s.paths = &paths{dialect: d, bodies: s}
	for i := range rs {
		s.paths.resource(&rs[i])
	}
	s.definitions.schemas.sort()
	s.paths.items.sort()
	return s
}

func (s *description) kind(k schema.GroupVersionKind) object {
	if t, ok := s.types[k]; ok {
		return s.definitions.ref(t)
	}
	for i := range s.resources {
		if r := &s.resources[i]; r.GroupVersionKind == k && r.Schema != nil {
			return s.definitions.custom(r, false)
		}
	}
	return object{}
}

func (s *description) list(r *Resource) object {
	if r.Schema != nil {
		return s.definitions.custom(r, true)
	}
	return s.kind(r.GroupVersion().WithKind(r.Kind + "List"))
}

func (s *description) meta(name string) object {
	switch name {
	case "Status":
		return s.definitions.ref(reflect.TypeFor[metav1.Status]())
	case "DeleteOptions":
		return s.definitions.ref(reflect.TypeFor[metav1.DeleteOptions]())
	}
	return s.definitions.ref(reflect.TypeFor[metav1.Patch]())
}
