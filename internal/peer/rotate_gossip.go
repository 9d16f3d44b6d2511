package peer

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"shoal/gossip"
	"shoal/internal/api"
	"shoal/internal/pki"
)

const gossipRotationKey = rotationPrefix + api.RotateGossip

// gossipPurpose is what a new key of gossip is sealed for.
const gossipPurpose = "shoal gossip key"

// Phases of a rotation of gossip's key: what every member has to do.
const (
	phaseInstall = "install" // hold the new key beside those it has
	phaseUse     = "use"     // encrypt with it
	phaseRemove  = "remove"  // forget the others
)

// gossipRotation is the last rotation of gossip's key.
type gossipRotation struct {
	rotation
	Key string `json:"key"` // fingerprint of the new key
	// Removals is how many machines' keys were refused when it began: what those knew is to be worth nothing.
	Removals int `json:"removals"`
	// Sealed is the new key for every member, sealed to its public key: the store is on disks, in backups and on machines that were taken
	// out later.
	Sealed map[string][]byte `json:"sealed"`
}

// fingerprints is what a member says of the keys it holds.
func fingerprints(keys [][]byte) string {
	var all []string
	for _, k := range keys {
		all = append(all, gossip.Fingerprint(k))
	}
	return strings.Join(all, ",")
}

// holds reports whether a key is among those that a member says it holds.
func holds(says, key string) bool { return slices.Contains(strings.Split(says, ","), key) }

// keyring returns the keys that a member should hold which holds have now, given the new one; the one to encrypt with comes first.
func (r *gossipRotation) keyring(have [][]byte, fresh []byte) [][]byte {
	others := slices.DeleteFunc(slices.Clone(have), func(k []byte) bool { return slices.Equal(k, fresh) })
	switch {
	case r.Phase == phaseUse:
		return append([][]byte{fresh}, others...)
	case r.Phase == phaseInstall && len(others) < len(have):
		return have
	case r.Phase == phaseInstall:
		return append(others, fresh)
	}
	return [][]byte{fresh}
}

// obeyed reports whether a member has done what the phase asks of it, by what it says of its keys.
func (r *gossipRotation) obeyed(says string) bool {
	switch r.Phase {
	case phaseInstall:
		return holds(says, r.Key)
	case phaseUse:
		return says == r.Key || strings.HasPrefix(says, r.Key+",")
	case phaseRemove:
		return says == r.Key
	}
	return true
}

// next is the phase that follows when all have obeyed.
func (r *gossipRotation) next() string {
	return map[string]string{phaseInstall: phaseUse, phaseUse: phaseRemove, phaseRemove: api.RotationDone}[r.Phase]
}

// step returns the phase that is due, given what the members say of their keys.
func (r *gossipRotation) step(says map[string]string) string {
	for name, keys := range says {
		if !slices.Contains(r.Without, name) && !r.obeyed(keys) {
			return r.Phase
		}
	}
	return r.next()
}

// beginGossipRotation makes the record of a new rotation, unless one is under way: then it only notes who is not waited for. False means that the
// record was changed meanwhile.
func (p *Peer) beginGossipRotation(ctx context.Context, req api.RotationRequest) (bool, error) {
	if req.Finish || req.OverlapSeconds != 0 {
		return false, failf(http.StatusBadRequest, "gossip's key has no overlap: its rotation is done when every machine has the new one")
	}
	r, rev, ok, err := read[gossipRotation](p.raft, gossipRotationKey)
	if err != nil {
		return false, err
	}
	if ok && r.Phase != api.RotationDone {
		r.Without = and(r.Without, req.Without)
		return p.save(ctx, gossipRotationKey, rev, r)
	}
	r = gossipRotation{rotation: rotation{ID: randomID(), Phase: phaseInstall, Without: and(nil, req.Without), Started: p.now().UTC()}, Removals: len(p.removals())}
	if err := p.sealFresh(&r, randomKey()); err != nil {
		return false, err
	}
	p.log.Info("gossip gets a new key", "rotation", r.ID, "phase", r.Phase)
	return p.save(ctx, gossipRotationKey, rev, r)
}

