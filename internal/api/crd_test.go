package api_test

import (
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"shoal/internal/api"
	"shoal/internal/api/custom/customtest"
)

func TestDefinitionsThatAreRefused(t *testing.T) {
	type definition = apiextensionsv1.CustomResourceDefinition
	schema := func(d *definition) *apiextensionsv1.JSONSchemaProps { return d.Spec.Versions[1].Schema.OpenAPIV3Schema }
	spec := func(d *definition, name string, change func(*apiextensionsv1.JSONSchemaProps)) {
		all := schema(d).Properties["spec"]
		p := all.Properties[name]
		change(&p)
		all.Properties[name] = p
	}
	yes := true
	for _, c := range []struct {
		change func(*definition)
		want   string // the beginning of an error, or nothing
	}{
		{func(*definition) {}, ""},
		{func(d *definition) { d.Name = "x" }, "metadata.name: Invalid value"},
		{func(d *definition) { d.Spec.Group = "sea"; d.Name = "boats.sea" }, "spec.group: Invalid value"},
		{func(d *definition) { d.Spec.Group = "sea.k8s.io"; d.Name = "boats.sea.k8s.io" }, "metadata.annotations[api-approved.kubernetes.io]: Required value"},
		{func(d *definition) { d.Spec.Scope = "Sea" }, "spec.scope: Unsupported value"},
		{func(d *definition) { d.Spec.Versions[1].Storage = false }, "spec.versions: Invalid value"},
		{func(d *definition) { d.Spec.Versions[0].Storage = true }, "spec.versions: Invalid value"},
		{func(d *definition) { d.Spec.Versions[0].Name = "v1" }, "spec.versions: Invalid value"},
		{func(d *definition) { d.Spec.Versions[0].Name = "V_1" }, "spec.versions[0].name: Invalid value"},
		{func(d *definition) { d.Spec.Versions[0].Schema = nil }, "spec.versions[0].schema.openAPIV3Schema: Required value"},
		{func(d *definition) { d.Spec.Names.Kind = "" }, "spec.names.kind: Required value"},
		{func(d *definition) { d.Spec.Names.ListKind = "Boat" }, "spec.names.listKind: Invalid value"},
		{func(d *definition) { d.Spec.Names.ShortNames = []string{"B o"} }, "spec.names.shortNames[0]: Invalid value"},
		{func(d *definition) { d.Spec.PreserveUnknownFields = true }, "spec.preserveUnknownFields: Invalid value"},
		{func(d *definition) { d.Spec.Conversion.Strategy = apiextensionsv1.WebhookConverter }, "spec.conversion.strategy: Unsupported value"},
		{func(d *definition) { d.Spec.Versions[1].AdditionalPrinterColumns[0].Type = "int" }, "spec.versions[1].additionalPrinterColumns[0].type: Unsupported value"},
		{func(d *definition) { d.Spec.Versions[1].AdditionalPrinterColumns[0].JSONPath = "spec" }, "spec.versions[1].additionalPrinterColumns[0].jsonPath: Invalid value"},
		{func(d *definition) { d.Spec.Versions[1].Subresources.Scale.SpecReplicasPath = ".status.x" }, "spec.versions[1].subresources.scale.specReplicasPath: Invalid value"},
		{func(d *definition) { d.Spec.Versions[1].Subresources.Scale.StatusReplicasPath = "" }, "spec.versions[1].subresources.scale.statusReplicasPath: Required value"},
		{func(d *definition) { schema(d).Type = "" }, "spec.versions[1].schema.openAPIV3Schema.type: Required value"},
		{func(d *definition) { schema(d).Type = "array" }, "spec.versions[1].schema.openAPIV3Schema.items: Required value"},
		{func(d *definition) { spec(d, "hull", func(p *apiextensionsv1.JSONSchemaProps) { p.Type = "" }) }, "spec.versions[1].schema.openAPIV3Schema.properties[spec].properties[hull].type: Required value"},
		{func(d *definition) { spec(d, "hull", func(p *apiextensionsv1.JSONSchemaProps) { p.Pattern = "(" }) }, "spec.versions[1].schema.openAPIV3Schema.properties[spec].properties[hull].pattern: Invalid value"},
		{func(d *definition) {
			spec(d, "crew", func(p *apiextensionsv1.JSONSchemaProps) { p.UniqueItems = true })
		}, "spec.versions[1].schema.openAPIV3Schema.properties[spec].properties[crew].uniqueItems: Forbidden"},
		{func(d *definition) {
			spec(d, "crew", func(p *apiextensionsv1.JSONSchemaProps) { p.XListMapKeys = []string{"nobody"} })
		}, "spec.versions[1].schema.openAPIV3Schema.properties[spec].properties[crew].x-kubernetes-list-map-keys[0]: Invalid value"},
		{func(d *definition) {
			spec(d, "oars", func(p *apiextensionsv1.JSONSchemaProps) { p.XPreserveUnknownFields = &yes; p.Ref = new(string) })
		}, "spec.versions[1].schema.openAPIV3Schema.properties[spec].properties[oars].$ref: Forbidden"},
		{func(d *definition) { d.Status.StoredVersions = []string{"v1", "v0"} }, "status.storedVersions[1]: Invalid value"},
	} {
		d := customtest.Definition(customtest.Boats)
		k := api.CustomResourceDefinitions
		k.Default(d)
		k.PrepareCreate(d)
		c.change(d)
		errs := k.Validate(d)
		found := c.want == "" && len(errs) == 0
		for _, e := range errs {
			found = found || c.want != "" && strings.HasPrefix(e.Error(), c.want)
		}
		if !found {
			t.Errorf("got %v, want %q", errs, c.want)
		}
	}
}

