package openapi

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// The protobuf forms are the messages of gnostic, in which every JSON object is a message whose fields are called like the
// members. So the tree is written down by the messages' descriptors; gnostic's own way, over a tree of YAML and the
// messages in memory, takes many times the document's size.

// appendMessage writes v, a value of a tree, as a message.
func appendMessage(b []byte, d protoreflect.MessageDescriptor, v any) ([]byte, error) {
	if d.Name() == "Any" {
		return appendString(b, d.Fields().ByName("yaml"), string(appendJSON(nil, v))), nil
	}
	if d.Oneofs().Len() > 0 {
		f, inner := choose(d, v)
		if f == nil {
			return nil, fmt.Errorf("nothing in message %s is like %s", d.Name(), appendJSON(nil, v))
		}
		return appendField(b, f, inner)
	}
	switch d.Name() {
	case "TypeItem", "ItemsItem": // one or many
		return appendField(b, d.Fields().Get(0), listOf(v))
	}
	o, ok := v.(object)
	if !ok {
		return nil, fmt.Errorf("message %s cannot be %s", d.Name(), appendJSON(nil, v))
	}
	var err error
	for _, m := range o {
		if b, err = appendMember(b, d, m); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// appendMember writes a member of an object: as the field of its name, or into the list of those that have names of their own.
func appendMember(b []byte, d protoreflect.MessageDescriptor, m member) ([]byte, error) {
	fields := d.Fields()
	named := fields.ByName("additional_properties")
	if named == nil || named.Kind() != protoreflect.MessageKind || !named.IsList() {
		named = nil
	}
	name := "_ref"
	if m.key != "$ref" {
		name = snake(m.key)
	}
	f := fields.ByName(protoreflect.Name(name))
	switch {
	case named != nil:
		f = named
	case strings.HasPrefix(m.key, "x-"):
		f = anyOf(fields, "vendor_extension", "specification_extension")
	case f == nil || d.Name() == "Paths" || d.Name() == "Responses":
		f = anyOf(fields, "path", "response_code", "response_or_reference")
	case d.Name() == "Schema" && f.Kind() == protoreflect.MessageKind && f.Message().Name() == "DefaultType" && !scalar(m.value):
		return b, nil // a default of v3 has no place for lists and objects
	default:
		return appendField(b, f, m.value)
	}
	if f == nil {
		return nil, fmt.Errorf("message %s has no field for %s", d.Name(), m.key)
	}
	inner := f.Message().Fields()
	b = protowire.AppendTag(b, f.Number(), protowire.BytesType)
	start := len(b)
	b = appendString(b, inner.ByName("name"), m.key)
	b, err := appendField(b, inner.ByName("value"), m.value)
	if err != nil {
		return nil, err
	}
	return insertLength(b, start), nil
}

// appendField writes a value as a field; a list as one for each element.
func appendField(b []byte, f protoreflect.FieldDescriptor, v any) ([]byte, error) {
	if f.IsList() {
		var err error
		for _, e := range listOf(v) {
			if b, err = appendOne(b, f, e); err != nil {
				return nil, err
			}
		}
		return b, nil
	}
	return appendOne(b, f, v)
}

func appendOne(b []byte, f protoreflect.FieldDescriptor, v any) ([]byte, error) {
	switch f.Kind() {
	case protoreflect.MessageKind:
		b = protowire.AppendTag(b, f.Number(), protowire.BytesType)
		start := len(b)
		b, err := appendMessage(b, f.Message(), v)
		if err != nil {
			return nil, err
		}
		return insertLength(b, start), nil
	case protoreflect.StringKind:
		if s, ok := v.(string); ok {
			return appendString(b, f, s), nil
		}
	case protoreflect.BoolKind:
		if v, ok := v.(bool); ok {
			return protowire.AppendVarint(protowire.AppendTag(b, f.Number(), protowire.VarintType), protowire.EncodeBool(v)), nil
		}
	case protoreflect.DoubleKind:
		if n, err := strconv.ParseFloat(numberOf(v), 64); err == nil {
			return protowire.AppendFixed64(protowire.AppendTag(b, f.Number(), protowire.Fixed64Type), math.Float64bits(n)), nil
		}
	case protoreflect.Int64Kind:
		if n, err := strconv.ParseInt(numberOf(v), 10, 64); err == nil {
			return protowire.AppendVarint(protowire.AppendTag(b, f.Number(), protowire.VarintType), uint64(n)), nil
		}
	}
	return nil, fmt.Errorf("field %s cannot be %s", f.FullName(), appendJSON(nil, v))
}

// numberOf returns a number as it is written, "" for anything else.
func numberOf(v any) string {
	raw, _ := v.(json.RawMessage)
	return string(raw)
}

// choose finds which of the alternatives of a message is meant, and with what value.
func choose(d protoreflect.MessageDescriptor, v any) (protoreflect.FieldDescriptor, any) {
	fields := d.Fields()
	o, _ := v.(object)
	is := func(names ...protoreflect.Name) protoreflect.FieldDescriptor { return anyOf(fields, names...) }
	switch d.Name() {
	case "ParametersItem", "ResponseValue", "SchemaOrReference", "ParameterOrReference", "ResponseOrReference", "RequestBodyOrReference":
		if o.get("$ref") != nil {
			return is("json_reference", "reference"), v
		}
		return is("parameter", "response", "schema", "request_body"), v
	case "Parameter":
		if o.text("in") == "body" {
			return is("body_parameter"), v
		}
		return is("non_body_parameter"), v
	case "NonBodyParameter":
		return is(protoreflect.Name(o.text("in") + "_parameter_sub_schema")), v
	case "SchemaItem":
		return is("schema"), v
	case "AdditionalPropertiesItem":
		if _, ok := v.(bool); ok {
			return is("boolean"), v
		}
		return is("schema", "schema_or_reference"), v
	case "DefaultType":
		switch n := defaultOf(v).(type) {
		case string:
			return is("string"), n
		case bool:
			return is("boolean"), n
		case float64:
			return is("number"), v
		}
	}
	return nil, nil
}

func scalar(v any) bool {
	switch defaultOf(v).(type) {
	case string, bool, float64:
		return true
	}
	return false
}

// defaultOf decodes what is still text.
func defaultOf(v any) any {
	if raw, ok := v.(json.RawMessage); ok {
		var out any
		if json.Unmarshal(raw, &out) == nil {
			return out
		}
	}
	return v
}

func anyOf(fields protoreflect.FieldDescriptors, names ...protoreflect.Name) protoreflect.FieldDescriptor {
	for _, n := range names {
		if f := fields.ByName(n); f != nil {
			return f
		}
	}
	return nil
}

func listOf(v any) []any {
	switch v := v.(type) {
	case []any:
		return v
	case []string:
		out := make([]any, len(v))
		for i := range v {
			out[i] = v[i]
		}
		return out
	}
	return []any{v}
}

func appendString(b []byte, f protoreflect.FieldDescriptor, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, f.Number(), protowire.BytesType), s)
}

// insertLength puts the length of a message before it: everything from start on. That spares a copy of each message within
// each other one.
func insertLength(b []byte, start int) []byte {
	n := len(b) - start
	return slices.Insert(b, start, protowire.AppendVarint(nil, uint64(n))...)
}

// snake is how a message calls a member: additionalProperties is additional_properties.
func snake(key string) string {
	if !slices.ContainsFunc([]byte(key), func(c byte) bool { return c >= 'A' && c <= 'Z' }) {
		return key
	}
	var b []byte
	for i := range len(key) {
		c := key[i]
		if c >= 'A' && c <= 'Z' {
			b = append(b, '_', c+'a'-'A')
			continue
		}
		b = append(b, c)
	}
	return string(b)
}
