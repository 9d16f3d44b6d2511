package registry

import (
	"context"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/fair"
)

// toll is what was reserved for one write. Nil when nothing was.
type toll struct {
	settle func(rev uint64)
	open   bool // nobody waits for the outcome, which is still to come
}

// charge reserves what an object takes in place of old, if its namespace has quotas.
func (r *Registry) charge(ctx context.Context, k *api.Kind, key client.Key, old, obj api.Object) (*toll, error) {
	if r.cfg.Charge == nil || !k.Namespaced || !k.Collected() {
		return nil, nil
	}
	quotas, err := r.cfg.Log.Store().List(prefixOf(api.ResourceQuotas, key.Namespace), "", 0, 0)
	if err != nil {
		return nil, internal(err)
	}
	if len(quotas.KVs) == 0 {
		return nil, nil
	}
	newest := store.Rev(0)
	for _, kv := range quotas.KVs {
		newest = max(newest, kv.Mod)
	}
	c := &client.Charge{Kind: k, Key: key, Old: old, New: obj, Quotas: newest.String()}
	if k.Stored != nil { // counted as what is stored
		c.Kind, c.New = k.Stored, k.ToStored(obj)
		if old != nil {
			c.Old = k.ToStored(old)
		}
	}
	_, c.Own = ctx.Value(termKey{}).(uint64)
	resume := fair.Yield(ctx) // at the beginning of a term it waits
	settle, err := r.cfg.Charge(ctx, c)
	resume()
	if err != nil {
		return nil, err
	}
	return &toll{settle: settle}, nil
}

// over gives back what was reserved, unless the write has happened or may still happen.
func (t *toll) over() {
	if t != nil && !t.open {
		t.settle(0)
	}
}

// proposeCharged proposes a transaction whose first write was charged for. What is reserved for it stays so until it is known what became of it, even
// when ctx ends before.
func (r *Registry) proposeCharged(ctx context.Context, k *api.Kind, t store.Txn, fee *toll) (store.Result, error) {
	if fee == nil {
		return r.proposeObject(ctx, k, t)
	}
	type outcome struct {
		res store.Result
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		res, err := r.proposeObject(context.WithoutCancel(ctx), k, t)
		if err == nil && res.OK {
			fee.settle(uint64(res.Revs[0]))
		}
		done <- outcome{res, err}
	}()
	select {
	case o := <-done:
		return o.res, o.err
	case <-ctx.Done():
		fee.open = true
		go func() {
			<-done
			fee.settle(0) // which counts only when it was not settled
		}()
		return store.Result{}, fromLog(ctx, context.Cause(ctx))
	}
}
