package openapi

import (
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// dialect is a version of OpenAPI.
type dialect int

const (
	v2 dialect = 2
	v3 dialect = 3
)

// definitions collects the schemas that a document needs, each once.
type definitions struct {
	dialect dialect
	facts   facts
	kinds   map[reflect.Type][]schema.GroupVersionKind
	known   map[reflect.Type]string // by type, the name under which it is in schemas
	customs map[string]bool         // names of schemas that have no type
	schemas object
}

func newDefinitions(d dialect, m *maker) *definitions {
	return &definitions{dialect: d, facts: m.facts, kinds: m.kinds, known: map[reflect.Type]string{}, customs: map[string]bool{}}
}

// prefix is where references point.
func (d dialect) prefix() string {
	if d == v2 {
		return "#/definitions/"
	}
	return "#/components/schemas/"
}

// ref returns a reference to the schema of a Go type, which it adds if it is new.
func (b *definitions) ref(t reflect.Type) object {
	name, ok := b.known[t]
	if !ok {
		name = typeName(t)
		b.known[t] = name
		at := len(b.schemas)
		b.schemas.add(name, nil) // before its fields: types may contain themselves
		s := b.definition(t, name)
		b.schemas[at].value = s
	}
	return object{{"$ref", b.dialect.prefix() + name}}
}

// typeName is the name that every Kubernetes API has a type under.
func typeName(t reflect.Type) string {
	if n, ok := reflect.Zero(t).Interface().(interface{ OpenAPIModelName() string }); ok {
		return n.OpenAPIModelName()
	}
	host, path, _ := strings.Cut(t.PkgPath(), "/")
	parts := strings.Split(host, ".")
	slices.Reverse(parts)
	return strings.Join(append(parts, strings.Split(path, "/")...), ".") + "." + t.Name()
}

// definition returns the whole schema of a type that has a name.
func (b *definitions) definition(t reflect.Type, name string) object {
	var s object
	docs := docsOf(t)
	if docs[""] != "" {
		s.add("description", docs[""])
	}
	if special(t, b.dialect, &s) {
		return s
	}
	var properties object
	var required []string
	b.fields(t, &properties, &required)
	properties.sort()
	slices.Sort(required)
	if len(properties) > 0 {
		s.add("properties", properties)
	}
	if len(required) > 0 {
		s.add("required", required)
	}
	s.add("type", "object")
	if kinds := b.kinds[t]; len(kinds) > 0 {
		slices.SortFunc(kinds, func(x, y schema.GroupVersionKind) int { return strings.Compare(x.String(), y.String()) })
		var list []any
		for _, k := range kinds {
			list = append(list, kindObject(k))
		}
		s.add("x-kubernetes-group-version-kind", list)
	}
	b.facts[name]["."].extend(&s)
	return s
}

// special describes types whose JSON is not what their fields suggest; they say so themselves.
func special(t reflect.Type, d dialect, s *object) bool {
	self, ok := reflect.Zero(t).Interface().(interface {
		OpenAPISchemaType() []string
		OpenAPISchemaFormat() string
	})
	if !ok {
		return false
	}
	if f := self.OpenAPISchemaFormat(); f != "" {
		s.add("format", f)
	}
	if either, ok := self.(interface{ OpenAPIV3OneOfTypes() []string }); ok && d == v3 {
		var list []any
		for _, t := range either.OpenAPIV3OneOfTypes() {
			list = append(list, object{{"type", t}})
		}
		s.add("oneOf", list)
		return true
	}
	if types := self.OpenAPISchemaType(); len(types) > 0 { // none means any
		s.add("type", types[0])
	}
	return true
}

// fields adds the fields of a struct, those of inlined structs included.
func (b *definitions) fields(t reflect.Type, properties *object, required *[]string) {
	docs, known := docsOf(t), b.facts[typeName(t)]
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
			continue
		case name == "" && f.Anonymous:
			b.fields(f.Type, properties, required)
			continue
		case name == "":
			name = f.Name
		}
		fact := known[name]
		properties.add(name, b.field(f, docs[name], fact))
		if fact.required || !fact.optional && !strings.Contains(options, "omitempty") {
			*required = append(*required, name)
		}
	}
}

// field returns the schema of a field: that of its type and what is said of the field.
func (b *definitions) field(f reflect.StructField, doc string, fact fact) object {
	s := b.goType(f.Type)
	var about object
	if doc != "" {
		about.add("description", doc)
	}
	if fact.def != nil {
		about.add("default", fact.def)
	}
	fact.extend(&about)
	if key := f.Tag.Get("patchMergeKey"); key != "" {
		about.add("x-kubernetes-patch-merge-key", key)
	}
	if strategy := f.Tag.Get("patchStrategy"); strategy != "" {
		about.add("x-kubernetes-patch-strategy", strategy)
	}
	if s.get("$ref") != nil && b.dialect == v3 && len(about) > 0 {
		// In OpenAPI v3 nothing may stand beside a reference.
		s = object{{"allOf", []any{s}}}
	}
	return append(about, s...)
}

// goType returns the schema of any type: a reference for those that have a definition, else all of it.
func (b *definitions) goType(t reflect.Type) object {
	switch t.Kind() {
	case reflect.Pointer:
		return b.goType(t.Elem())
	case reflect.Struct:
		return b.ref(t)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return object{{"format", "byte"}, {"type", "string"}}
		}
		return object{{"items", b.goType(t.Elem())}, {"type", "array"}}
	case reflect.Map:
		return object{{"additionalProperties", b.goType(t.Elem())}, {"type", "object"}}
	case reflect.String:
		s := object{{"type", "string"}}
		if t.PkgPath() != "" {
			if values := b.facts[typeName(t)]["."].enum; values != nil {
				s.add("enum", values)
			}
		}
		return s
	case reflect.Bool:
		return object{{"type", "boolean"}}
	case reflect.Int64, reflect.Uint32, reflect.Uint64:
		return object{{"format", "int64"}, {"type", "integer"}}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Uint, reflect.Uint16:
		return object{{"format", "int32"}, {"type", "integer"}}
	case reflect.Uint8:
		return object{{"format", "byte"}, {"type", "integer"}}
	case reflect.Float32, reflect.Float64:
		return object{{"format", "double"}, {"type", "number"}}
	}
	return object{} // an interface: anything
}

// docsOf returns what a type says of itself (at "") and of its fields by JSON name.
func docsOf(t reflect.Type) map[string]string {
	if d, ok := reflect.Zero(t).Interface().(interface{ SwaggerDoc() map[string]string }); ok {
		return d.SwaggerDoc()
	}
	return nil
}

func kindObject(k schema.GroupVersionKind) object {
	return object{{"group", k.Group}, {"kind", k.Kind}, {"version", k.Version}}
}
