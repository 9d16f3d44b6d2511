package custom_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"shoal/internal/api"
	"shoal/internal/api/custom"
	"shoal/internal/api/custom/customtest"
)

// boats returns the rows of v1 and v1beta1.
func boats(t testing.TB) (v1, v1beta1 *api.Kind) {
	t.Helper()
	d := customtest.Definition(customtest.Boats)
	api.CustomResourceDefinitions.Default(d)
	api.CustomResourceDefinitions.PrepareCreate(d)
	if errs := append(api.CustomResourceDefinitions.ValidateMeta(d), api.CustomResourceDefinitions.Validate(d)...); len(errs) > 0 {
		t.Fatal(errs)
	}
	kinds, err := custom.Kinds(d)
	if err != nil || len(kinds) != 2 {
		t.Fatal(kinds, err)
	}
	return kinds[0], kinds[1]
}

// read returns the object of a YAML spec and what was odd about it.
func read(t testing.TB, k *api.Kind, spec string) (api.Object, []error) {
	t.Helper()
	b, err := yaml.YAMLToJSON([]byte(fmt.Sprintf("apiVersion: sea.example.com/%s\nkind: Boat\nmetadata: {name: b, namespace: sea}\n%s", k.Version, spec)))
	if err != nil {
		t.Fatal(err)
	}
	o, odd, err := k.ReadCustom(b)
	if err != nil {
		t.Fatal(err)
	}
	return o, odd
}

func TestTheNewestVersionComesFirst(t *testing.T) {
	v1, v1beta1 := boats(t)
	if v1.Version != "v1" || v1beta1.Version != "v1beta1" || v1.Singular != "boat" || !v1.Namespaced {
		t.Errorf("got %+v and %+v", v1, v1beta1)
	}
	if v1beta1.HasSubresource("status") || !v1.HasSubresource("status") || !v1.HasSubresource("scale") {
		t.Error("subresources belong to a version")
	}
}

func TestWhatTheSchemaDoesNotHaveIsDropped(t *testing.T) {
	v1, v1beta1 := boats(t)
	const spec = "spec: {hull: wood, masts: 3, cargo: {rum: 1}, crew: [{name: a, parrot: true}], flags: {up: true}}\nextra: 1"
	o, odd := read(t, v1, spec)
	var texts []string
	for _, e := range odd {
		texts = append(texts, e.Error())
	}
	slices.Sort(texts)
	if got, want := strings.Join(texts, "; "), `unknown field "extra"; unknown field "spec.crew[0].parrot"; unknown field "spec.masts"`; got != want {
		t.Errorf("odd: %s, want %s", got, want)
	}
	b, err := yaml.Marshal(o)
	if err != nil || strings.Contains(string(b), "masts") || !strings.Contains(string(b), "rum: 1") || !strings.Contains(string(b), "up: true") {
		t.Errorf("got %s, %v", b, err)
	}
	if _, odd := read(t, v1beta1, spec); len(odd) != 0 {
		t.Errorf("a version that preserves all found odd: %v", odd)
	}
}

func TestDefaults(t *testing.T) {
	v1, _ := boats(t)
	for spec, want := range map[string]string{
		"spec: {hull: wood}":                                "{hull: wood, oars: 2}",
		"spec: {hull: wood, oars: null}":                    "{hull: wood, oars: 2}",
		"spec: {hull: wood, oars: 0}":                       "{hull: wood, oars: 0}",
		"spec: {hull: wood, name: null}":                    "{hull: wood, oars: 2}",
		"spec: {hull: wood, crew: [{name: a, rank: null}]}": "{hull: wood, oars: 2, crew: [{name: a, rank: sailor}]}",
	} {
		o, _ := read(t, v1, spec)
		v1.Default(o)
		wanted, _ := read(t, v1, "spec: "+want)
		got, _ := yaml.Marshal(o)
		wants, _ := yaml.Marshal(wanted)
		if string(got) != string(wants) {
			t.Errorf("%s: got\n%swant\n%s", spec, got, wants)
		}
		v1.Default(o)
		if again, _ := yaml.Marshal(o); string(again) != string(got) {
			t.Errorf("%s: a second time made\n%s", spec, again)
		}
	}
}

