package peer

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"shoal/consensus/store"
	"shoal/internal/pki"
)

// Keys of what peers keep in the store about themselves. No API kind has them.
const (
	peerPrefix  store.Key = "/shoal/peers/"
	sealPrefix  store.Key = "/shoal/ca/"
	tokenPrefix store.Key = "/shoal/tokens/"
	vaultPrefix store.Key = "/shoal/vault/"
	// adminPrefix is followed by a peer's name and the hash of the key of an administrator's certificate that it was given.
	adminPrefix store.Key = "/shoal/admins/"
	// removedPrefix is followed by the hash of the key of a machine that was removed.
	removedPrefix store.Key = "/shoal/removed/"
)

// caPurpose is what the CA's key is sealed for.
const caPurpose = "shoal ca key"

// peerRecord is a machine that has been let in.
type peerRecord struct {
	Name      string    `json:"name"`
	Address   string    `json:"address"` // of its API, when it joined
	PublicKey []byte    `json:"publicKey"`
	Joined    time.Time `json:"joined"`
}

// publicKey returns the key that blobs for the peer are sealed to.
func (r peerRecord) publicKey() (*ecdsa.PublicKey, error) {
	k, err := ecdsa.ParseUncompressedPublicKey(curve, r.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("public key of peer %s: %w", r.Name, err)
	}
	return k, nil
}

// removedRecord is a machine that was taken out of the cluster: its key is refused for ever.
type removedRecord struct {
	Name string    `json:"name"`
	Key  string    `json:"key"` // pki.Hash of it
	When time.Time `json:"when"`
}

// adminRecord is an administrator's certificate that a machine has.
type adminRecord struct {
	Key   string    `json:"key"` // pki.Hash of it
	Until time.Time `json:"until"`
}

// tokenRecord is a join token. The secret itself is not stored.
type tokenRecord struct {
	ID       string    `json:"id"`
	Hash     []byte    `json:"hash"` // SHA-256 of the bearer
	UsesLeft int       `json:"usesLeft"`
	Expires  time.Time `json:"expires"`
}

// log is what the records need of consensus.
type log interface {
	Store() *store.Store
	Propose(ctx context.Context, txn store.Txn) (store.Result, error)
}

// read decodes one record; false when there is none.
func read[T any](l log, key store.Key) (T, store.Rev, bool, error) {
	var out T
	kv, ok, err := l.Store().Get(key, 0)
	if err != nil || !ok {
		return out, 0, false, err
	}
	if err := json.Unmarshal(kv.Value, &out); err != nil {
		return out, 0, false, fmt.Errorf("record %s: %w", key, err)
	}
	return out, kv.Mod, true, nil
}

// readAll decodes every record below prefix.
func readAll[T any](l log, prefix store.Key) ([]T, error) {
	page, err := l.Store().List(prefix, "", 0, 0)
	if err != nil {
		return nil, err
	}
	all := make([]T, 0, len(page.KVs))
	for _, kv := range page.KVs {
		var one T
		if err := json.Unmarshal(kv.Value, &one); err != nil {
			return nil, fmt.Errorf("record %s: %w", kv.Key, err)
		}
		all = append(all, one)
	}
	return all, nil
}

// put is the operation that stores a record.
func put(key store.Key, record any) (store.Op, error) {
	b, err := json.Marshal(record)
	return store.Op{Key: key, Value: b}, err
}

// copyFor is what stores a copy of something secret for one peer, sealed to it. ok is false when the peer has not been let in, or was removed; what is
// to compare makes sure that this is so still.
func copyFor(l log, prefix store.Key, purpose, name string, secret []byte) (op store.Op, is store.Compare, ok bool, err error) {
	record, rev, ok, err := read[peerRecord](l, peerPrefix+store.Key(name))
	if err != nil || !ok {
		return op, is, false, err
	}
	pub, err := record.publicKey()
	if err != nil {
		return op, is, false, err
	}
	blob, err := pki.Seal(pub, purpose, secret)
	return store.Op{Key: prefix + store.Key(name), Value: blob}, store.Compare{Key: peerPrefix + store.Key(name), Mod: rev}, err == nil, err
}

// sealCA seals the CA's key, and another one while the CA is rotated, to every given peer that has no copy yet. It fails if something that it
// is to compare has changed.
func sealCA(ctx context.Context, l log, pem []byte, peers []string, meanwhile ...store.Compare) error {
	for _, name := range peers {
		key := sealPrefix + store.Key(name)
		if _, ok, err := l.Store().Get(key, 0); err != nil || ok {
			if err != nil {
				return err
			}
			continue
		}
		op, is, ok, err := copyFor(l, sealPrefix, caPurpose, name, pem)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		txn := store.Txn{Compares: append(slices.Clone(meanwhile), store.Compare{Key: key}, is), Ops: []store.Op{op}}
		res, err := l.Propose(ctx, txn)
		if err != nil {
			return fmt.Errorf("store the CA key for %s: %w", name, err)
		}
		if !res.OK {
			return fmt.Errorf("store the CA key for %s: something changed meanwhile", name)
		}
	}
	return nil
}

// openCA opens this peer's copy of the key of the CA that signs.
func openCA(l log, id *pki.Identity) (*pki.CA, error) {
	pem, _, err := sealedKeys(l, id)
	if err != nil {
		return nil, err
	}
	return pki.ParseCA(id.CAPEM(), pem)
}
