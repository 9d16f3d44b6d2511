package api

import (
	"slices"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CustomResourceDefinitions is the row of those objects that make rows: internal/api/custom makes them, a controller of the
// Master decides on the names, and the registry serves what is established.
var CustomResourceDefinitions = row[apiextensionsv1.CustomResourceDefinition, apiextensionsv1.CustomResourceDefinitionList](apiextensionsv1.SchemeGroupVersion, "CustomResourceDefinition", "customresourcedefinitions", "crd", "crds").with(customResourceDefinitionRow)

func customResourceDefinitionRow(k *Kind) {
	k.Namespaced = false
	k.NeedsVersion = true
	k.Categories = []string{"api-extensions"}
	k.Subresources = []Subresource{{Name: "status", Kind: "CustomResourceDefinition", Verbs: statusVerbs()}}
	k.Default = on(defaultCustomResourceDefinition)
	k.PrepareCreate = on(func(d *apiextensionsv1.CustomResourceDefinition) {
		d.Status = apiextensionsv1.CustomResourceDefinitionStatus{}
		noteStoredVersion(d)
	})
	k.PrepareUpdate = pair(func(updated, old *apiextensionsv1.CustomResourceDefinition) {
		updated.Status = *old.Status.DeepCopy()
		noteStoredVersion(updated)
	})
	k.Validate, k.ValidateUpdate = check(validateCustomResourceDefinition), compare(validateCustomResourceDefinitionUpdate)
	k.ValidateStatus = compare(validateCustomResourceDefinitionStatus)
	k.CopyStatus = pair(func(to, from *apiextensionsv1.CustomResourceDefinition) { to.Status = *from.Status.DeepCopy() })
	k.Columns, k.Cells = customResourceDefinitionColumns(), cells(customResourceDefinitionCells)
	k.Generation = true
	k.DeletionFinalizer = apiextensionsv1.CustomResourceCleanupFinalizer
	k.MarkDeleted = func(o Object, now metav1.Time) {
		markDefinitionDeleted(o.(*apiextensionsv1.CustomResourceDefinition), now)
	}
}

func markDefinitionDeleted(d *apiextensionsv1.CustomResourceDefinition, now metav1.Time) {
	for _, c := range d.Status.Conditions {
		if c.Type == apiextensionsv1.Terminating && c.Status == apiextensionsv1.ConditionTrue {
			return
		}
	}
	d.Status.Conditions = append(d.Status.Conditions, apiextensionsv1.CustomResourceDefinitionCondition{
		Type: apiextensionsv1.Terminating, Status: apiextensionsv1.ConditionTrue, LastTransitionTime: now,
		Reason: "InstanceDeletionPending", Message: "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
	})
}

func defaultCustomResourceDefinition(d *apiextensionsv1.CustomResourceDefinition) {
	names := &d.Spec.Names
	if names.Singular == "" {
		names.Singular = strings.ToLower(names.Kind)
	}
	if names.ListKind == "" && names.Kind != "" {
		names.ListKind = names.Kind + "List"
	}
	if d.Spec.Conversion == nil {
		d.Spec.Conversion = &apiextensionsv1.CustomResourceConversion{Strategy: apiextensionsv1.NoneConverter}
	}
}

// noteStoredVersion keeps the list of versions that objects may be stored in complete.
func noteStoredVersion(d *apiextensionsv1.CustomResourceDefinition) {
	for _, v := range d.Spec.Versions {
		if v.Storage && !slices.Contains(d.Status.StoredVersions, v.Name) {
			d.Status.StoredVersions = append(d.Status.StoredVersions, v.Name)
		}
	}
}

// CRDCondition returns a condition of a definition, or nil.
func CRDCondition(d *apiextensionsv1.CustomResourceDefinition, t apiextensionsv1.CustomResourceDefinitionConditionType) *apiextensionsv1.CustomResourceDefinitionCondition {
	for i := range d.Status.Conditions {
		if d.Status.Conditions[i].Type == t {
			return &d.Status.Conditions[i]
		}
	}
	return nil
}

// CRDEstablished reports whether the objects of a definition are served.
func CRDEstablished(d *apiextensionsv1.CustomResourceDefinition) bool {
	c := CRDCondition(d, apiextensionsv1.Established)
	return c != nil && c.Status == apiextensionsv1.ConditionTrue
}

func customResourceDefinitionColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{nameColumn(), {Name: "Created At", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"]}}
}

func customResourceDefinitionCells(d *apiextensionsv1.CustomResourceDefinition, _ time.Time) []any {
	return []any{d.Name, d.CreationTimestamp.UTC().Format(time.RFC3339)}
}
