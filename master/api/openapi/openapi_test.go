package openapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	openapiv3 "github.com/google/gnostic-models/openapiv3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/util/proto/validation"
	"sigs.k8s.io/yaml"

	shoalapi "shoal/internal/api"
)

// things is a resource whose kind has no Go type and nearly everything that a schema may have.
func things() Resource {
	return Resource{
		GroupVersionKind: schema.GroupVersionKind{Group: "shop.example.com", Version: "v1", Kind: "Thing"},
		Resource:         "things", Namespaced: true,
		Verbs: []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"},
		Schema: []byte(`{"type":"object","description":"A thing","required":["spec"],"notaschemaword":1,"properties":{
			"metadata":{"type":"object"},
			"spec":{"type":"object","required":["size","maybe"],"properties":{
				"size":{"type":"integer","format":"int32","minimum":1,"maximum":1e3,"exclusiveMaximum":true,"default":3},
				"maybe":{"type":"string","nullable":true,"enum":["a","b"],"maxLength":9,"pattern":"^a"},
				"port":{"x-kubernetes-int-or-string":true,"anyOf":[{"type":"integer"},{"type":"string"}]},
				"free":{"type":"object","x-kubernetes-preserve-unknown-fields":true,"properties":{"a":{"type":"string"}}},
				"items":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],"default":[],
					"items":{"type":"object","required":["k"],"properties":{"k":{"type":"string"},"not":{"not":{"type":"string"}}}}},
				"map":{"type":"object","additionalProperties":{"type":"array","items":{"type":"boolean"}}},
				"$ref":{"type":"string"},
				"any":{"type":"object","additionalProperties":true,"oneOf":[{"required":["x"]},{"required":["z"]}]}}}}}`),
	}
}

func TestProtobufSaysWhatJSONSays(t *testing.T) {
	o := served(things())
	check := func(path string, f form, doc proto.Message, text func() ([]byte, error)) {
		t.Helper()
		var want, got any
		if err := json.Unmarshal(body(t, o, path, formJSON), &want); err != nil {
			t.Fatal(err)
		}
		if err := proto.Unmarshal(body(t, o, path, f), doc); err != nil {
			t.Fatal(err)
		}
		b, err := text()
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(plain(want), plain(got)); diff != "" {
			t.Errorf("%s (-JSON +protobuf):\n%.3000s", path, diff)
		}
	}
	var d2 openapiv2.Document
	check("v2", formProto2, &d2, func() ([]byte, error) { return d2.YAMLValue("") })
	for _, gv := range o.versions() {
		var d3 openapiv3.Document
		check("v3/"+pathOf(gv), formProto3, &d3, func() ([]byte, error) { return d3.YAMLValue("") })
	}
}

// plain drops what gnostic's messages cannot carry: an empty default.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if d := reflect.ValueOf(e); k == "default" && e != nil && (d.IsZero() || d.Kind() == reflect.Slice) {
				delete(v, k)
				continue
			}
			v[k] = plain(e)
		}
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	}
	return v
}