func randomID() string { return hex.EncodeToString(randomKey()[:4]) }

func randomKey() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the program instead
	return key
}

// sealFresh makes a key the new one of a rotation, for every member.
func (p *Peer) sealFresh(r *gossipRotation, key []byte) error {
	r.Key, r.Sealed = gossip.Fingerprint(key), map[string][]byte{}
	members, err := p.memberRecords()
	if err != nil {
		return err
	}
	for name, m := range members {
		pub, err := m.publicKey()
		if err != nil {
			return err
		}
		if r.Sealed[name], err = pki.Seal(pub, gossipPurpose, key); err != nil {
			return err
		}
	}
	return nil
}

// freshKey returns the new key of a rotation, if this peer has it.
func (p *Peer) freshKey(r *gossipRotation) ([]byte, error) {
	for _, k := range p.gossip.Keys() {
		if gossip.Fingerprint(k) == r.Key {
			return k, nil
		}
	}
	sealed, ok := r.Sealed[p.cfg.Name]
	if !ok {
		return nil, fmt.Errorf("gossip's new key was not sealed to %s", p.cfg.Name)
	}
	key, err := pki.Open(p.id.Key(), gossipPurpose, sealed)
	if err == nil && gossip.Fingerprint(key) != r.Key {
		err = fmt.Errorf("what was sealed to %s is not the key of the rotation", p.cfg.Name)
	}
	return key, err
}

// driveGossipRotation leads the members through a rotation, while this peer is Master.
func (p *Peer) driveGossipRotation(ctx context.Context) error {
	return p.follow(ctx, "/shoal/", func(ctx context.Context) (time.Duration, error) { return 0, p.stepGossipRotation(ctx) }, p.gossip.Changed)
}

// stepGossipRotation does what is due: a machine was removed that knows the key, one that joined needs it, or all have obeyed. Whatever is written wakes it again.
func (p *Peer) stepGossipRotation(ctx context.Context) error {
	r, rev, ok, err := read[gossipRotation](p.raft, gossipRotationKey)
	if err == nil && (!ok || r.Phase == api.RotationDone) && len(p.removals()) > r.Removals {
		_, err = p.beginGossipRotation(ctx, api.RotationRequest{})
		return err
	}
	if err != nil || !ok || r.Phase == api.RotationDone {
		return err
	}
	members, err := p.memberRecords()
	if err != nil {
		return err
	}
	says := map[string]string{}
	for name := range members {
		says[name], _ = p.said(name, metaKeys)
	}
	key, err := p.freshKey(&r)
	if err != nil && r.Phase != phaseInstall {
		return err
	}
	unsealed := slices.ContainsFunc(slices.Collect(maps.Keys(members)), func(name string) bool { return r.Sealed[name] == nil })
	switch next := r.step(says); {
	case err != nil: // nobody uses it yet, so another one will do
		key = randomKey()
		p.log.Warn("the Master has no copy of gossip's new key: it makes another one", "rotation", r.ID, "err", err)
	case next != r.Phase:
		r.Phase = next
		if next == api.RotationDone {
			now := p.now().UTC()
			r.Finished = &now
		}
		p.log.Info("gossip gets a new key", "rotation", r.ID, "phase", next)
	case !unsealed:
		return nil
	}
	if unsealed || gossip.Fingerprint(key) != r.Key {
		if err := p.sealFresh(&r, key); err != nil {
			return err
		}
	}
	_, err = p.save(ctx, gossipRotationKey, rev, r)
	return err
}

func (p *Peer) gossipRotationStatus() (api.Rotation, error) {
	r, _, _, err := read[gossipRotation](p.raft, gossipRotationKey)
	if err != nil {
		return api.Rotation{}, err
	}
	members, err := p.memberRecords()
	if err != nil {
		return api.Rotation{}, err
	}
	return r.status(api.RotateGossip, slices.Sorted(maps.Keys(members)), func(name string) string {
		if says, _ := p.said(name, metaKeys); !r.obeyed(says) {
			return p.lateness(name, metaKeys)
		}
		return ""
	}), nil
}
