package openapi

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/kube-openapi/pkg/schemaconv"
	models "k8s.io/kube-openapi/pkg/util/proto"
	"k8s.io/kube-openapi/pkg/util/proto/validation"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/randfill"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"

	shoalapi "shoal/internal/api"
)

// served is the OpenAPI of every row of the kinds table.
func served(extra ...Resource) *OpenAPI {
	var rs []Resource
	for _, k := range shoalapi.Kinds() {
		r := Resource{
			GroupVersionKind: k.GroupVersionKind, Resource: k.Resource, Namespaced: k.Namespaced,
			Verbs: []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"},
		}
		if k == shoalapi.Namespaces {
			r.Verbs = []string{"create", "delete", "get", "list", "patch", "update", "watch"}
		}
		if k.HasSubresource("status") {
			r.Subs = append(r.Subs, Sub{Name: "status", Kind: k.GroupVersionKind, Verbs: []string{"get", "patch", "update"}})
		}
		rs = append(rs, r)
	}
	rs = append(rs, extra...)
	return New(Config{
		Scheme: shoalapi.NewScheme(), Resources: func() ([]Resource, uint64) { return rs, 1 }, Version: "v1",
	})
}

// body returns a document as it is sent.
func body(t testing.TB, o *OpenAPI, path string, f form) []byte {
	t.Helper()
	d, err := o.Find(path, string(f))
	if err != nil {
		t.Fatalf("%s as %s: %v", path, f, err)
	}
	zr, err := gzip.NewReader(bytes.NewReader(d.gz))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(zr)
	if err != nil || len(b) != d.size {
		t.Fatalf("%s: %d of %d bytes, %v", path, len(b), d.size, err)
	}
	return b
}

// modelsOf parses v2 the way every kubectl does.
func modelsOf(t *testing.T, o *OpenAPI) models.Models {
	t.Helper()
	var doc openapiv2.Document
	if err := proto.Unmarshal(body(t, o, "v2", formProto2), &doc); err != nil {
		t.Fatal(err)
	}
	m, err := models.NewOpenAPIData(&doc)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// filler makes objects that have nearly every field.
func filler(seed int64) *randfill.Filler {
	return randfill.NewWithSeed(seed).NilChance(0.05).NumElements(1, 2).MaxDepth(30).Funcs(
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewQuantity(int64(c.Intn(1000)), resource.DecimalSI)
		},
		func(v *metav1.Time, _ randfill.Continue) { *v = metav1.Unix(1e9, 0) },
		func(v *metav1.MicroTime, _ randfill.Continue) { *v = metav1.MicroTime{Time: metav1.Unix(1e9, 0).Time} },
		func(v *any, _ randfill.Continue) { *v = "cell" },
		func(v *runtime.Object, _ randfill.Continue) { *v = &metav1.Status{} },
		func(v *runtime.RawExtension, _ randfill.Continue) { v.Raw = []byte(`{"a":[1]}`) },
		func(v *metav1.FieldsV1, _ randfill.Continue) { v.SetRawBytes([]byte(`{"f:a":{}}`)) },
		// Schemas contain themselves many times over.
		func(v *apiextensionsv1.JSONSchemaProps, _ randfill.Continue) {
			*v = apiextensionsv1.JSONSchemaProps{
				Type: "object", Description: "any", Default: &apiextensionsv1.JSON{Raw: []byte(`{"a":[1]}`)}, Required: []string{"a"},
				Properties:           map[string]apiextensionsv1.JSONSchemaProps{"a": {Items: &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &apiextensionsv1.JSONSchemaProps{Type: "string"}}}},
				AdditionalProperties: &apiextensionsv1.JSONSchemaPropsOrBool{Allows: true},
			}
		},
		func(v *intstr.IntOrString, c randfill.Continue) {
			if *v = intstr.FromString("25%"); c.Bool() {
				*v = intstr.FromInt32(7)
			}
		},
	)
}

func TestValidationOfOldKubectlTakesEveryObject(t *testing.T) {
	all := modelsOf(t, served())
	for _, k := range shoalapi.Kinds() {
		for seed := range int64(3) {
			o := k.New()
			filler(seed).Fill(o)
			o.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
			b, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			var v any
			if err := json.Unmarshal(b, &v); err != nil {
				t.Fatal(err)
			}
			name := typeName(reflect.TypeOf(o).Elem())
			for _, err := range validation.ValidateModel(v, all.LookupModel(name), k.Kind) {
				if missing := (validation.MissingRequiredFieldError{}); errors.As(err.(validation.ValidationError).Err, &missing) {
					continue // chance may leave out anything
				}
				t.Errorf("%s, seed %d: %v", k.Kind, seed, err)
			}
		}
	}
}

