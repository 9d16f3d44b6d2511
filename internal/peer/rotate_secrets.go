package peer

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/pki"
)

// resealOps is how many Secrets one transaction seals anew.
const resealOps = 64

// rotateRing has Secrets sealed with a new key, also in a cluster that kept them in clear, and returns when all are. Peers without a vote lose
// the copies they had. Whoever is interrupted leaves the rest to tend. Master only.
func (p *Peer) rotateRing(ctx context.Context) (api.Sealing, error) {
	ring, err := p.vault.keys()
	switch {
	case err != nil:
		return api.Sealing{}, failf(http.StatusServiceUnavailable, "%v", err)
	case ring == nil && p.vault.sealing():
		return api.Sealing{}, failf(http.StatusServiceUnavailable, "%v", errLocked)
	case ring == nil:
		if err := p.allCanOpen(); err != nil {
			return api.Sealing{}, err
		}
		ring, err = pki.NewRing()
	default:
		// A ring opens no more than two keys: nothing may be left under the one that is dropped.
		if _, err := p.sealAnew(ctx, ring); err != nil {
			return api.Sealing{}, failf(http.StatusServiceUnavailable, "%v", err)
		}
		ring, err = ring.Next()
	}
	if err != nil {
		return api.Sealing{}, err
	}
	if err := p.replaceRing(ctx, ring); err != nil {
		return api.Sealing{}, failf(http.StatusServiceUnavailable, "%v", err)
	}
	p.log.Info("Secrets have a new key", "key", ring.ID())
	anew, err := p.sealAnew(ctx, ring)
	if err != nil {
		return api.Sealing{}, failf(http.StatusServiceUnavailable, "Secrets have a new key, and not all are sealed with it yet: %v", err)
	}
	out := p.sealingStatus()
	out.Anew = anew
	return out, nil
}

// allCanOpen returns why Secrets cannot be sealed yet: a peer may run a version from before they were.
func (p *Peer) allCanOpen() error {
	for _, m := range p.members() {
		if m.Version != p.version {
			return failf(http.StatusConflict, "peer %s runs version %q, and this Master %q: Secrets are sealed when every machine is known to run one version, "+
				"as earlier ones cannot open them", m.Name, m.Version, p.version)
		}
	}
	return nil
}

// replaceRing gives the voters a new ring, and takes the copies from everybody else.
func (p *Peer) replaceRing(ctx context.Context, ring *pki.Ring) error {
	own := vaultPrefix + store.Key(p.memory.Name)
	page, err := p.raft.Store().List(vaultPrefix, "", 0, 0)
	if err != nil {
		return err
	}
	t, err := p.ringFor(ring, names(p.raft.Status().Voters))
	if err != nil {
		return err
	}
	given := map[store.Key]bool{}
	for _, op := range t.Ops {
		given[op.Key] = true
	}
	if !given[own] {
		return fmt.Errorf("%s has no vote, or has been removed: it does not change the keys of Secrets", p.memory.Name)
	}
	mine := store.Compare{Key: own}
	for _, kv := range page.KVs {
		if kv.Key == own {
			mine.Mod = kv.Mod
		}
		if !given[kv.Key] {
			t.Ops = append(t.Ops, store.Op{Key: kv.Key, Delete: true})
		}
	}
	t.Compares = append(t.Compares, mine)
	return p.proposeRing(ctx, t)
}

// sealAnew seals with the newest key what is not, and returns how many Secrets that were. What no key opens stays.
func (p *Peer) sealAnew(ctx context.Context, ring *pki.Ring) (anew int, err error) {
	p.resealing.Lock()
	defer p.resealing.Unlock()
	var from store.Key
	for {
		page, err := p.raft.Store().List(secretsPrefix, from, 0, resealOps)
		if err != nil {
			return anew, err
		}
		var t store.Txn
		for _, kv := range page.KVs {
			value, err := sealedAnew(ring, kv)
			if err != nil {
				return anew, err
			}
			if value != nil {
				t.Compares = append(t.Compares, store.Compare{Key: kv.Key, Mod: kv.Mod})
				t.Ops = append(t.Ops, store.Op{Key: kv.Key, Value: value})
			}
		}
		if len(t.Ops) > 0 {
			res, err := p.raft.Propose(ctx, t)
			if err != nil {
				return anew, err
			}
			if !res.OK {
				continue // one of them was written meanwhile
			}
			anew += len(t.Ops)
		}
		if !page.More {
			return anew, nil
		}
		from = page.KVs[len(page.KVs)-1].Key + "\x00"
	}
}

// sealedAnew returns the value of a Secret under the newest key; nil when it is, or cannot be.
func sealedAnew(ring *pki.Ring, kv store.KV) ([]byte, error) {
	if newly, err := sealedNewly(ring, kv.Value); err != nil || newly {
		return nil, err
	}
	plain, whole, err := openSecret(ring, kv.Key, kv.Value)
	if err != nil || !whole {
		return nil, err
	}
	return sealSecret(ring, kv.Key, plain)
}

// keepSealed ends what a rotation left undone, and rotates when a machine has gone that had the keys. Master only.
func (p *Peer) keepSealed(ctx context.Context) error {
	ring, err := p.vault.keys()
	if err != nil || ring == nil {
		return err
	}
	gone, err := p.exposed()
	if err != nil {
		return err
	}
	if gone != "" {
		p.log.Info("the keys of Secrets are changed: a machine that had them was removed", "peer", gone)
		_, err := p.rotateRing(ctx)
		return err
	}
	if p.resealed == ring.ID() {
		return nil
	}
	if _, err := p.sealAnew(ctx, ring); err != nil {
		return err
	}
	p.resealed = ring.ID()
	return nil
}

// sealingStatus says how Secrets are kept.
func (p *Peer) sealingStatus() api.Sealing {
	var out api.Sealing
	ring, _ := p.vault.keys()
	if ring != nil {
		out.Key = ring.ID()
	}
	if page, err := p.raft.Store().List(vaultPrefix, "", 0, 0); err == nil {
		for _, kv := range page.KVs {
			out.Holders = append(out.Holders, strings.TrimPrefix(string(kv.Key), string(vaultPrefix)))
		}
	}
	page, err := p.raft.Store().List(secretsPrefix, "", 0, 0)
	if err != nil {
		return out
	}
	for _, kv := range page.KVs {
		out.Secrets++
		if ring == nil {
			out.Others++
		} else if newly, err := sealedNewly(ring, kv.Value); err != nil || !newly {
			out.Others++
		}
	}
	return out
}
