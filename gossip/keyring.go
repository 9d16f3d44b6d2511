package gossip

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

var errNoKeys = errors.New("gossip runs without encryption")

// Keys returns copies of the installed keys, the one that encrypts first.
func (g *Gossip) Keys() [][]byte {
	if g.keyring == nil {
		return nil
	}
	var keys [][]byte
	for _, k := range g.keyring.GetKeys() {
		keys = append(keys, append([]byte(nil), k...))
	}
	return keys
}

// SetKeys makes these the keys, the one that encrypts first: what is new is installed before it is used, and what is left out is forgotten
// after. On an error some of it may have been done; it can be called again. A rotation has all peers decrypt by the new key, then all encrypt
// with it, and then forget the old.
func (g *Gossip) SetKeys(keys [][]byte) error {
	if g.keyring == nil || len(keys) == 0 {
		return errNoKeys
	}
	for _, k := range keys {
		if err := g.change("install", g.keyring.AddKey, k); err != nil {
			return err
		}
	}
	if err := g.change("use", g.keyring.UseKey, keys[0]); err != nil {
		return err
	}
	for _, k := range g.Keys() {
		if slices.ContainsFunc(keys, func(kept []byte) bool { return bytes.Equal(kept, k) }) {
			continue
		}
		if err := g.change("remove", g.keyring.RemoveKey, k); err != nil {
			return err
		}
	}
	return nil
}

// Fingerprint names a key without telling anything of it.
func Fingerprint(key []byte) string {
	sum := sha256.Sum256(append([]byte("shoal gossip key "), key...))
	return hex.EncodeToString(sum[:6])
}

func (g *Gossip) change(what string, do func([]byte) error, key []byte) error {
	if err := do(key); err != nil {
		return fmt.Errorf("%s a gossip key: %w", what, err)
	}
	return nil
}
