package api

import (
	"reflect"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Table finds rows of the kinds table. It never changes after NewTable and is safe for concurrent use.
type Table struct {
	generation uint64
	kinds      []*Kind
	byResource map[schema.GroupVersionResource]*Kind
	byKind     map[schema.GroupVersionKind]*Kind
	byType     map[reflect.Type]*Kind
}

// NewTable builds a table of the given rows.
func NewTable(kinds ...*Kind) *Table {
	t := &Table{
		kinds:      kinds,
		byResource: make(map[schema.GroupVersionResource]*Kind, len(kinds)),
		byKind:     make(map[schema.GroupVersionKind]*Kind, len(kinds)),
		byType:     make(map[reflect.Type]*Kind, len(kinds)),
	}
	for _, k := range kinds {
		t.byResource[k.GVR()] = k
		t.byKind[k.GroupVersionKind] = k
		if k.Custom == nil {
			t.byType[reflect.TypeOf(k.New())] = k
		}
	}
	return t
}

// Default returns a table of every row this program serves.
func Default() *Table { return NewTable(Kinds()...) }

// Generation differs between any two tables that one Live had, so that what was made of a table can be kept by it.
func (t *Table) Generation() uint64 { return t.generation }

// Kinds returns the rows in discovery order. The caller must not change the slice.
func (t *Table) Kinds() []*Kind { return t.kinds }

// ByResource finds the row served at a group, version and resource.
func (t *Table) ByResource(r schema.GroupVersionResource) (*Kind, bool) {
	k, ok := t.byResource[r]
	return k, ok
}

// ByKind finds the row of a group, version and kind.
func (t *Table) ByKind(gvk schema.GroupVersionKind) (*Kind, bool) {
	k, ok := t.byKind[gvk]
	return k, ok
}

// For finds the row of an object by its Go type, so its TypeMeta may be empty. It does not know custom kinds, which share one.
func (t *Table) For(o Object) (*Kind, bool) {
	k, ok := t.byType[reflect.TypeOf(o)]
	return k, ok
}
