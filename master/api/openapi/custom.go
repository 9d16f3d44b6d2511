package openapi

import (
	"reflect"
	"slices"
	"strings"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	openapiv3 "github.com/google/gnostic-models/openapiv3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Kinds without a Go type bring their own schema. It is taken as it is in v3; v2 can say less, and old clients that read v2
// take it more seriously than it is meant, so there it says less.

// custom returns a reference to the schema of a resource's kind, or of the list of it.
func (b *definitions) custom(r *Resource, list bool) object {
	name := customName(r)
	kind := r.GroupVersionKind
	if list {
		name, kind.Kind = name+"List", kind.Kind+"List"
	}
	if !b.customs[name] {
		b.customs[name] = true
		var s object
		if list {
			s = b.customList(b.custom(r, false))
		} else {
			s = b.customObject(r.Schema)
		}
		s.set("x-kubernetes-group-version-kind", []any{kindObject(kind)})
		b.schemas.add(name, s)
	}
	return object{{"$ref", b.dialect.prefix() + name}}
}

// customName turns the group around, as names of types have it: com.example.v1.Thing.
func customName(r *Resource) string {
	parts := strings.Split(r.Group, ".")
	slices.Reverse(parts)
	return strings.Join(append(parts, r.Version, r.Kind), ".")
}

// customObject completes a schema with what every object has.
func (b *definitions) customObject(raw []byte) object {
	v, err := parseTree(raw)
	o, ok := v.(object)
	o = onlySchema(o)
	if b.dialect == v2 {
		o = lessForV2(o)
	}
	if err != nil || !ok || !sound(b.dialect, o) {
		o = object{{"x-kubernetes-preserve-unknown-fields", true}} // one bad schema must not take the document down
	}
	properties, _ := o.get("properties").(object)
	properties = slices.Clone(properties)
	b.typeMeta(&properties)
	properties.set("metadata", b.metaField("ObjectMeta", reflect.TypeFor[metav1.ObjectMeta]()))
	o.set("properties", properties)
	o.set("type", "object")
	return o
}

// sound reports whether every form can carry a schema.
func sound(d dialect, o object) bool {
	schema := (&openapiv2.Schema{}).ProtoReflect().Descriptor()
	if d == v3 {
		schema = (&openapiv3.Schema{}).ProtoReflect().Descriptor()
	}
	_, err := appendMessage(nil, schema, o)
	return err == nil
}

func (b *definitions) customList(item object) object {
	properties := object{{"items", object{{"description", "List of objects"}, {"items", item}, {"type", "array"}}}}
	b.typeMeta(&properties)
	properties.set("metadata", b.metaField("ListMeta", reflect.TypeFor[metav1.ListMeta]()))
	return object{{"properties", properties}, {"required", []string{"items"}}, {"type", "object"}}
}

func (b *definitions) typeMeta(properties *object) {
	for name, doc := range (metav1.TypeMeta{}).SwaggerDoc() {
		if name != "" {
			properties.set(name, object{{"description", doc}, {"type", "string"}})
		}
	}
	properties.sort()
}

func (b *definitions) metaField(of string, t reflect.Type) object {
	s := b.ref(t)
	if b.dialect == v3 {
		s = object{{"allOf", []any{s}}}
	}
	return append(object{{"description", "Standard " + of + " of every Kubernetes API"}}, s...)
}

// schemaWords are what a schema may be made of; anything else has no place in the protobuf forms.
var schemaWords = []string{
	"additionalProperties", "allOf", "anyOf", "default", "description", "enum", "example", "exclusiveMaximum", "exclusiveMinimum",
	"externalDocs", "format", "items", "maxItems", "maxLength", "maxProperties", "maximum", "minItems", "minLength", "minProperties",
	"minimum", "multipleOf", "not", "nullable", "oneOf", "pattern", "properties", "required", "title", "type", "uniqueItems",
}

// onlySchema drops what is no part of a schema.
func onlySchema(o object) object {
	return mapSchema(o, func(o object) object {
		return slices.DeleteFunc(o, func(m member) bool {
			return !slices.Contains(schemaWords, m.key) && !strings.HasPrefix(m.key, "x-")
		})
	})
}

// lessForV2 drops what OpenAPI v2 cannot say, and what would make clients refuse objects that are valid.
func lessForV2(o object) object {
	return mapSchema(o, func(o object) object {
		drop := []string{"allOf", "anyOf", "not", "nullable", "oneOf"}
		if o.get("x-kubernetes-preserve-unknown-fields") == true {
			drop = append(drop, "items", "properties")
		}
		if o.get("nullable") == true {
			drop = append(drop, "additionalProperties", "items", "properties", "type")
		}
		if properties, ok := o.get("properties").(object); ok && o.get("required") != nil {
			o.set("required", slices.DeleteFunc(listOf(o.get("required")), func(name any) bool {
				field, _ := name.(string)
				p, _ := properties.get(field).(object)
				return p.get("nullable") == true
			}))
		}
		return slices.DeleteFunc(o, func(m member) bool { return slices.Contains(drop, m.key) })
	})
}

// mapSchema applies f to a schema and then to those within what f left of it.
func mapSchema(o object, f func(object) object) object {
	o = f(slices.Clone(o))
	for i, m := range o {
		switch v := m.value.(type) {
		case object:
			switch m.key {
			case "properties":
				fields := slices.Clone(v)
				for j := range fields {
					if s, ok := fields[j].value.(object); ok {
						fields[j].value = mapSchema(s, f)
					}
				}
				o[i].value = fields
			case "items", "additionalProperties", "not":
				o[i].value = mapSchema(v, f)
			}
		case []any:
			if slices.Contains([]string{"allOf", "anyOf", "oneOf"}, m.key) {
				list := slices.Clone(v)
				for j := range list {
					if s, ok := list[j].(object); ok {
						list[j] = mapSchema(s, f)
					}
				}
				o[i].value = list
			}
		}
	}
	return o
}
