package client

import (
	"fmt"
	"reflect"
	"sync"

	"shoal/internal/api"
)

// MutationDetector remembers objects that caches hand out and tells whether somebody changed one. It keeps every
// object it saw, so it is for tests only. The zero value is ready; safe for concurrent use.
type MutationDetector struct {
	mu   sync.Mutex
	seen []seenObject
}

type seenObject struct{ shared, copied api.Object }

// Add remembers o as it is now.
func (d *MutationDetector) Add(o api.Object) {
	c, ok := o.DeepCopyObject().(api.Object)
	if !ok {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen = append(d.seen, seenObject{o, c})
}

// Check returns an error that names the first remembered object that is no longer as it was.
func (d *MutationDetector) Check() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.seen {
		if !reflect.DeepEqual(s.shared, s.copied) {
			return fmt.Errorf("shared object %T %s was changed:\nwas %v\nnow %v", s.copied, keyOf(s.copied), s.copied, s.shared)
		}
	}
	return nil
}
