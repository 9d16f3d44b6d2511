// Package client is how every role reads and writes API objects: one interface with two implementations (the registry
// in-process, HTTP everywhere else), and the cache, queue and controller loop built on it. It never talks to the store.
package client

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"shoal/internal/api"
)

// Key names one object of a kind. Namespace is empty for cluster-scoped kinds.
type Key = types.NamespacedName

// Interface reads and writes API objects. Implementations are safe for concurrent use. Every error is an
// *apierrors.StatusError, except those of a cancelled ctx. Returned objects may be shared: DeepCopy before changing one.
// Objects passed in are neither kept nor changed.
type Interface interface {
	// Get reads one object; the most recent one unless o.ResourceVersion is set.
	Get(ctx context.Context, k *api.Kind, key Key, o GetOptions) (api.Object, error)
	// List reads the matching objects at one revision.
	List(ctx context.Context, k *api.Kind, o ListOptions) (*List, error)
	// Watch begins after o.ResourceVersion, which a List returned. It blocks only to set the watch up; the caller must
	// Close the watch.
	Watch(ctx context.Context, k *api.Kind, o ListOptions) (Watch, error)
	// Create stores a new object, or calls a subresource that takes a body (binding, scale, eviction, token).
	// obj is *corev1.Binding and so on when o.Subresource is set.
	Create(ctx context.Context, k *api.Kind, obj runtime.Object, o CreateOptions) (runtime.Object, error)
	// Update replaces an object or its subresource. A non-empty resourceVersion in obj must be the stored one's.
	Update(ctx context.Context, k *api.Kind, obj runtime.Object, o UpdateOptions) (runtime.Object, error)
	// Patch changes part of one object.
	Patch(ctx context.Context, k *api.Kind, key Key, p Patch, o PatchOptions) (runtime.Object, error)
	// Delete deletes one object, or marks it when it must end gracefully or has finalizers. It returns the object as
	// it is then.
	Delete(ctx context.Context, k *api.Kind, key Key, o DeleteOptions) (api.Object, error)
}

// GetOptions: the zero value asks for the most recent state.
type GetOptions struct {
	// ResourceVersion: empty is the most recent; "0" is whatever this peer has; N waits for at least N.
	ResourceVersion string
	Subresource     string // "scale"; else empty
}

// ListOptions select objects for List and Watch.
type ListOptions struct {
	Namespace            string // empty means all
	Labels               labels.Selector
	Fields               fields.Selector
	ResourceVersion      string
	ResourceVersionMatch metav1.ResourceVersionMatch
	Limit                int64
	Continue             string
	// For Watch only.
	Bookmarks         bool
	SendInitialEvents *bool
}

// List is a list's items with its metadata. Items are shared and read-only.
type List struct {
	Items              []api.Object
	ResourceVersion    string
	Continue           string
	RemainingItemCount *int64
}

// Watch is a pull-style stream of changes: nothing is buffered beyond what one Next returns.
type Watch interface {
	// Next blocks until something happened and returns at least one event, in revision order. It returns io.EOF when
	// the stream ended in good order (watch again from the last revision) and a StatusError with reason Expired when
	// history is gone (list again). Not safe for concurrent use.
	Next(ctx context.Context) ([]Event, error)
	// Close ends the watch; a blocked Next returns. It may be called more than once.
	Close()
}

// Event is one change. For watch.Deleted the object is the last state, with the revision of the deletion.
type Event struct {
	Type   watch.EventType
	Object api.Object
}

// CreateOptions: Namespace and Name are needed only with Subresource.
type CreateOptions struct {
	Subresource     string
	Key             Key
	DryRun          bool
	FieldManager    string
	FieldValidation string
}

// UpdateOptions select what Update replaces.
type UpdateOptions struct {
	Subresource     string // "status", "scale"; else the object
	Key             Key    // needed only with Subresource "scale"
	DryRun          bool
	FieldManager    string
	FieldValidation string
}

// Patch is a patch body with its type.
type Patch struct {
	Type types.PatchType
	Data []byte
}

// PatchOptions select what Patch changes.
type PatchOptions struct {
	Subresource     string
	DryRun          bool
	FieldManager    string
	FieldValidation string
	Force           bool
}

// DeleteOptions: the zero value deletes with the kind's own grace and background propagation.
type DeleteOptions struct {
	GracePeriodSeconds *int64
	Preconditions      *metav1.Preconditions
	Propagation        *metav1.DeletionPropagation
	DryRun             bool
}
