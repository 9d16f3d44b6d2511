package gossip

import (
	"errors"
	"fmt"
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

// InstallKey makes a key good for decrypting. A rotation installs on all peers, then uses on all, then removes the old.
func (g *Gossip) InstallKey(key []byte) error {
	return g.change("install", func() error { return g.keyring.AddKey(key) })
}

// UseKey makes an installed key the one that encrypts.
func (g *Gossip) UseKey(key []byte) error {
	return g.change("use", func() error { return g.keyring.UseKey(key) })
}

// RemoveKey forgets a key that is not in use.
func (g *Gossip) RemoveKey(key []byte) error {
	return g.change("remove", func() error { return g.keyring.RemoveKey(key) })
}

func (g *Gossip) change(what string, do func() error) error {
	if g.keyring == nil {
		return errNoKeys
	}
	if err := do(); err != nil {
		return fmt.Errorf("%s a gossip key: %w", what, err)
	}
	return nil
}