func TestValidationOfOldKubectlRefuses(t *testing.T) {
	all := modelsOf(t, served())
	for _, c := range []struct{ rule, model, object, want string }{
		{"unknown field", "io.k8s.api.core.v1.Container", `{"name":"c","imagee":"i"}`, `unknown field "imagee"`},
		{"required field", "io.k8s.api.core.v1.Container", `{"image":"i"}`, `missing required field "name"`},
		{"wrong type", "io.k8s.api.core.v1.ContainerPort", `{"containerPort":"eighty"}`, `got "string", expected "integer"`},
		{"list for a map", "io.k8s.api.core.v1.ConfigMap", `{"data":["a"]}`, `got "array", expected "map"`},
		{"object for a string or number", "io.k8s.api.core.v1.HTTPGetAction", `{"port":{"a":1}}`, `got "map", expected "string"`},
	} {
		var v any
		if err := json.Unmarshal([]byte(c.object), &v); err != nil {
			t.Fatal(err)
		}
		var text []string
		for _, err := range validation.ValidateModel(v, all.LookupModel(c.model), "x") {
			text = append(text, err.Error())
		}
		if len(text) != 1 || !strings.Contains(text[0], c.want) {
			t.Errorf("%s: %q, want one with %q", c.rule, text, c.want)
		}
	}
}

// TestMergingIsThatOfClientGo compares what the schemas say of merging with the schemas that client-go has for apply.
func TestMergingIsThatOfClientGo(t *testing.T) {
	o := served()
	scheme := shoalapi.NewScheme()
	pod := shoalapi.Pods.New()
	pod.GetObjectKind().SetGroupVersionKind(shoalapi.Pods.GroupVersionKind)
	typed, err := applyconfigurations.NewTypeConverter(scheme).ObjectToTyped(pod)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]smd.TypeDef{}
	for _, d := range typed.Schema().Types {
		want[d.Name] = d
	}
	fromV2, err := schemaconv.ToSchema(modelsOf(t, o))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*spec.Schema{}
	for _, gv := range o.versions() {
		var doc struct {
			Components struct {
				Schemas map[string]*spec.Schema `json:"schemas"`
			} `json:"components"`
		}
		if err := json.Unmarshal(body(t, o, "v3/"+pathOf(gv), formJSON), &doc); err != nil {
			t.Fatal(err)
		}
		for name, s := range doc.Components.Schemas {
			all[name] = s
		}
	}
	fromV3, err := schemaconv.ToSchemaFromOpenAPI(all, false)
	if err != nil {
		t.Fatal(err)
	}
	plain := map[string]bool{} // without those that are written in their own way, like Time
	for _, t := range allTypes(scheme) {
		plain[typeName(t)] = true
	}
	compared := 0
	for version, got := range map[string]*smd.Schema{"v2": fromV2, "v3": fromV3} {
		for _, d := range got.Types {
			w, ok := want[d.Name]
			if !ok || !plain[d.Name] {
				continue
			}
			if version == "v3" && strings.Contains(atom(w.Atom), "__untyped") {
				continue // objects of any content; the library reads them in two ways
			}
			compared++
			if diff := cmp.Diff(atom(w.Atom), atom(d.Atom)); diff != "" {
				t.Errorf("%s of %s (-client-go +this):\n%s", d.Name, version, diff)
			}
		}
	}
	if compared < 500 {
		t.Errorf("only %d types compared", compared)
	}
}

// atom writes down how a value merges. What cannot be told from absent (empty defaults) is left out.
func atom(a smd.Atom) string {
	var parts []string
	if a.Scalar != nil {
		parts = append(parts, string(*a.Scalar))
	}
	if l := a.List; l != nil {
		parts = append(parts, fmt.Sprintf("list of %s, %s by %s", typeRef(l.ElementType), l.ElementRelationship, l.Keys))
	}
	if m := a.Map; m != nil {
		parts = append(parts, fmt.Sprintf("map of %s, %s", typeRef(m.ElementType), m.ElementRelationship))
		fields := slices.Clone(m.Fields)
		slices.SortFunc(fields, func(a, b smd.StructField) int { return strings.Compare(a.Name, b.Name) })
		for _, f := range fields {
			line := "\n" + f.Name + ": " + typeRef(f.Type)
			if f.Default != nil && !reflect.ValueOf(f.Default).IsZero() && fmt.Sprint(f.Default) != "map[]" {
				line += fmt.Sprint(" default ", f.Default)
			}
			parts = append(parts, line)
		}
	}
	return strings.Join(parts, " ")
}

func typeRef(r smd.TypeRef) string {
	s := atom(r.Inlined)
	if r.NamedType != nil {
		s = *r.NamedType
	}
	if r.ElementRelationship != nil {
		s += " " + string(*r.ElementRelationship)
	}
	return s
}
