package api

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// PriorityClasses is the row of scheduling.k8s.io. Pods cannot use classes that are made here yet: admission knows the
// system's own only.
var PriorityClasses = row[schedulingv1.PriorityClass, schedulingv1.PriorityClassList](schedulingv1.SchemeGroupVersion, "PriorityClass", "priorityclasses", "pc").with(priorityClassRow)

func priorityClassRow(k *Kind) {
	k.Namespaced = false
	k.Default = on(func(c *schedulingv1.PriorityClass) { unset(&c.PreemptionPolicy, corev1.PreemptLowerPriority) })
	// The generation is that of the first version for ever: what counts does not change.
	k.PrepareCreate = on(func(c *schedulingv1.PriorityClass) { c.Generation = 1 })
	k.Validate, k.ValidateUpdate = check(validatePriorityClass), compare(validatePriorityClassUpdate)
	k.Columns, k.Cells = priorityClassColumns(), cells(priorityClassCells)
}

const (
	systemPriorityPrefix = "system-"
	highestUserPriority  = 1_000_000_000
)

// systemPriorities are the classes that every cluster has.
func systemPriorities() map[string]int32 {
	return map[string]int32{"system-cluster-critical": 2 * highestUserPriority, "system-node-critical": 2*highestUserPriority + 1000}
}

func validatePriorityClass(c *schedulingv1.PriorityClass) field.ErrorList {
	var errs field.ErrorList
	if strings.HasPrefix(c.Name, systemPriorityPrefix) {
		if why := notSystemPriority(c); why != "" {
			errs = append(errs, field.Forbidden(field.NewPath("metadata", "name"),
				"priority class names with '"+systemPriorityPrefix+"' prefix are reserved for system use only. error: "+why))
		}
	} else if c.Value > highestUserPriority {
		errs = append(errs, field.Forbidden(field.NewPath("value"), fmt.Sprintf("maximum allowed value of a user defined priority is %d", highestUserPriority)))
	}
	if c.PreemptionPolicy != nil {
		errs = append(errs, oneOf(*c.PreemptionPolicy, field.NewPath("preemptionPolicy"), corev1.PreemptLowerPriority, corev1.PreemptNever)...)
	}
	return errs
}

func notSystemPriority(c *schedulingv1.PriorityClass) string {
	value, ok := systemPriorities()[c.Name]
	switch {
	case !ok:
		return c.Name + " is not a known system priority class"
	case c.Value != value:
		return fmt.Sprintf("value of %s PriorityClass must be %d", c.Name, value)
	case c.GlobalDefault:
		return fmt.Sprintf("globalDefault of %s PriorityClass must be false", c.Name)
	}
	return ""
}

// validatePriorityClassUpdate: pods keep the priority they got, so that it must not change under its name.
func validatePriorityClassUpdate(updated, old *schedulingv1.PriorityClass) field.ErrorList {
	var errs field.ErrorList
	if updated.Value != old.Value {
		errs = append(errs, field.Forbidden(field.NewPath("value"), "may not be changed in an update."))
	}
	return append(errs, unchanged(updated.PreemptionPolicy, old.PreemptionPolicy, field.NewPath("preemptionPolicy"))...)
}

func priorityClassColumns() []metav1.TableColumnDefinition {
	doc := schedulingv1.PriorityClass{}.SwaggerDoc()
	return []metav1.TableColumnDefinition{
		nameColumn(),
		number("Value", doc["value"]),
		truth("Global-Default", doc["globalDefault"]),
		ageColumn(),
		column("PreemptionPolicy", doc["preemptionPolicy"]),
	}
}

// truth describes a column of booleans.
func truth(name, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "boolean", Description: description}
}

func priorityClassCells(c *schedulingv1.PriorityClass, now time.Time) []any {
	return []any{c.Name, int64(c.Value), c.GlobalDefault, since(c.CreationTimestamp, now), string(deref(c.PreemptionPolicy, ""))}
}
