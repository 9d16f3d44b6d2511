package peer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/pki"
)

// vaultKeyFile has the ring of a new cluster until its first term has sealed it into the store.
func (p *Peer) vaultKeyFile() string { return p.dir.join("pki", "secrets.key") }

// newVaultKey makes the ring of a new cluster.
func (p *Peer) newVaultKey() (*pki.Ring, error) {
	ring, err := pki.NewRing()
	if err != nil {
		return nil, err
	}
	b, err := ring.Marshal()
	if err != nil {
		return nil, err
	}
	return ring, pki.WriteFile(p.vaultKeyFile(), b, 0o600)
}

// founderRing reads the ring of a cluster that this peer founded or recovered and that is not in the store yet; nil when there is none.
func founderRing(dir *dataDir) (*pki.Ring, error) {
	b, err := os.ReadFile(dir.join("pki", "secrets.key"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return pki.ParseRing(b)
}

// sealFounderRing moves a new cluster's ring from its file into the store, once.
func (p *Peer) sealFounderRing(ctx context.Context) error {
	ring, err := founderRing(p.dir)
	if err != nil || ring == nil {
		return err
	}
	own := vaultPrefix + store.Key(p.memory.Name)
	_, ok, err := p.raft.Store().Get(own, 0)
	if err == nil && !ok {
		if err = p.giveRing(ctx, ring, []string{p.memory.Name}); err == nil {
			_, ok, err = p.raft.Store().Get(own, 0)
		}
	}
	if err != nil || !ok { // the file is all there is
		return errors.Join(err, fmt.Errorf("%s has no copy of the keys of Secrets in the store", p.memory.Name))
	}
	return os.Remove(p.vaultKeyFile())
}

// giveRing seals the ring to the peers named. Nobody else's copy is touched.
func (p *Peer) giveRing(ctx context.Context, ring *pki.Ring, names []string) error {
	t, err := p.ringFor(ring, names)
	if err != nil || len(t.Ops) == 0 {
		return err
	}
	// What is given is what this peer has: not the ring from before a rotation that came between.
	own := vaultPrefix + store.Key(p.memory.Name)
	kv, _, err := p.raft.Store().Get(own, 0)
	if err != nil {
		return err
	}
	t.Compares = append(t.Compares, store.Compare{Key: own, Mod: kv.Mod})
	return p.proposeRing(ctx, t)
}

func (p *Peer) proposeRing(ctx context.Context, t store.Txn) error {
	res, err := p.raft.Propose(ctx, t)
	if err == nil && !res.OK {
		err = errors.New("the keys of Secrets were changed meanwhile")
	}
	return err
}

// ringFor returns what stores a copy of the ring for each of the peers named that is let in, and still is then. Others get none: a machine that is being
// removed votes for a moment longer.
func (p *Peer) ringFor(ring *pki.Ring, names []string) (store.Txn, error) {
	var t store.Txn
	plain, err := ring.Marshal()
	if err != nil {
		return t, err
	}
	for _, name := range names {
		op, is, ok, err := copyFor(p.raft, vaultPrefix, vaultPurpose, name, plain)
		if err != nil {
			return t, err
		}
		if ok {
			t.Compares, t.Ops = append(t.Compares, is), append(t.Ops, op)
		}
	}
	return t, nil
}

// shareRing gives every voter a copy of the keys of Secrets that has none. Master only.
func (p *Peer) shareRing(ctx context.Context) error {
	if !p.vault.sealing() {
		return nil
	}
	var without []string
	for _, id := range p.raft.Status().Voters {
		if _, ok, err := p.raft.Store().Get(vaultPrefix+store.Key(id), 0); err == nil && !ok {
			without = append(without, string(id))
		}
	}
	if len(without) == 0 {
		return nil
	}
	ring, err := p.vault.keys()
	if err != nil {
		return err
	}
	if ring == nil {
		return errLocked
	}
	return p.giveRing(ctx, ring, without)
}

// exposed names a machine that had the keys of Secrets and has been removed; empty when there is none.
func (p *Peer) exposed() (string, error) {
	page, err := p.raft.Store().List(vaultPrefix, "", 0, 0)
	if err != nil {
		return "", err
	}
	for _, kv := range page.KVs {
		name := strings.TrimPrefix(string(kv.Key), string(vaultPrefix))
		if _, in, err := p.raft.Store().Get(peerPrefix+store.Key(name), 0); err != nil || !in {
			return name, err
		}
	}
	return "", nil
}

// handKeysBack ends this peer's leadership when it has not been given the cluster's keys yet and another voter that answers has them: a voter that
// became Master in the moment after it had got its vote.
func (p *Peer) handKeysBack() error {
	for _, kind := range []struct {
		prefix store.Key
		what   string
	}{{sealPrefix, "the CA's key"}, {vaultPrefix, "the keys of Secrets"}} {
		if _, ok, err := p.raft.Store().Get(kind.prefix+store.Key(p.memory.Name), 0); err != nil || ok {
			continue
		}
		for _, id := range p.raft.Status().Voters {
			if _, has, err := p.raft.Store().Get(kind.prefix+store.Key(id), 0); err == nil && has && p.Liveness(string(id)) == api.Alive {
				return fmt.Errorf("%s has not been given %s yet, and %s has: that one should be Master", p.memory.Name, kind.what, id)
			}
		}
	}
	return nil
}
