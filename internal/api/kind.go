// Package api holds the kinds table: everything Shoal knows of each API kind that is not behaviour: its names, Go types,
// defaults, validation, selectable fields and table columns. Adding a kind is adding a row. It does no I/O.
package api

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Object is an API object with metadata: what the store holds and clients exchange.
type Object interface {
	runtime.Object
	metav1.Object
}

// Kind is one row of the kinds table. Rows are never changed after start.
type Kind struct {
	schema.GroupVersionKind
	Resource   string // plural, as in URLs
	Singular   string
	ShortNames []string
	Categories []string
	Namespaced bool
	// Subresources served besides the object itself: status, scale, binding, log, exec, …
	Subresources []Subresource

	New     func() Object
	NewList func() runtime.Object

	// Stored is the row whose objects the store has when this one is another version of them; nil for all others.
	Stored *Kind
	// ToStored and FromStored turn objects of this version into stored ones and back. What they return may share parts.
	ToStored, FromStored func(Object) Object
	// Custom is what a kind without a Go type of its own brings: its objects are *unstructured.Unstructured. Nil for others.
	Custom *Custom
	// Terminating means that no object of the kind may be created any more.
	Terminating bool

	// Prune drops the fields that the kind does not have and returns their paths. Nil means that the Go type does so.
	Prune func(Object) []string
	// Default fills in what Kubernetes fills in. Nil means nothing.
	Default func(Object)
	// Loaded fills in what the stored form has no place for. Nil means nothing.
	Loaded func(Object)
	// PrepareCreate drops or sets what a client may not choose in a new object (status, first phase). It runs after
	// Default and after the name is known, before Validate. Nil means nothing.
	PrepareCreate func(Object)
	// PrepareUpdate carries over from old what an update through the object itself may not change (status) or need
	// not repeat (allocated addresses). It runs after Default, before ValidateUpdate. Nil means nothing.
	PrepareUpdate func(updated, old Object)
	// CreateOnUpdate reports whether an update of a missing object creates it.
	CreateOnUpdate bool
	// NeedsVersion reports whether an update of a stored object must name the resourceVersion it was made from.
	NeedsVersion bool
	// ValidateName lists what is wrong with a name, or with a name's beginning when prefix is set.
	ValidateName func(name string, prefix bool) []string
	// Validate and ValidateUpdate return every problem found, metadata excluded (the registry checks that).
	Validate       func(Object) field.ErrorList
	ValidateUpdate func(updated, old Object) field.ErrorList
	// Rules returns what is wrong with an object that all else lets through; old is what is stored, nil for a new object. Nil means that there are none.
	Rules func(ctx context.Context, o, old Object) field.ErrorList
	// ValidateStatus checks an update through the status subresource. Nil means no check.
	ValidateStatus func(updated, old Object) field.ErrorList
	// Warnings returns what the writer of an object should know although it was accepted. Nil means nothing.
	Warnings func(Object) []string
	// Scale reads and sets the scale of kinds without a Go type; nil for others.
	Scale *ScalePart
	// CopyStatus copies the status of from into to; nil when the kind has no status subresource.
	CopyStatus func(to, from Object)
	// CopyApproval copies what the subresource approval may change; nil for kinds without it. All else that is said of status
	// holds for it, too.
	CopyApproval func(to, from Object)
	// PrepareStatus puts right what an update of status or approval may not change either, and notes what it need not say. It runs
	// after CopyStatus or CopyApproval, before ValidateStatus. Nil means nothing.
	PrepareStatus func(updated, old Object)
	// Fields returns the selectable fields beyond metadata.name and metadata.namespace; nil means none.
	Fields func(Object) fields.Set

	Columns []metav1.TableColumnDefinition
	// Cells returns one value per column.
	Cells func(o Object, now time.Time) []any
	// RowConditions returns the conditions of a table row; nil means none.
	RowConditions func(Object) []metav1.TableRowCondition

	// DeletionFinalizer holds a deleted object until the Master has done what must come first. Empty means nothing must.
	DeletionFinalizer string
	// MarkDeleted notes in the status of an object that its deletion has begun, at now, when something holds the object. Nil means
	// that only the metadata tell.
	MarkDeleted func(o Object, now metav1.Time)
	// Generation reports whether a change of anything but metadata and status raises metadata.generation.
	Generation bool
	// GenerationOfAnnotations reports whether a change of annotations raises it, too.
	GenerationOfAnnotations bool
}

// Custom describes a kind that a CustomResourceDefinition made.
type Custom struct {
	Schema []byte // OpenAPI v3, JSON
	// Types returns what server-side apply merges the kind's objects by. It may take milliseconds.
	Types func() (managedfields.TypeConverter, error)
}

// Subresource is one path below an object.
type Subresource struct {
	Name  string
	Group string // of Kind when it differs from the row's
	Kind  string
	Verbs []string
	// Copy takes over the only thing that an update through the subresource may change; everything else, metadata too, stays as it is stored.
	// Nil for status, approval and what is no part of the object.
	Copy func(to, from Object)
	// Validate checks such an update.
	Validate func(updated, old Object) field.ErrorList
}

// GVR returns the kind's group, version and resource.
func (k *Kind) GVR() schema.GroupVersionResource {
	return k.GroupVersion().WithResource(k.Resource)
}

// ValidateMeta returns every problem of the metadata of a new object.
func (k *Kind) ValidateMeta(o Object) field.ErrorList {
	errs := validation.ValidateObjectMetaAccessor(o, k.Namespaced, k.ValidateName, field.NewPath("metadata"))
	return append(errs, k.validateFinalizers(o)...)
}

// ValidateMetaUpdate returns every problem of the metadata of updated, given that old is stored. Updated must have a
// resourceVersion by now, and old's creation time, UID and deletion time where the client gave none.
func (k *Kind) ValidateMetaUpdate(updated, old Object) field.ErrorList {
	errs := validation.ValidateObjectMetaAccessorUpdate(updated, old, field.NewPath("metadata"))
	return append(errs, k.validateFinalizers(updated)...)
}

// validateFinalizers wants names that say whose they are. Events are as lenient as they always were, and so is what is not built in.
func (k *Kind) validateFinalizers(o Object) field.ErrorList {
	if k.Kind == "Event" || k.Custom != nil || k == CustomResourceDefinitions {
		return nil
	}
	var errs field.ErrorList
	for i, name := range o.GetFinalizers() {
		errs = append(errs, ownedFinalizer(name, field.NewPath("metadata", "finalizers").Index(i))...)
	}
	return errs
}

// Part returns the subresource of that name if it is a part of the object with rules of its own, else nil.
func (k *Kind) Part(name string) *Subresource {
	for i := range k.Subresources {
		if s := &k.Subresources[i]; s.Name == name && s.Copy != nil {
			return s
		}
	}
	return nil
}

// HasSubresource reports whether name is served below the kind's objects.
func (k *Kind) HasSubresource(name string) bool {
	for _, s := range k.Subresources {
		if s.Name == name {
			return true
		}
	}
	return false
}

// Collected reports whether the garbage collector follows the kind: whether what its objects own goes with them, and waits or is waited for. Events
// are many, own nothing and have no owners.
func (k *Kind) Collected() bool { return k != Events && k != EventsV1 }
