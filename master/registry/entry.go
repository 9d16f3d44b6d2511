package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/client"
)

// Entry is one object at one revision, shared by everyone who reads it: it is decoded once, and encoded at most once
// per content type. It is never changed.
type Entry struct {
	Object api.Object // with apiVersion, kind and resourceVersion set
	Key    client.Key
	Rev    store.Rev

	node   string // spec.nodeName of a pod
	size   int    // of the object in the store, bytes
	locked bool   // this peer has no key to a part of the object, which is not there
	json   atomic.Pointer[[]byte]
	wire   atomic.Pointer[[]byte]
}

func newEntry(k *api.Kind, key client.Key, obj api.Object, rev store.Rev) *Entry {
	obj.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
	obj.SetResourceVersion(rev.String())
	e := &Entry{Object: obj, Key: key, Rev: rev}
	if p, ok := obj.(*corev1.Pod); ok {
		e.node = p.Spec.NodeName
	}
	return e
}

// at returns the same object with another revision: what a deletion shows.
func (e *Entry) at(k *api.Kind, rev store.Rev) *Entry {
	then := newEntry(k, e.Key, e.Object.DeepCopyObject().(api.Object), rev)
	then.size, then.locked = e.size, e.locked
	return then
}

// errLocked: half an object is not given out as if it were all.
var errLocked = errors.New("its value was sealed with a key that this peer does not have")

// JSON returns the object's JSON, apiVersion and kind included. The caller must not change it.
func (e *Entry) JSON() ([]byte, error) {
	if b := e.json.Load(); b != nil {
		return *b, nil
	}
	if e.locked {
		return nil, fmt.Errorf("encode %T %s: %w", e.Object, e.Key, errLocked)
	}
	b, err := json.Marshal(e.Object)
	if err != nil {
		return nil, fmt.Errorf("encode %T %s: %w", e.Object, e.Key, err)
	}
	e.json.Store(&b)
	return b, nil
}

// Proto returns the object's protobuf message without the envelope that names its type. The caller must not change it.
func (e *Entry) Proto() ([]byte, error) {
	if b := e.wire.Load(); b != nil {
		return *b, nil
	}
	if e.locked {
		return nil, fmt.Errorf("encode %T %s: %w", e.Object, e.Key, errLocked)
	}
	m, ok := e.Object.(message)
	if !ok {
		return nil, fmt.Errorf("encode %T %s: it has no protobuf form", e.Object, e.Key)
	}
	b, err := m.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode %T %s: %w", e.Object, e.Key, err)
	}
	e.wire.Store(&b)
	return b, nil
}
