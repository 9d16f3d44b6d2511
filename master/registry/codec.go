package registry

import (
	"encoding/json"
	"fmt"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/client"
)

// Transformer changes values on their way into and out of the store. Implementations are safe for concurrent use.
type Transformer interface {
	// Seal is called before a value is proposed. Two calls with the same value may give different results.
	Seal(key store.Key, value []byte) ([]byte, error)
	// Open undoes Seal. Where this peer lacks the key to a part of the value, whole is false and plain is the rest, which is an object of the
	// kind, too. An error means that the value is damaged.
	Open(key store.Key, value []byte) (plain []byte, whole bool, err error)
	// Unlocks reports whether a change of key in the store may let Open open what it could not.
	Unlocks(key store.Key) bool
}

type plain struct{}

func (plain) Seal(_ store.Key, value []byte) ([]byte, error)       { return value, nil }
func (plain) Open(_ store.Key, value []byte) ([]byte, bool, error) { return value, true, nil }
func (plain) Unlocks(store.Key) bool                               { return false }

// message is what types with a protobuf form implement.
type message interface {
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// encodeStored returns the stored form of obj: its protobuf without resourceVersion, or JSON for a kind without
// protobuf. The same object always gives the same bytes. obj is changed: it loses its resourceVersion.
func encodeStored(k *api.Kind, obj api.Object) ([]byte, error) {
	if k.ToStored != nil {
		obj = k.ToStored(obj)
	}
	obj.SetResourceVersion("")
	obj.SetSelfLink("")
	if m, ok := obj.(message); ok {
		return m.Marshal()
	}
	return json.Marshal(obj)
}

func decodeStored(k *api.Kind, value []byte) (api.Object, error) {
	if k.Stored != nil {
		obj, err := decodeStored(k.Stored, value)
		if err != nil {
			return nil, err
		}
		return k.FromStored(obj), nil
	}
	obj := k.New()
	if m, ok := obj.(message); ok {
		return obj, m.Unmarshal(value)
	}
	return obj, json.Unmarshal(value, obj)
}

// decodeEntry turns a stored value into an entry.
func (r *Registry) decodeEntry(k *api.Kind, skey store.Key, value []byte, rev store.Rev) (*Entry, error) {
	value, whole, err := r.cfg.Transform.Open(skey, value)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", skey, err)
	}
	obj, err := decodeStored(k, value)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", skey, err)
	}
	if k.Loaded != nil {
		k.Loaded(obj)
	}
	if k.Custom != nil && k.Default != nil {
		k.Default(obj) // the definition may have changed since it was written
	}
	_, rest := splitKey(skey)
	e := newEntry(k, objectKey(rest), obj, rev)
	e.size, e.locked = len(value), !whole
	return e, nil
}

// sealed returns the value to propose for obj.
func (r *Registry) sealed(skey store.Key, plain []byte) ([]byte, error) {
	v, err := r.cfg.Transform.Seal(skey, plain)
	if err != nil {
		return nil, Unavailable(fmt.Sprintf("seal %s: %v", skey, err))
	}
	return v, nil
}

// clone returns a copy of e's object that the caller may change.
func clone(e *Entry) api.Object { return e.Object.DeepCopyObject().(api.Object) }

func keyFor(k *api.Kind, obj api.Object) client.Key {
	key := client.Key{Name: obj.GetName()}
	if k.Namespaced {
		key.Namespace = obj.GetNamespace()
	}
	return key
}
