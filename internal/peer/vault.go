package peer

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/pki"
)

// vaultPurpose is what the keys of Secrets are sealed for, to each voter.
const vaultPurpose = "shoal secrets keys"

// secretsPrefix is what the keys of Secrets in the store begin with.
const secretsPrefix store.Key = "/secrets/"

// sealedData is the key of a stored Secret's data under which all of its data and its annotations are, sealed. No Secret of the API's can have it.
const sealedData = ""

// errLocked means that this peer cannot read or write what is in Secrets.
var errLocked = errors.New("this peer has no key of Secrets: only voters have")

// vault keeps what is in Secrets sealed in the store: in the log, in snapshots and on every replica. It implements registry.Transformer.
// What is left in clear is what controllers judge Secrets by: their metadata but for annotations, where kubectl keeps whole objects, and their
// type. The tokens of users are hashes, which every peer checks tokens against: they stay as they are.
//
// The ring of keys is in the store, too, once for each voter, sealed to it. A cluster from before there was one goes on without until an
// administrator wants it (rotate_secrets.go), because the version before cannot read what is sealed.
type vault struct {
	log     log
	id      *pki.Identity
	own     store.Key // of this peer's copy of the ring
	founder *pki.Ring // of a cluster that this peer has founded and whose ring may not be in the store yet; nil otherwise

	mu   sync.Mutex
	mod  store.Rev // of the copy that ring was opened from
	ring *pki.Ring
}

// keys returns the cluster's ring as this peer's replica has it; nil when this peer has no copy.
func (v *vault) keys() (*pki.Ring, error) {
	kv, ok, err := v.log.Store().Get(v.own, 0)
	if err != nil || !ok {
		return v.founder, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mod == kv.Mod {
		return v.ring, nil
	}
	ring, err := openRing(v.id, kv.Value)
	if err != nil {
		return nil, err
	}
	v.mod, v.ring = kv.Mod, ring
	return ring, nil
}

func openRing(id *pki.Identity, copied []byte) (*pki.Ring, error) {
	plain, err := pki.Open(id.Key(), vaultPurpose, copied)
	if err != nil {
		return nil, err
	}
	return pki.ParseRing(plain)
}

// sealing reports whether the cluster keeps Secrets sealed.
func (v *vault) sealing() bool {
	page, err := v.log.Store().List(vaultPrefix, "", 0, 1)
	return err == nil && len(page.KVs) > 0
}

// Locked reports whether the cluster keeps Secrets sealed and this peer has no key to them.
func (v *vault) Locked() bool {
	ring, err := v.keys()
	return (err != nil || ring == nil) && v.sealing()
}

// locked implements the API's Locked.
func (p *Peer) locked(group, resource string) bool {
	return group == api.Secrets.Group && resource == api.Secrets.Resource && p.vault.Locked()
}

func isSecret(key store.Key) bool { return strings.HasPrefix(string(key), string(secretsPrefix)) }

// Seal implements registry.Transformer.
func (v *vault) Seal(key store.Key, value []byte) ([]byte, error) {
	if !isSecret(key) {
		return value, nil
	}
	ring, err := v.keys()
	switch {
	case err != nil:
		return nil, err
	case ring == nil && v.sealing():
		return nil, errLocked
	case ring == nil:
		return value, nil
	}
	return sealSecret(ring, key, value)
}

// Open implements registry.Transformer.
func (v *vault) Open(key store.Key, value []byte) ([]byte, bool, error) {
	if !isSecret(key) {
		return value, true, nil
	}
	ring, err := v.keys()
	if err != nil {
		ring = nil // a copy that is not for this peer's key is as good as none
	}
	return openSecret(ring, key, value)
}

// Unlocks implements registry.Transformer.
func (v *vault) Unlocks(key store.Key) bool { return key == v.own }

// sealSecret returns a stored Secret with its data and annotations sealed.
func sealSecret(ring *pki.Ring, key store.Key, value []byte) ([]byte, error) {
	s := &corev1.Secret{}
	if err := s.Unmarshal(value); err != nil {
		return nil, fmt.Errorf("decode %s: %w", key, err)
	}
	if s.Type == api.UserTokenType || len(s.Data) == 0 && len(s.Annotations) == 0 {
		return value, nil
	}
	inner := &corev1.Secret{Data: s.Data}
	inner.Annotations = s.Annotations
	plain, err := inner.Marshal()
	if err != nil {
		return nil, err
	}
	s.Annotations, s.Data = nil, map[string][]byte{sealedData: ring.Seal(string(key), plain)}
	return s.Marshal()
}

// openSecret undoes sealSecret. Without the right key it returns what is in clear, and false. A nil ring has no key.
func openSecret(ring *pki.Ring, key store.Key, value []byte) (plain []byte, whole bool, err error) {
	s := &corev1.Secret{}
	if err := s.Unmarshal(value); err != nil {
		return nil, false, fmt.Errorf("decode %s: %w", key, err)
	}
	sealed, is := s.Data[sealedData]
	if !is {
		return value, true, nil
	}
	s.Data = nil
	if ring != nil {
		if inner, err := ring.Open(string(key), sealed); err == nil {
			within := &corev1.Secret{}
			if err := within.Unmarshal(inner); err != nil {
				return nil, false, fmt.Errorf("decode what is sealed in %s: %w", key, err)
			}
			s.Data, s.Annotations, whole = within.Data, within.Annotations, true
		}
	}
	plain, err = s.Marshal()
	return plain, whole, err
}

// sealedNewly reports whether a stored Secret is sealed with the newest key, as far as it has to be.
func sealedNewly(ring *pki.Ring, value []byte) (bool, error) {
	s := &corev1.Secret{}
	if err := s.Unmarshal(value); err != nil {
		return false, err
	}
	if sealed, is := s.Data[sealedData]; is {
		return ring.Newest(sealed), nil
	}
	return s.Type == api.UserTokenType || len(s.Data) == 0 && len(s.Annotations) == 0, nil
}
