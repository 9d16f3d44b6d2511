package peer

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"shoal/consensus/store"
	"shoal/gossip"
	"shoal/internal/pki"
)

// keyringPath is where a peer whose keys nobody else has any more gets the others' keys.
const keyringPath = "/peer/keyring"

// keyring carries gossip's keys, the one that encrypts first.
type keyring struct {
	Keys [][]byte `json:"keys"`
}

// keepKeyring does what a rotation of gossip's key asks of this peer, and fetches the keys when the others have changed theirs while it was
// away.
func (p *Peer) keepKeyring(ctx context.Context) error {
	var obeyed store.Rev
	return p.follow(ctx, gossipRotationKey, func(ctx context.Context) (time.Duration, error) {
		if errors.Is(p.gossip.JoinError(), gossip.ErrWrongKey) {
			return 0, p.fetchKeyring(ctx)
		}
		kv, ok, err := p.raft.Store().Get(gossipRotationKey, 0)
		if err != nil || !ok || kv.Mod == obeyed {
			return 0, err
		}
		rev, err := p.obeyGossipRotation(ctx)
		if err == nil {
			obeyed = rev
		}
		return 0, err
	}, p.gossip.Changed)
}

// obeyGossipRotation makes the keyring what the record says, as it is now: a replica that is behind may show phases which are long over.
func (p *Peer) obeyGossipRotation(ctx context.Context) (store.Rev, error) {
	ctx, cancel := context.WithTimeout(ctx, masterWait)
	defer cancel()
	if _, err := p.raft.ReadIndex(ctx); err != nil {
		return 0, err
	}
	r, rev, ok, err := read[gossipRotation](p.raft, gossipRotationKey)
	if err != nil || !ok {
		return rev, err
	}
	fresh, err := p.freshKey(&r)
	if err != nil {
		if ferr := p.fetchKeyring(ctx); ferr != nil {
			return 0, errors.Join(err, ferr)
		}
		return rev, nil
	}
	return rev, p.setKeys(r.keyring(p.gossip.Keys(), fresh))
}

// setKeys makes these gossip's keys: on the disk first, so that no other peer hears of a key that a crash could take.
func (p *Peer) setKeys(keys [][]byte) error {
	if fingerprints(keys) == fingerprints(p.gossip.Keys()) {
		return p.tell()
	}
	if err := p.keep(func(m *memory) { m.Keys = keys }); err != nil {
		return fmt.Errorf("write gossip's keys down: %w", err)
	}
	if err := p.gossip.SetKeys(keys); err != nil {
		return err
	}
	p.log.Info("gossip's keys changed", "keys", fingerprints(keys))
	return p.tell()
}

// fetchKeyring asks the other peers for their keys, until one answers.
func (p *Peer) fetchKeyring(ctx context.Context) error {
	var errs []error
	for _, m := range p.members() {
		if m.Name == p.cfg.Name {
			continue
		}
		b, err := p.transport.post(ctx, m.Name, keyringPath, nil)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		var k keyring
		if err := json.Unmarshal(b, &k); err != nil || len(k.Keys) == 0 {
			errs = append(errs, fmt.Errorf("%s answers with no keys: %w", m.Name, err))
			continue
		}
		return p.setKeys(k.Keys)
	}
	return fmt.Errorf("the cluster's gossip has other keys, and no peer gives them (shoal recover --rejoin has the Master let this machine in again): %w", errors.Join(errs...))
}

// serveKeyring gives another peer gossip's keys: to whoever is a member now, by this peer's replica when it holds all that was acknowledged.
func (p *Peer) serveKeyring(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), masterWait)
	defer cancel()
	if _, err := p.raft.ReadIndex(ctx); err != nil {
		fail(w, failf(http.StatusServiceUnavailable, "%v", err))
		return
	}
	out, err := p.keysFor(pki.PeerName(*r.TLS), r.TLS.PeerCertificates[0].PublicKey)
	answer(w, out, err)
}

func (p *Peer) keysFor(asker string, key any) (keyring, error) {
	record, _, ok, err := read[peerRecord](p.raft, peerPrefix+store.Key(asker))
	if err != nil {
		return keyring{}, err
	}
	if pub, err := publicBytes(key); err != nil || !ok || subtle.ConstantTimeCompare(record.PublicKey, pub) != 1 {
		return keyring{}, failf(http.StatusForbidden, "no peer %q with that key is in the cluster any more", asker)
	}
	rotation, _, ok, err := read[gossipRotation](p.raft, gossipRotationKey)
	if err != nil {
		return keyring{}, err
	}
	// A peer that comes back itself must not pass on what it had.
	if ok && !holds(fingerprints(p.gossip.Keys()), rotation.Key) {
		return keyring{}, failf(http.StatusServiceUnavailable, "%s does not have the newest key yet", p.cfg.Name)
	}
	return keyring{Keys: p.gossip.Keys()}, nil
}
