package api

import (
	"fmt"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateCustomResourceDefinition(d *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	errs := validateDefinitionName(d)
	errs = append(errs, validateDefinitionSpec(&d.Spec, field.NewPath("spec"))...)
	return append(errs, validateDefinitionStatus(d)...)
}

func validateCustomResourceDefinitionUpdate(updated, old *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	at := field.NewPath("spec")
	errs := validateCustomResourceDefinition(updated)
	if CRDEstablished(old) {
		errs = append(errs, unchanged(updated.Spec.Scope, old.Spec.Scope, at.Child("scope"))...)
		errs = append(errs, unchanged(updated.Spec.Names.Kind, old.Spec.Names.Kind, at.Child("names", "kind"))...)
	}
	errs = append(errs, unchanged(updated.Spec.Group, old.Spec.Group, at.Child("group"))...)
	return append(errs, unchanged(updated.Spec.Names.Plural, old.Spec.Names.Plural, at.Child("names", "plural"))...)
}

func validateCustomResourceDefinitionStatus(updated, _ *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	return validateDefinitionStatus(updated)
}

// validateDefinitionName wants the name that URLs lead to, and for groups of Kubernetes itself somebody's approval.
func validateDefinitionName(d *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	var errs field.ErrorList
	if d.Name != d.Spec.Names.Plural+"."+d.Spec.Group {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), d.Name, `must be spec.names.plural+"."+spec.group`))
	}
	const approval = apiextensionsv1.KubeAPIApprovedAnnotation
	if g := d.Spec.Group; g == "k8s.io" || g == "kubernetes.io" || strings.HasSuffix(g, ".k8s.io") || strings.HasSuffix(g, ".kubernetes.io") {
		at := field.NewPath("metadata", "annotations").Key(approval)
		switch v := d.Annotations[approval]; {
		case v == "":
			errs = append(errs, field.Required(at, fmt.Sprintf("groups of Kubernetes itself need the annotation %q", approval)))
		case !strings.HasPrefix(v, "unapproved") && !strings.Contains(v, "://"):
			errs = append(errs, field.Invalid(at, v, `must be a URL of the approval, or begin with "unapproved"`))
		}
	}
	return errs
}

func validateDefinitionSpec(s *apiextensionsv1.CustomResourceDefinitionSpec, at *field.Path) field.ErrorList {
	errs := required(s.Group, at.Child("group"))
	if s.Group != "" {
		errs = append(errs, isSubdomain(s.Group, at.Child("group"))...)
		if !strings.Contains(s.Group, ".") {
			errs = append(errs, field.Invalid(at.Child("group"), s.Group, "should be a domain with at least one dot"))
		}
	}
	errs = append(errs, oneOf(s.Scope, at.Child("scope"), apiextensionsv1.ClusterScoped, apiextensionsv1.NamespaceScoped)...)
	errs = append(errs, validateDefinitionVersions(s, at.Child("versions"))...)
	errs = append(errs, validateDefinitionNames(&s.Names, at.Child("names"))...)
	if s.PreserveUnknownFields {
		errs = append(errs, field.Invalid(at.Child("preserveUnknownFields"), true, "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"))
	}
	if c := s.Conversion; c != nil && c.Strategy != apiextensionsv1.NoneConverter {
		// No version is ever converted but by its name, so a definition that counts on more must not be served.
		errs = append(errs, oneOf(c.Strategy, at.Child("conversion", "strategy"), apiextensionsv1.NoneConverter)...)
	} else if c != nil && c.Webhook != nil {
		errs = append(errs, field.Forbidden(at.Child("conversion", "webhook"), "should not be set when strategy is not set to Webhook"))
	}
	return errs
}

func validateDefinitionVersions(s *apiextensionsv1.CustomResourceDefinitionSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	stored := 0
	for i := range s.Versions {
		v, here := &s.Versions[i], at.Index(i)
		if v.Storage {
			stored++
		}
		errs = append(errs, each(here.Child("name"), v.Name, validation.IsDNS1035Label(v.Name))...)
		if slices.ContainsFunc(s.Versions[:i], func(w apiextensionsv1.CustomResourceDefinitionVersion) bool { return w.Name == v.Name }) {
			errs = append(errs, field.Invalid(at, v.Name, "must contain unique version names"))
		}
		if v.DeprecationWarning != nil && !v.Deprecated {
			errs = append(errs, field.Invalid(here.Child("deprecationWarning"), *v.DeprecationWarning, "can only be set for deprecated versions"))
		}
		errs = append(errs, validateDefinitionSchema(v, here.Child("schema", "openAPIV3Schema"))...)
		errs = append(errs, validateDefinitionSubresources(v.Subresources, here.Child("subresources"))...)
		for j := range v.AdditionalPrinterColumns {
			errs = append(errs, validatePrinterColumn(&v.AdditionalPrinterColumns[j], here.Child("additionalPrinterColumns").Index(j))...)
		}
		for j, f := range v.SelectableFields {
			errs = append(errs, isSimplePath(f.JSONPath, here.Child("selectableFields").Index(j).Child("jsonPath"))...)
		}
	}
	if stored != 1 {
		errs = append(errs, field.Invalid(at, versionNames(s.Versions), "must have exactly one version marked as storage version"))
	}
	return errs
}

