package pki

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// ErrNoKey means that a value was sealed with a key that a ring does not have, or was changed since.
var ErrNoKey = errors.New("sealed with a key that is not here, or changed since")

// Ring is the keys of a cluster for what is kept encrypted: the first seals, each opens. AES-256-GCM with random nonces, which is good for
// 2^32 values a key (NIST SP 800-38D, 8.3). It is read-only and safe for concurrent use.
type Ring struct{ keys []ringKey }

type ringKey struct {
	id   [ringID]byte
	key  []byte
	aead cipher.AEAD
}

const (
	ringID    = 4 // bytes
	ringForm1 = 1 // the form of what Seal returns: this byte, the key's id, nonce, ciphertext, tag
	// ringKept is how many keys a ring has at most: the newest, and the one before it for what is not sealed anew yet.
	ringKept = 2
)

// NewRing makes a ring of one new key.
func NewRing() (*Ring, error) { return (&Ring{}).Next() }

// Next returns a ring that seals with a new key and still opens what the newest key of r sealed, but nothing older.
func (r *Ring) Next() (*Ring, error) {
	var id [ringID]byte
	secret := make([]byte, 32)
	_, _ = rand.Read(id[:]) // never fails: crypto/rand ends the program instead
	_, _ = rand.Read(secret)
	k, err := newRingKey(id[:], secret)
	if err != nil {
		return nil, err
	}
	return &Ring{keys: append([]ringKey{k}, r.keys[:min(len(r.keys), ringKept-1)]...)}, nil
}

func newRingKey(id, secret []byte) (ringKey, error) {
	k := ringKey{key: secret}
	if copy(k.id[:], id) != ringID || len(id) != ringID || len(secret) != 32 {
		return k, errors.New("a ring's key has an id of 4 bytes and 32 secret ones")
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return k, err
	}
	k.aead, err = cipher.NewGCMWithRandomNonce(block)
	return k, err
}

// ID names the key that seals.
func (r *Ring) ID() string { return hex.EncodeToString(r.keys[0].id[:]) }

// Seal encrypts a value under the newest key. place must be the same when it is opened: a value cannot be passed off as another's.
func (r *Ring) Seal(place string, value []byte) []byte {
	k := r.keys[0]
	out := append([]byte{ringForm1}, k.id[:]...)
	return k.aead.Seal(out, nil, value, []byte(place))
}

// Open decrypts what Seal returned for place, or returns ErrNoKey.
func (r *Ring) Open(place string, sealed []byte) ([]byte, error) {
	if len(sealed) > 1+ringID && sealed[0] == ringForm1 {
		for _, k := range r.keys {
			if string(k.id[:]) != string(sealed[1:1+ringID]) {
				continue
			}
			if value, err := k.aead.Open(nil, nil, sealed[1+ringID:], []byte(place)); err == nil {
				return value, nil
			}
		}
	}
	return nil, ErrNoKey
}

// Newest reports whether a value is sealed with the newest key.
func (r *Ring) Newest(sealed []byte) bool {
	return len(sealed) > 1+ringID && sealed[0] == ringForm1 && string(sealed[1:1+ringID]) == string(r.keys[0].id[:])
}

type ringForm struct {
	Keys []ringKeyForm `json:"keys"`
}

type ringKeyForm struct {
	ID  []byte `json:"id"`
	Key []byte `json:"key"`
}

// Marshal returns the ring with its keys in clear: to be sealed to somebody.
func (r *Ring) Marshal() ([]byte, error) {
	var f ringForm
	for _, k := range r.keys {
		f.Keys = append(f.Keys, ringKeyForm{k.id[:], k.key})
	}
	return json.Marshal(f)
}

// ParseRing reads what Marshal wrote.
func ParseRing(b []byte) (*Ring, error) {
	var f ringForm
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("ring of keys: %w", err)
	}
	r := &Ring{}
	for _, k := range f.Keys {
		one, err := newRingKey(k.ID, k.Key)
		if err != nil {
			return nil, fmt.Errorf("ring of keys: %w", err)
		}
		r.keys = append(r.keys, one)
	}
	if len(r.keys) == 0 || len(r.keys) > ringKept {
		return nil, fmt.Errorf("ring of keys: it has %d", len(r.keys))
	}
	return r, nil
}
