package api

import (
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// viewOf makes k another version of a stored kind: its objects are V, stored as S, and obey the stored kind's rules.
func viewOf[V, S any, PV interface {
	*V
	Object
}, PS interface {
	*S
	Object
}](k, stored *Kind, to func(PV) PS, from func(PS) PV,
) {
	k.Stored = stored
	k.ToStored = func(o Object) Object { return to(o.(PV)) }
	k.FromStored = func(o Object) Object { return from(o.(PS)) }
	k.Namespaced, k.Categories, k.ValidateName = stored.Namespaced, stored.Categories, stored.ValidateName
	k.CreateOnUpdate, k.NeedsVersion, k.Generation = stored.CreateOnUpdate, stored.NeedsVersion, stored.Generation
	for _, s := range stored.Subresources {
		k.Subresources = append(k.Subresources, Subresource{Name: s.Name, Group: s.Group, Kind: s.Kind, Verbs: s.Verbs})
	}
	through := func(o Object, change func(PS)) {
		s := to(o.(PV))
		change(s)
		*o.(PV) = *from(s)
		o.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
	}
	if stored.Default != nil {
		k.Default = func(o Object) { through(o, func(s PS) { stored.Default(s) }) }
	}
	if stored.PrepareCreate != nil {
		k.PrepareCreate = func(o Object) { through(o, func(s PS) { stored.PrepareCreate(s) }) }
	}
	if stored.PrepareUpdate != nil {
		k.PrepareUpdate = func(updated, old Object) {
			through(updated, func(s PS) { stored.PrepareUpdate(s, to(old.(PV))) })
		}
	}
	if stored.CopyStatus != nil {
		k.CopyStatus = func(updated, given Object) {
			through(updated, func(s PS) { stored.CopyStatus(s, to(given.(PV))) })
		}
	}
	if stored.Validate != nil {
		k.Validate = func(o Object) field.ErrorList { return stored.Validate(to(o.(PV))) }
	}
	both := func(f func(updated, old Object) field.ErrorList) func(updated, old Object) field.ErrorList {
		if f == nil {
			return nil
		}
		return func(updated, old Object) field.ErrorList { return f(to(updated.(PV)), to(old.(PV))) }
	}
	k.ValidateUpdate, k.ValidateStatus = both(stored.ValidateUpdate), both(stored.ValidateStatus)
}