func versionNames(vs []apiextensionsv1.CustomResourceDefinitionVersion) []string {
	out := make([]string, len(vs))
	for i := range vs {
		out[i] = vs[i].Name
	}
	return out
}

func validateDefinitionSubresources(s *apiextensionsv1.CustomResourceSubresources, at *field.Path) field.ErrorList {
	if s == nil || s.Scale == nil {
		return nil
	}
	at = at.Child("scale")
	var errs field.ErrorList
	below := func(path, name string, parents ...string) {
		here := at.Child(name)
		if path == "" {
			errs = append(errs, field.Required(here, ""))
			return
		}
		if bad := isSimplePath(path, here); len(bad) > 0 {
			errs = append(errs, bad...)
		} else if !slices.ContainsFunc(parents, func(p string) bool { return strings.HasPrefix(path, p+".") }) {
			errs = append(errs, field.Invalid(here, path, "should be a json path under "+strings.Join(parents, " or ")))
		}
	}
	below(s.Scale.SpecReplicasPath, "specReplicasPath", ".spec")
	below(s.Scale.StatusReplicasPath, "statusReplicasPath", ".status")
	if p := s.Scale.LabelSelectorPath; p != nil && *p != "" {
		below(*p, "labelSelectorPath", ".spec", ".status")
	}
	return errs
}

func validatePrinterColumn(c *apiextensionsv1.CustomResourceColumnDefinition, at *field.Path) field.ErrorList {
	errs := required(c.Name, at.Child("name"))
	errs = append(errs, oneOf(c.Type, at.Child("type"), "integer", "number", "string", "boolean", "date")...)
	if c.Format != "" {
		errs = append(errs, oneOf(c.Format, at.Child("format"), "int32", "int64", "float", "double", "byte", "date", "date-time", "password")...)
	}
	switch {
	case c.JSONPath == "":
		errs = append(errs, field.Required(at.Child("jsonPath"), ""))
	case !strings.HasPrefix(c.JSONPath, "."):
		errs = append(errs, field.Invalid(at.Child("jsonPath"), c.JSONPath, "must be a simple json path starting with ."))
	}
	return errs
}

// isSimplePath wants ".a.b.c".
func isSimplePath(path string, at *field.Path) field.ErrorList {
	if path == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	if _, ok := SimplePath(path); !ok {
		return field.ErrorList{field.Invalid(at, path, "must be a simple json path of field names, such as .spec.replicas")}
	}
	return nil
}

// SimplePath splits ".a.b.c" into its names; false when it has anything else.
func SimplePath(path string) ([]string, bool) {
	rest, ok := strings.CutPrefix(path, ".")
	if !ok || strings.ContainsAny(rest, "[]{}()*@?\"'") {
		return nil, false
	}
	names := strings.Split(rest, ".")
	return names, !slices.Contains(names, "")
}

func validateDefinitionNames(n *apiextensionsv1.CustomResourceDefinitionNames, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	label := func(value, name string) {
		if value == "" {
			errs = append(errs, field.Required(at.Child(name), ""))
			return
		}
		errs = append(errs, each(at.Child(name), value, validation.IsDNS1035Label(strings.ToLower(value)))...)
	}
	exact := func(value string, here *field.Path) {
		errs = append(errs, each(here, value, validation.IsDNS1035Label(value))...)
	}
	if n.Plural == "" {
		errs = append(errs, field.Required(at.Child("plural"), ""))
	} else {
		exact(n.Plural, at.Child("plural"))
	}
	if n.Singular != "" {
		exact(n.Singular, at.Child("singular"))
	}
	label(n.Kind, "kind")
	label(n.ListKind, "listKind")
	if n.Kind == n.ListKind && n.Kind != "" {
		errs = append(errs, field.Invalid(at.Child("listKind"), n.ListKind, "kind and listKind may not be the same"))
	}
	for i, s := range n.ShortNames {
		exact(s, at.Child("shortNames").Index(i))
	}
	for i, s := range n.Categories {
		exact(s, at.Child("categories").Index(i))
	}
	return errs
}

// validateDefinitionStatus wants the versions that objects may be stored in to be there, or those objects could not be read.
func validateDefinitionStatus(d *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("status", "storedVersions")
	known := versionNames(d.Spec.Versions)
	for i, v := range d.Status.StoredVersions {
		if !slices.Contains(known, v) {
			errs = append(errs, field.Invalid(at.Index(i), v, "must appear in spec.versions"))
		}
	}
	for _, v := range d.Spec.Versions {
		if v.Storage && !slices.Contains(d.Status.StoredVersions, v.Name) {
			errs = append(errs, field.Invalid(at, d.Status.StoredVersions, "must have the storage version "+v.Name))
		}
	}
	return errs
}
