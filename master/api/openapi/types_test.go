package openapi

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	shoalapi "shoal/internal/api"
)

// TestEveryTypeIsDescribedAsItIsEncoded holds the schema of each type of the scheme against what encoding/json makes of a value.
func TestEveryTypeIsDescribedAsItIsEncoded(t *testing.T) {
	s := shoalapi.NewScheme()
	for _, d := range []dialect{v2, v3} {
		b := newDefinitions(d, newMaker(s))
		types := allTypes(s)
		for _, typ := range types {
			if typ.Kind() == reflect.Struct {
				b.ref(typ)
			}
		}
		for _, typ := range types {
			if typ.Kind() == reflect.Struct {
				name := typeName(typ)
				checkType(t, b, typ, name)
			}
		}
	}
}

func checkType(t *testing.T, b *definitions, typ reflect.Type, name string) {
	t.Helper()
	schema := b.schemas.get(name).(object)
	if special(typ, b.dialect, &object{}) {
		return
	}
	properties, _ := schema.get("properties").(object)
	for _, p := range properties {
		if s := p.value.(object); s.text("description") == "" && docsOf(typ)[p.key] != "" {
			t.Errorf("%s.%s lost its description", name, p.key)
		}
	}
	if len(properties) == 0 {
		return // encoded by itself: RawExtension, FieldsV1
	}
	encoded := map[string]any{}
	for seed := range int64(4) {
		v := reflect.New(typ)
		filler(seed).Fill(v.Interface())
		raw, err := json.Marshal(v.Interface())
		if err != nil {
			if strings.Contains(err.Error(), "RawExtension") || strings.Contains(err.Error(), "Object") {
				return
			}
			t.Fatalf("%s: %v", name, err)
		}
		if err := json.Unmarshal(raw, &encoded); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for field, value := range encoded {
		p, ok := properties.get(field).(object)
		if !ok {
			t.Errorf("%s has no %s", name, field)
			continue
		}
		if typ := b.jsonType(p); value != nil && typ != "" && typ != kindOf(value) {
			t.Errorf("%s.%s is described as %s and encoded as %s", name, field, typ, kindOf(value))
		}
	}
	for _, p := range properties {
		if _, ok := encoded[p.key]; !ok && !hasTag(typ, p.key) {
			t.Errorf("%s has a field %s that no tag names", name, p.key)
		}
	}
}

// jsonType follows references to what a value is in JSON; "" for any of several.
func (b *definitions) jsonType(s object) string {
	if all, ok := s.get("allOf").([]any); ok {
		s = all[0].(object)
	}
	if ref := s.text("$ref"); ref != "" {
		s = b.schemas.get(strings.TrimPrefix(ref, b.dialect.prefix())).(object)
	}
	switch typ := s.text("type"); {
	case s.text("format") == "int-or-string" || s.get("properties") == nil && typ == "object" && s.get("additionalProperties") == nil:
		return ""
	case typ == "integer":
		return "number"
	default:
		return typ
	}
}

func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "string"
	case bool:
		return "boolean"
	case float64:
		return "number"
	case []any:
		return "array"
	}
	return "object"
}

func hasTag(t reflect.Type, name string) bool {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == name || tag == "" && f.Anonymous && hasTag(f.Type, name) {
			return true
		}
	}
	return false
}
