package admission

import (
	"context"
	"slices"

	"shoal/internal/api"
)

// storageInUse marks new volumes and claims so that a deletion waits until nobody uses them any more; the Master takes
// the mark away then.
type storageInUse struct{}

func (storageInUse) Admit(_ context.Context, r *Request) error {
	var mark string
	switch {
	case r.is(api.PersistentVolumes, Create):
		mark = api.FinalizerVolume
	case r.is(api.PersistentVolumeClaims, Create):
		mark = api.FinalizerClaim
	default:
		return nil
	}
	if all := r.Object.GetFinalizers(); !slices.Contains(all, mark) {
		r.Object.SetFinalizers(append(all, mark))
	}
	return nil
}
