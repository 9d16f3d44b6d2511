package registry

import (
	"context"

	"shoal/internal/api"
	"shoal/internal/client"
)

// History returns what is still kept of an object's past, the newest first. An object that is not known at all is NotFound.
func (r *Registry) History(_ context.Context, k *api.Kind, key client.Key) (*api.History, error) {
	s, skey := r.cfg.Log.Store(), keyOf(k, key)
	h := &api.History{Oldest: uint64(s.OldestRev())}
	for _, ev := range s.Versions(skey) {
		v := api.Revision{Revision: uint64(ev.Rev), Deleted: ev.Deleted, Created: !ev.Deleted && ev.Create == ev.Rev}
		if !ev.Deleted {
			e, err := r.decodeEntry(k, skey, ev.Value, ev.Rev)
			if err != nil {
				return nil, internal(err)
			}
			if v.Object, err = e.JSON(); err != nil {
				return nil, internal(err)
			}
		}
		h.Revisions = append(h.Revisions, v)
	}
	if len(h.Revisions) == 0 {
		return nil, notFound(k, key.Name)
	}
	return h, nil
}
