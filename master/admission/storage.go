package admission

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/storage/volume"

	"shoal/internal/api"
	"shoal/internal/client"
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

// defaultClass gives new claims that name no class the default one, if there is one. An empty name is a name: of no class.
type defaultClass struct{ reader Reader }

func (p defaultClass) Admit(ctx context.Context, r *Request) error {
	if !r.is(api.PersistentVolumeClaims, Create) {
		return nil
	}
	claim := r.Object.(*corev1.PersistentVolumeClaim)
	if volume.PersistentVolumeClaimHasClass(claim) {
		return nil
	}
	list, err := p.reader.List(ctx, api.StorageClasses, client.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return err
	}
	if class := api.DefaultStorageClass(list.Items); class != nil {
		claim.Spec.StorageClassName = &class.Name
	}
	return nil
}
