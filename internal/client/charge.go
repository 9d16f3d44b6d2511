package client

import (
	"context"

	"shoal/internal/api"
)

// Charge is a write that may take more of what its namespace may have, once its object is complete and valid. The registry asks for it, in a namespace
// that has quotas, and the Master answers.
type Charge struct {
	Kind     *api.Kind
	Key      Key
	Old, New api.Object // read-only; Old is nil for a new object
	Quotas   string     // the newest revision of the namespace's quotas
	Own      bool       // the Master itself writes
}

// Charging reserves what a write takes, or refuses it with a StatusError. The first call of settle tells what became of it: the revision of the write,
// or zero when it did not happen.
type Charging func(ctx context.Context, c *Charge) (settle func(rev uint64), err error)