func TestValidation(t *testing.T) {
	v1, _ := boats(t)
	for spec, want := range map[string]string{
		"spec: {hull: wood}":                              "",
		"spec: {hull: wood, oars: 50}":                    "",
		"status: {}":                                      "spec FieldValueRequired",
		"spec: {}":                                        "spec.hull FieldValueRequired",
		"spec: {hull: glass}":                             "spec.hull FieldValueNotSupported",
		"spec: {hull: wood, oars: 51}":                    "spec.oars FieldValueInvalid",
		"spec: {hull: wood, oars: many}":                  "spec.oars FieldValueTypeInvalid",
		"spec: {hull: wood, name: abcdefghijk}":           "spec.name FieldValueTooLong",
		"spec: {hull: wood, crew: [{rank: a}]}":           "spec.crew[0].name FieldValueRequired",
		"spec: {hull: wood, crew: [{name: a},{name: a}]}": "spec.crew[1] FieldValueDuplicate",
		"spec: {hull: wood, flags: {up: 1}}":              "spec.flags.up FieldValueTypeInvalid",
		"spec: steel":                                     "spec FieldValueTypeInvalid",
	} {
		o, _ := read(t, v1, spec)
		if got := causes(v1.Validate(o)); got != want {
			t.Errorf("%s: got %q, want %q", spec, got, want)
		}
	}
}

func causes(errs field.ErrorList) string {
	var out []string
	for _, e := range errs {
		out = append(out, e.Field+" "+string(e.Type))
	}
	return strings.Join(out, ", ")
}

// An object that a stricter schema found must stay usable.
func TestWhatWasWrongBeforeIsForgiven(t *testing.T) {
	v1, _ := boats(t)
	old, _ := read(t, v1, "spec: {hull: glass, oars: 1}")
	same, _ := read(t, v1, "spec: {hull: glass, oars: 2}")
	worse, _ := read(t, v1, "spec: {hull: glass, oars: 99}")
	if errs := v1.ValidateUpdate(same, old); len(errs) > 0 {
		t.Error(errs)
	}
	if got := causes(v1.ValidateUpdate(worse, old)); got != "spec.oars FieldValueInvalid" {
		t.Error(got)
	}
}

func TestColumnsAndScaleAndFields(t *testing.T) {
	v1, v1beta1 := boats(t)
	o, _ := read(t, v1, "spec: {hull: steel, oars: 4}\nstatus: {oars: 3, selector: a=b}")
	o.SetCreationTimestamp(metav1.Unix(1000, 0))
	if got := fmt.Sprint(v1.Cells(o, time.Unix(1060, 0))); got != "[b 4 steel 60s]" {
		t.Errorf("cells %s", got)
	}
	if got := fmt.Sprint(v1beta1.Cells(o, time.Unix(1060, 0))); got != "[b 60s]" {
		t.Errorf("cells of a version without columns %s", got)
	}
	s, ok := api.ScaleOf(v1, o)
	if !ok || s.Spec.Replicas != 4 || s.Status.Replicas != 3 || s.Status.Selector != "a=b" || s.Name != "b" {
		t.Errorf("scale %+v", s)
	}
	s.Spec.Replicas = 9
	if !api.ApplyScale(v1, o, s) {
		t.Error("no scale")
	}
	if s, _ := api.ScaleOf(v1, o); s.Spec.Replicas != 9 {
		t.Errorf("scaled to %d", s.Spec.Replicas)
	}
	if _, ok := api.ScaleOf(v1beta1, o); ok {
		t.Error("a version without scale has one")
	}
	if got := v1.Fields(o)["spec.hull"]; got != "steel" {
		t.Errorf("field %q", got)
	}
}

func TestMalformedObjectsAreRefused(t *testing.T) {
	v1, _ := boats(t)
	for _, text := range []string{
		"", "[]", "null", `"a"`, `{"metadata": 1}`, `{"metadata": {"labels": {"a": 1}}}`, `{"metadata": {"name": 7}}`, `{"kind": 7}`, `{"apiVersion": "a/b/c"}`,
	} {
		if o, _, err := v1.ReadCustom([]byte(text)); err == nil {
			t.Errorf("%q became %v", text, o)
		}
	}
}

func FuzzReadCustom(f *testing.F) {
	v1, v1beta1 := boats(f)
	f.Add([]byte(`{"apiVersion":"sea.example.com/v1","kind":"Boat","metadata":{"name":"b"},"spec":{"hull":"wood","crew":[{"name":"a"}]}}`))
	f.Add([]byte(`{"spec":{"crew":[null],"flags":{"a":null},"oars":null},"status":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, k := range []*api.Kind{v1, v1beta1} {
			o, _, err := k.ReadCustom(b)
			if err != nil {
				continue
			}
			k.Default(o)
			if k.PrepareCreate != nil {
				k.PrepareCreate(o)
			}
			k.Validate(o)
			k.ValidateUpdate(o, k.New())
			k.Cells(o, time.Now())
			api.MetaOf(o)
			if s, ok := api.ScaleOf(k, o); ok {
				api.ApplyScale(k, o, s)
			}
			if _, err := yaml.Marshal(o.DeepCopyObject()); err != nil {
				t.Error(err)
			}
		}
	})
}
