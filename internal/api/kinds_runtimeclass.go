package api

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// RuntimeClasses is the row of node.k8s.io. Pods run by runc whatever their class says.
var RuntimeClasses = row[nodev1.RuntimeClass, nodev1.RuntimeClassList](nodev1.SchemeGroupVersion, "RuntimeClass", "runtimeclasses").with(runtimeClassRow)

func runtimeClassRow(k *Kind) {
	k.Namespaced = false
	k.NeedsVersion = true
	k.Default = on(func(c *nodev1.RuntimeClass) {
		if c.Scheduling != nil {
			for i := range c.Scheduling.Tolerations {
				if t := &c.Scheduling.Tolerations[i]; t.Operator == "" {
					t.Operator = corev1.TolerationOpEqual
				}
			}
		}
	})
	k.Validate, k.ValidateUpdate = check(validateRuntimeClass), compare(func(updated, old *nodev1.RuntimeClass) field.ErrorList {
		return append(validateRuntimeClass(updated), unchanged(updated.Handler, old.Handler, field.NewPath("handler"))...)
	})
	k.Columns, k.Cells = runtimeClassColumns(), cells(runtimeClassCells)
}

func validateRuntimeClass(c *nodev1.RuntimeClass) field.ErrorList {
	errs := isLabel(c.Handler, field.NewPath("handler"))
	if c.Overhead != nil {
		at := field.NewPath("overhead", "podFixed")
		for _, name := range slices.Sorted(maps.Keys(c.Overhead.PodFixed)) {
			q := c.Overhead.PodFixed[name]
			errs = append(errs, isQualifiedName(string(name), at)...)
			if q.Sign() < 0 {
				errs = append(errs, field.Invalid(at.Key(string(name)), q.String(), "must be greater than or equal to 0"))
			}
		}
	}
	if s := c.Scheduling; s != nil {
		at := field.NewPath("scheduling")
		errs = append(errs, metavalidation.ValidateLabels(s.NodeSelector, at.Child("nodeSelector"))...)
		errs = append(errs, validateTolerations(s.Tolerations, at.Child("tolerations"))...)
		for i := range s.Tolerations {
			if slices.ContainsFunc(s.Tolerations[:i], func(t corev1.Toleration) bool { return isSame(t, s.Tolerations[i]) }) {
				errs = append(errs, field.Duplicate(at.Child("tolerations").Index(i), s.Tolerations[i]))
			}
		}
	}
	return errs
}

func runtimeClassColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{nameColumn(), column("Handler", nodev1.RuntimeClass{}.SwaggerDoc()["handler"]), ageColumn()}
}

func runtimeClassCells(c *nodev1.RuntimeClass, now time.Time) []any {
	return []any{c.Name, c.Handler, since(c.CreationTimestamp, now)}
}
