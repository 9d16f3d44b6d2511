package custom

import (
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// types returns what server-side apply merges objects by. It is built when it is first asked for, which few kinds are.
func (d *definition) types() func() (managedfields.TypeConverter, error) {
	return func() (managedfields.TypeConverter, error) {
		s := d.schema.ToKubeOpenAPI()
		text := *spec.StringProperty()
		if s.Properties == nil {
			s.Properties = map[string]spec.Schema{}
		}
		s.Properties["apiVersion"], s.Properties["kind"], s.Properties["metadata"] = text, text, metadata()
		s.AddExtension("x-kubernetes-group-version-kind", []any{
			map[string]any{"group": d.gvk.Group, "version": d.gvk.Version, "kind": d.gvk.Kind},
		})
		return managedfields.NewTypeConverter(map[string]*spec.Schema{d.gvk.GroupVersion().String() + "." + d.gvk.Kind: s}, false)
	}
}

// metadata is the schema of what has owners of its own in the metadata of every object.
func metadata() spec.Schema {
	text := *spec.StringProperty()
	finalizers := *spec.ArrayProperty(&text)
	finalizers.AddExtension("x-kubernetes-list-type", "set")
	owner := spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"object"}, Properties: map[string]spec.Schema{
		"apiVersion": text, "kind": text, "name": text, "uid": text,
		"controller": *spec.BooleanProperty(), "blockOwnerDeletion": *spec.BooleanProperty(),
	}}}
	owner.AddExtension("x-kubernetes-map-type", "atomic")
	owners := *spec.ArrayProperty(&owner)
	owners.AddExtension("x-kubernetes-list-type", "map")
	owners.AddExtension("x-kubernetes-list-map-keys", []any{"uid"})
	m := spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"object"}, Properties: map[string]spec.Schema{
		"name": text, "namespace": text, "generateName": text, "labels": *spec.MapProperty(&text), "annotations": *spec.MapProperty(&text),
		"finalizers": finalizers, "ownerReferences": owners,
	}}}
	m.AddExtension("x-kubernetes-preserve-unknown-fields", true)
	return m
}