func TestKindsWithoutATypeBringTheirSchema(t *testing.T) {
	o := served(things())
	var doc struct {
		Paths      map[string]any `json:"paths"`
		Components struct {
			Schemas map[string]struct {
				Properties map[string]any `json:"properties"`
				Kinds      []any          `json:"x-kubernetes-group-version-kind"`
			} `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(body(t, o, "v3/apis/shop.example.com/v1", formJSON), &doc); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"com.example.shop.v1.Thing", "com.example.shop.v1.ThingList"} {
		s := doc.Components.Schemas[name]
		if s.Properties["metadata"] == nil || s.Properties["apiVersion"] == nil || s.Properties["kind"] == nil || len(s.Kinds) != 1 {
			t.Errorf("%s: %+v", name, s)
		}
	}
	one := doc.Paths["/apis/shop.example.com/v1/namespaces/{namespace}/things/{name}"]
	if one == nil || len(doc.Paths) != 3 {
		t.Errorf("paths: %v", doc.Paths)
	}
	// kubectl apply sends the kind of patch that is offered, and nobody knows how lists of such a kind merge strategically.
	for what, text := range map[string][]byte{"v3": body(t, o, "v3/apis/shop.example.com/v1", formJSON), "v2": body(t, o, "v2", formJSON)} {
		var all struct {
			Paths map[string]map[string]any `json:"paths"`
		}
		if err := json.Unmarshal(text, &all); err != nil {
			t.Fatal(err)
		}
		for path, item := range all.Paths {
			if !strings.Contains(path, "shop.example.com") || item["patch"] == nil {
				continue
			}
			how := fmt.Sprint(item["patch"])
			if strings.Contains(how, "application/strategic-merge-patch+json") || !strings.Contains(how, "application/merge-patch+json") {
				t.Errorf("%s %s: %s", what, path, how)
			}
		}
	}
	all := modelsOf(t, o)
	for object, want := range map[string]string{
		`{"metadata":{"name":"a"},"spec":{"size":1}}`:                                          "",
		`{"spec":{"size":1,"maybe":null,"port":"http","map":{"a":[true]}}}`:                    "",
		`{"spec":{"size":1,"port":80,"free":{"b":{"c":1}},"any":{"x":1},"items":[{"k":"a"}]}}`: "",
		`{"metadata":{"nam":"a"},"spec":{"size":1}}`:                                           `unknown field "nam"`,
		`{"spec":{"size":"big"}}`:                                                              `expected "integer"`,
		`{"spec":{"sise":1,"size":1}}`:                                                         `unknown field "sise"`,
		`{"spec":{}}`:                                                                          `missing required field "size"`,
		`{"spec":{"size":1,"items":[{}]}}`:                                                     `missing required field "k"`,
	} {
		var v any
		if err := json.Unmarshal([]byte(object), &v); err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, err := range validation.ValidateModel(v, all.LookupModel("com.example.shop.v1.Thing"), "Thing") {
			text += err.Error()
		}
		if (want == "") != (text == "") || !strings.Contains(text, want) {
			t.Errorf("%s: %q, want %q", object, text, want)
		}
	}
}

func TestBrokenSchemasTakeNothingElseDown(t *testing.T) {
	r := things()
	for _, s := range []string{``, `{`, `[]`, `"x"`, `{"properties":7,"items":[{"type":"string"}],"required":"x"}`, `{"minimum":"low","type":["a","b"]}`} {
		r.Schema = []byte(s)
		o := New(Config{Scheme: shoalapi.NewScheme(), Resources: func() ([]Resource, uint64) { return []Resource{r}, 1 }})
		for _, w := range []want{{"v2", formJSON}, {"v2", formProto2}, {"v3/apis/shop.example.com/v1", formProto3}, {"v3", formJSON}} {
			if _, err := o.Find(w.path, string(w.form)); err != nil {
				t.Errorf("schema %q: %s as %s: %v", s, w.path, w.form, err)
			}
		}
	}
}

func TestDocumentsAreBuiltOnceAGeneration(t *testing.T) {
	var generation uint64
	rs := served().cfg
	o := New(Config{Scheme: shoalapi.NewScheme(), Resources: func() ([]Resource, uint64) {
		list, _ := rs.Resources()
		if generation > 0 {
			list = append(list[:len(list):len(list)], things())
		}
		return list, generation
	}})
	find := func(path string) *Document {
		t.Helper()
		d, err := o.Find(path, "")
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	first, index := find("v3/api/v1"), find("v3")
	if find("/v3/api/v1/") != first {
		t.Error("built twice")
	}
	if _, err := o.Find("v3/apis/shop.example.com/v1", ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("before it is served: %v", err)
	}
	generation = 1
	again := find("v3/api/v1")
	if again == first || again.hash != first.hash {
		t.Error("another generation has other documents, but what is the same has the same hash")
	}
	find("v3/apis/shop.example.com/v1")
	if find("v3").hash == index.hash {
		t.Error("the index did not change with what is served")
	}
}
