package registry

import (
	"fmt"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"shoal/internal/api"
	"shoal/internal/client"
)

// selection is which objects of a kind a list or watch is about.
type selection struct {
	kind   *api.Kind
	place  place
	name   string // metadata.name must be this
	labels labels.Selector
	fields fields.Selector // what place and name do not already say
}

// newSelection checks that the fields are selectable and finds the narrowest index for them.
func newSelection(k *api.Kind, o client.ListOptions) (selection, error) {
	s := selection{kind: k}
	if k.Namespaced {
		s.place.namespace = o.Namespace
	}
	if o.Labels != nil && !o.Labels.Empty() {
		s.labels = o.Labels
	}
	if o.Fields == nil || o.Fields.Empty() {
		return s, nil
	}
	known := selectable(k)
	for _, r := range o.Fields.Requirements() {
		if !known.Has(r.Field) {
			return s, unknownField(k, r.Field)
		}
	}
	if v, ok := o.Fields.RequiresExactMatch("metadata.name"); ok {
		s.name = v
	}
	if v, ok := o.Fields.RequiresExactMatch("spec.nodeName"); ok && v != "" && k.Resource == "pods" {
		s.place.node = v
	}
	s.fields = o.Fields
	return s, nil
}

// selectable returns the field names of a kind that a selector may use.
func selectable(k *api.Kind) fields.Set {
	out := fields.Set{"metadata.name": ""}
	if k.Namespaced {
		out["metadata.namespace"] = ""
	}
	if k.Fields != nil {
		for name := range k.Fields(k.New()) {
			out[name] = ""
		}
	}
	return out
}

func unknownField(k *api.Kind, name string) error {
	if k.Fields == nil {
		return badRequest(`%q is not a known field selector: only "metadata.name", "metadata.namespace"`, name)
	}
	return badRequest("field label not supported: %s", name)
}

func (s *selection) matches(e *Entry) bool {
	if e == nil {
		return false
	}
	if s.place.namespace != "" && e.Key.Namespace != s.place.namespace ||
		s.place.node != "" && e.node != s.place.node ||
		s.name != "" && e.Key.Name != s.name {
		return false
	}
	if s.labels != nil && !s.labels.Matches(labels.Set(e.Object.GetLabels())) {
		return false
	}
	return s.fields == nil || s.fields.Matches(&entryFields{kind: s.kind, entry: e})
}

func (s *selection) all() bool { return s.labels == nil && s.fields == nil }

// entryFields lets a selector read an object's fields, building the kind's set only when it must.
type entryFields struct {
	kind  *api.Kind
	entry *Entry
	set   fields.Set
}

func (f *entryFields) Has(name string) bool { _, ok := f.get(name); return ok }
func (f *entryFields) Get(name string) string {
	v, _ := f.get(name)
	return v
}

func (f *entryFields) get(name string) (string, bool) {
	switch {
	case name == "metadata.name":
		return f.entry.Key.Name, true
	case name == "metadata.namespace":
		return f.entry.Key.Namespace, true
	case name == "spec.nodeName" && f.kind.Resource == "pods":
		return f.entry.node, true
	case f.kind.Fields == nil:
		return "", false
	}
	if f.set == nil {
		f.set = f.kind.Fields(f.entry.Object)
	}
	v, ok := f.set[name]
	return v, ok
}

// ParseFields reads a field selector as it is in a URL.
func ParseFields(s string) (fields.Selector, error) {
	sel, err := fields.ParseSelector(s)
	if err != nil {
		return nil, badRequest("%v", err)
	}
	return sel, nil
}

// ParseLabels reads a label selector as it is in a URL.
func ParseLabels(s string) (labels.Selector, error) {
	sel, err := labels.Parse(s)
	if err != nil {
		return nil, badRequest("%s", fmt.Sprint(err))
	}
	return sel, nil
}
