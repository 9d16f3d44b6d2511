package peer

import (
	"shoal/consensus/store"
	"shoal/internal/pki"
)

// lostSecrets returns the Secrets of a peer that does not run which are sealed with keys that it has no copy of.
func lostSecrets(dir *dataDir, s *store.Store, id *pki.Identity) ([]store.Key, error) {
	ring, err := founderRing(dir)
	if err != nil {
		return nil, err
	}
	kv, ok, err := s.Get(vaultPrefix+store.Key(id.Peer()), 0)
	if err != nil {
		return nil, err
	}
	if ok {
		if own, err := openRing(id, kv.Value); err == nil {
			ring = own
		} // else it is sealed to an earlier life of this machine
	}
	page, err := s.List(secretsPrefix, "", 0, 0)
	if err != nil {
		return nil, err
	}
	var lost []store.Key
	for _, kv := range page.KVs {
		_, whole, err := openSecret(ring, kv.Key, kv.Value)
		if err != nil {
			return nil, err
		}
		if !whole {
			lost = append(lost, kv.Key)
		}
	}
	return lost, nil
}

// forgetSecrets returns what removes the Secrets that are lost. Their cluster then gets a new ring: its key stays in a file until the first term.
func (p *Peer) forgetSecrets(s *store.Store, lost []store.Key) ([]store.Op, error) {
	kv, ok, err := s.Get(vaultPrefix+store.Key(p.memory.Name), 0)
	if err != nil {
		return nil, err
	}
	page, err := s.List(vaultPrefix, "", 0, 0)
	if err != nil || len(page.KVs) == 0 {
		return nil, err // they are in clear
	}
	if ok {
		if _, err := openRing(p.id, kv.Value); err == nil {
			return nil, nil
		}
	}
	if ring, err := founderRing(p.dir); err != nil {
		return nil, err
	} else if ring == nil {
		if _, err := p.newVaultKey(); err != nil {
			return nil, err
		}
	}
	var ops []store.Op
	for _, copied := range page.KVs {
		ops = append(ops, store.Op{Key: copied.Key, Delete: true})
	}
	for _, key := range lost {
		ops = append(ops, store.Op{Key: key, Delete: true})
	}
	return ops, nil
}
