package custom_test

import (
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"shoal/internal/api"
	"shoal/internal/api/custom"
	"shoal/internal/api/custom/customtest"
)

// TestRulesInCEL: they hold for new objects and changed ones; what was wrong before the rule came, and is left alone, is forgiven.
func TestRulesInCEL(t *testing.T) {
	d := customtest.Definition(customtest.Boats)
	api.CustomResourceDefinitions.Default(d)
	api.CustomResourceDefinitions.PrepareCreate(d)
	kinds := func() *api.Kind {
		t.Helper()
		if errs := api.CustomResourceDefinitions.Validate(d); len(errs) > 0 {
			t.Fatal(errs)
		}
		all, err := custom.Kinds(d)
		if err != nil {
			t.Fatal(err)
		}
		return all[0]
	}
	without := kinds()
	for i := range d.Spec.Versions {
		if d.Spec.Versions[i].Name != "v1" {
			continue
		}
		s := d.Spec.Versions[i].Schema.OpenAPIV3Schema
		spec := s.Properties["spec"]
		spec.XValidations = apiextensionsv1.ValidationRules{
			{Rule: "self.oars % 2 == 0", Message: "oars come in pairs"},
			{Rule: "self.oars >= oldSelf.oars", MessageExpression: "'there were ' + string(oldSelf.oars)"},
		}
		s.Properties["spec"] = spec
		s.XValidations = apiextensionsv1.ValidationRules{{Rule: "self.metadata.name != 'titanic'"}}
	}
	k := kinds()
	boat := func(k *api.Kind, spec string) api.Object {
		o, _ := read(t, k, "spec: "+spec)
		k.Default(o)
		return o
	}
	said := func(k *api.Kind, updated, old api.Object) string {
		errs := k.Validate(updated)
		if old != nil {
			errs = k.ValidateUpdate(updated, old)
		}
		if len(errs) == 0 {
			errs = k.Rules(t.Context(), updated, old)
		}
		var all []string
		for _, e := range errs {
			all = append(all, e.Error())
		}
		return strings.Join(all, "; ")
	}
	two, three, four := "{hull: wood, oars: 2}", "{hull: wood, oars: 3}", "{hull: wood, oars: 4}"
	for _, c := range []struct{ what, got, want string }{
		{"a pair", said(k, boat(k, two), nil), ""},
		{"an odd one", said(k, boat(k, three), nil), "spec: Invalid value"},
		{"its message", said(k, boat(k, three), nil), "oars come in pairs"},
		{"more", said(k, boat(k, four), boat(k, two)), ""},
		{"fewer", said(k, boat(k, two), boat(k, four)), "there were 4"},
		{"odd already", said(k, boat(k, three), boat(without, three)), ""},
		{"odd now", said(k, boat(k, three), boat(k, two)), "oars come in pairs"},
	} {
		if c.want == "" && c.got != "" || !strings.Contains(c.got, c.want) {
			t.Errorf("%s: %q, want %q", c.what, c.got, c.want)
		}
	}
	sunk := boat(k, two)
	sunk.SetName("titanic")
	if got := said(k, sunk, nil); !strings.Contains(got, "failed rule: self.metadata.name != 'titanic'") {
		t.Errorf("the whole object: %q", got)
	}
}
