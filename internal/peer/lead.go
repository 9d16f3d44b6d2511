package peer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"shoal/consensus"
	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/pki"
	"shoal/master/registry"
)

func peerID(name string) consensus.PeerID { return consensus.PeerID(name) }

// lead does the Master's work of one term: the objects' (package master) and the peers'.
func (p *Peer) lead(ctx context.Context, term uint64) error {
	if err := p.handKeysBack(); err != nil {
		return err
	}
	if err := p.sealFounder(ctx); err != nil {
		return fmt.Errorf("seal the CA's key: %w", err)
	}
	if err := p.sealFounderRing(ctx); err != nil {
		return fmt.Errorf("seal the keys of Secrets: %w", err)
	}
	g, ctx := errgroup.WithContext(registry.InTerm(ctx, term))
	g.Go(func() error { return p.master.Lead(ctx, term) })
	g.Go(func() error { return p.tend(ctx) })
	g.Go(func() error { return p.driveGossipRotation(ctx) })
	return g.Wait()
}

// sealFounder moves the CA's key of a cluster that this peer founded from its file into the store, once.
func (p *Peer) sealFounder(ctx context.Context) error {
	key, err := os.ReadFile(p.caKeyFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	ca, err := pki.ParseCA(p.id.CAPEM(), key)
	if err != nil {
		return err
	}
	pub, err := publicBytes(&p.id.Key().PublicKey)
	if err != nil {
		return err
	}
	record, err := put(peerPrefix+store.Key(p.memory.Name), peerRecord{
		Name: p.memory.Name, Address: p.address(), PublicKey: pub, Joined: p.now(),
	})
	if err != nil {
		return err
	}
	if _, err := p.raft.Propose(ctx, store.Txn{Ops: []store.Op{record}}); err != nil {
		return err
	}
	pem, err := ca.KeyPEM()
	if err != nil {
		return err
	}
	if err := sealCA(ctx, p.raft, pem, []string{p.memory.Name}); err != nil {
		return err
	}
	return os.Remove(p.caKeyFile())
}

// tend makes replicas of the machines that have been let in and answer gossip, gives every voter the keys of the CA and of Secrets, leads through the CA's
// rotation, and sees to it that what a machine knew that has gone is worth nothing.
func (p *Peer) tend(ctx context.Context) error {
	return p.follow(ctx, "/shoal/", func(ctx context.Context) (time.Duration, error) {
		err := errors.Join(p.addReplicas(ctx), p.shareCA(ctx), p.shareRing(ctx), p.keepSealed(ctx))
		again, rerr := p.stepCARotation(ctx)
		return again, errors.Join(err, rerr)
	}, p.gossip.Changed, p.raft.Changed)
}

func (p *Peer) addReplicas(ctx context.Context) error {
	in := map[string]bool{}
	st := p.raft.Status()
	for _, id := range append(st.Voters, st.Replicas...) {
		in[string(id)] = true
	}
	var errs []error
	for _, m := range p.members() {
		if in[m.Name] || m.State != api.Alive || len(in) >= p.cfg.Raft.Replicas {
			continue
		}
		if _, _, ok, err := read[peerRecord](p.raft, peerPrefix+store.Key(m.Name)); err != nil || !ok {
			errs = append(errs, err)
			continue
		}
		if err := p.raft.AddPeer(ctx, peerID(m.Name)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.Name, err))
			continue
		}
		in[m.Name] = true
	}
	return errors.Join(errs...)
}

// shareCA gives every voter a sealed copy of the CA's key, so that any of them can sign when it is Master.
func (p *Peer) shareCA(ctx context.Context) error {
	var voters []string
	for _, id := range p.raft.Status().Voters {
		if _, ok, err := p.raft.Store().Get(sealPrefix+store.Key(id), 0); err == nil && !ok {
			voters = append(voters, string(id))
		}
	}
	if len(voters) == 0 {
		return nil
	}
	pem, rev, err := sealedKeys(p.raft, p.id)
	if err != nil {
		return err
	}
	return sealCA(ctx, p.raft, pem, voters, store.Compare{Key: sealPrefix + store.Key(p.cfg.Name), Mod: rev})
}
