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

// SystemPriorityClasses returns new objects for the classes that every cluster has.
func SystemPriorityClasses() []*schedulingv1.PriorityClass {
	class := func(name string, value int32, description string) *schedulingv1.PriorityClass {
		return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value, Description: description}
	}
	return []*schedulingv1.PriorityClass{
		class("system-cluster-critical", 2*highestUserPriority, "For what the cluster needs somewhere; it can move to another machine."),
		class("system-node-critical", 2*highestUserPriority+1000, "For what a machine needs and no other machine can do for it."),
	}
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
	for _, known := range SystemPriorityClasses() {
		switch {
		case known.Name != c.Name:
		case c.Value != known.Value:
			return fmt.Sprintf("value of %s PriorityClass must be %d", c.Name, known.Value)
		case c.GlobalDefault:
			return fmt.Sprintf("globalDefault of %s PriorityClass must be false", c.Name)
		default:
			return ""
		}
	}
	return c.Name + " is not a known system priority class"
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