func TestEstablishedDefinitionsKeepTheirNames(t *testing.T) {
	k, old := api.CustomResourceDefinitions, customtest.Definition(customtest.Boats)
	k.Default(old)
	k.PrepareCreate(old)
	updated := old.DeepCopy()
	updated.Spec.Names.Kind, updated.Spec.Names.ListKind = "Ship", "ShipList"
	if errs := k.ValidateUpdate(updated, old); len(errs) > 0 {
		t.Errorf("before: %v", errs)
	}
	customtest.Establish(old)
	updated.Status = *old.Status.DeepCopy()
	if errs := k.ValidateUpdate(updated, old); len(errs) != 1 || errs[0].Field != "spec.names.kind" {
		t.Errorf("after: %v", errs)
	}
}

// TestRulesInSchemasAreCompiled: what is wrong with them is said when they are written, and where they are.
func TestRulesInSchemasAreCompiled(t *testing.T) {
	d := customtest.Definition(customtest.Boats)
	api.CustomResourceDefinitions.Default(d)
	api.CustomResourceDefinitions.PrepareCreate(d)
	s := d.Spec.Versions[1].Schema.OpenAPIV3Schema
	all := s.Properties["spec"]
	rules := func(rules ...apiextensionsv1.ValidationRule) field.ErrorList {
		all.XValidations = rules
		s.Properties["spec"] = all
		return api.CustomResourceDefinitions.Validate(d)
	}
	if errs := rules(apiextensionsv1.ValidationRule{Rule: "self.oars < 9"}, apiextensionsv1.ValidationRule{Rule: "self.oars >= oldSelf.oars"}); len(errs) != 0 {
		t.Errorf("good ones: %v", errs)
	}
	errs := rules(apiextensionsv1.ValidationRule{Rule: "self.sails > 1"}, apiextensionsv1.ValidationRule{Rule: "true", MessageExpression: "5"}, apiextensionsv1.ValidationRule{Rule: " "})
	var at []string
	for _, e := range errs {
		at = append(at, strings.TrimPrefix(e.Field, "spec.versions[1].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations"))
	}
	if got := strings.Join(at, " "); got != "[0].rule [1].messageExpression [2].rule" || !strings.Contains(errs[0].Detail, "undefined field 'sails'") {
		t.Errorf("%v", errs)
	}
}

// A schema that nests without end must neither exhaust the stack nor take for ever.
func TestDeepSchemasAreRefused(t *testing.T) {
	d := customtest.Definition(customtest.Boats)
	deep := &apiextensionsv1.JSONSchemaProps{Type: "object"}
	for range 5000 {
		deep = &apiextensionsv1.JSONSchemaProps{Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{"x": *deep}}
	}
	d.Spec.Versions[1].Schema.OpenAPIV3Schema = deep
	if errs := api.CustomResourceDefinitions.Validate(d); len(errs) == 0 {
		t.Error("accepted")
	}
}
