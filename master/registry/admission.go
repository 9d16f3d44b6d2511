package registry

import (
	"context"

	"shoal/internal/api"
	"shoal/internal/client"
)

// Operation is what a write does to an object.
type Operation string

// The operations that admission sees. Updates include patches and subresources.
const (
	OpCreate Operation = "CREATE"
	OpUpdate Operation = "UPDATE"
	OpDelete Operation = "DELETE"
)

// Admission is one write under decision.
type Admission struct {
	Operation   Operation
	Kind        *api.Kind
	Key         client.Key // the name is empty when it will be generated
	Subresource string
	// Object is what will be stored; the hook may change it. Nil for a deletion.
	Object api.Object
	// Old is what is stored now, read-only. Nil for a creation.
	Old    api.Object
	DryRun bool
}

// Admit decides on a write: a nil error admits it, a StatusError is shown to the client as it is. ctx carries the user
// when the write came through the API; a write without one comes from a component in this process. It is called again
// when another write overtook this one and it is computed anew.
type Admit func(ctx context.Context, a *Admission) error
