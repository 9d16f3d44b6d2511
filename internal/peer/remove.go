package peer

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"shoal/consensus"
	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/pki"
	"shoal/master/auth"
)

// errRemoved ends a peer whose machine was taken out of the cluster.
var errRemoved = errors.New("this machine was removed from the cluster")

func (p *Peer) removedFor(err error) error {
	return fmt.Errorf("%w: it is not let in any more with the key that it has, and its pods run on. To bring it back, end them, empty %s, and join with a token: "+
		"shoal up --join HOST --token TOKEN", err, p.dir.path)
}

// survivors lets nobody remove the machine that they ask, or whose administrator's certificate they show: they would not hear the answer, and nothing after it.
func (p *Peer) survivors(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("name")
		if name == p.cfg.Name && r.Header.Get(auth.ForwardedHeader) == "" {
			fail(w, failf(http.StatusConflict, "you ask %[1]s itself, which cannot answer once it is removed: ask another peer (--peer), or on another machine", name))
			return
		}
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			if _, is, err := p.raft.Store().Get(adminsOf(name)+store.Key(pki.Hash(r.TLS.PeerCertificates[0])), 0); err == nil && is {
				fail(w, failf(http.StatusConflict, "you show the administrator's certificate of %[1]s, which is refused once that is removed: do it on another machine, "+
					"or with a kubeconfig from there (shoal kubeconfig)", name))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// remove takes a machine out of the cluster for good. One transaction refuses its key and forgets it; then it is no member of the log any more, and has no
// Node. Whoever is interrupted in between does it again. Master only.
func (p *Peer) remove(ctx context.Context, name string) error {
	if name == p.memory.Name {
		if err := p.raft.TransferLeadership(ctx); err != nil {
			return failf(http.StatusConflict, "%s is the Master, and there is no other voter to hand that over to", name)
		}
		return failf(http.StatusServiceUnavailable, "%s was the Master, and has handed that over: ask again", name)
	}
	key := peerPrefix + store.Key(name)
	record, rev, ok, err := read[peerRecord](p.raft, key)
	if err != nil {
		return err
	}
	switch {
	case ok:
		if err := p.refuse(ctx, record, rev); err != nil {
			return err
		}
	case !p.wasRemoved(name):
		return failf(http.StatusNotFound, "no machine %q was ever let in; there are: %s", name, strings.Join(p.names(), ", "))
	}
	if err := p.raft.RemovePeer(ctx, peerID(name)); err != nil && !errors.Is(err, consensus.ErrNotMaster) {
		return failf(http.StatusServiceUnavailable, "%s is refused from now on, and still a member of the log: %v; remove it again", name, err)
	} else if err != nil {
		return failf(http.StatusServiceUnavailable, "the Master has changed: ask again")
	}
	if _, err := p.registry.Delete(ctx, api.Nodes, client.Key{Name: name}, client.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("%s is removed, and its Node is not: %w", name, err)
	}
	p.log.Info("removed a machine", "peer", name)
	return nil
}

func (p *Peer) refuse(ctx context.Context, record peerRecord, rev store.Rev) error {
	pub, err := record.publicKey()
	if err != nil {
		return err
	}
	hash, err := pki.HashKey(pub)
	if err != nil {
		return err
	}
	refused, err := put(removedPrefix+store.Key(hash), removedRecord{Name: record.Name, Key: hash, When: p.now()})
	if err != nil {
		return err
	}
	key := peerPrefix + store.Key(record.Name)
	t := store.Txn{Compares: []store.Compare{{Key: key, Mod: rev}}, Ops: []store.Op{
		refused, {Key: key, Delete: true}, {Key: sealPrefix + store.Key(record.Name), Delete: true}, // and tend changes what it had of Secrets
	}}
	admins, err := readAll[adminRecord](p.raft, adminsOf(record.Name))
	if err != nil {
		return err
	}
	for _, a := range admins {
		op, err := put(removedPrefix+store.Key(a.Key), removedRecord{Name: record.Name, Key: a.Key, When: p.now()})
		if err != nil {
			return err
		}
		t.Ops = append(t.Ops, op, store.Op{Key: adminsOf(record.Name) + store.Key(a.Key), Delete: true})
	}
	res, err := p.raft.Propose(ctx, t)
	if err != nil {
		return failf(http.StatusServiceUnavailable, "%v", err)
	}
	if !res.OK {
		return failf(http.StatusConflict, "%s was let in anew meanwhile: ask again", record.Name)
	}
	return nil
}

func adminsOf(peer string) store.Key { return adminPrefix + store.Key(peer) + "/" }

// noteAdmin remembers that a machine is given an administrator's certificate, which is refused with the machine's own when that is removed, and
// forgets those that have ended.
func (p *Peer) noteAdmin(ctx context.Context, peer string, req *x509.CertificateRequest) error {
	key, ok := req.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return errors.New("not an ECDSA key")
	}
	hash, err := pki.HashKey(key)
	if err != nil {
		return err
	}
	op, err := put(adminsOf(peer)+store.Key(hash), adminRecord{Key: hash, Until: p.now().Add(pki.ClientLife)})
	if err != nil {
		return err
	}
	t := store.Txn{Ops: []store.Op{op}}
	had, err := readAll[adminRecord](p.raft, adminsOf(peer))
	if err != nil {
		return err
	}
	for _, a := range had {
		if a.Key != hash && p.now().After(a.Until) {
			t.Ops = append(t.Ops, store.Op{Key: adminsOf(peer) + store.Key(a.Key), Delete: true})
		}
	}
	_, err = p.raft.Propose(ctx, t)
	return err
}

func (p *Peer) isRefused(hash string) bool {
	_, is, err := p.raft.Store().Get(removedPrefix+store.Key(hash), 0)
	return err != nil || is
}

func (p *Peer) removals() []removedRecord {
	all, err := readAll[removedRecord](p.raft, removedPrefix)
	if err != nil {
		p.log.Error("the list of removed machines cannot be read", "err", err)
	}
	return all
}

// wasRemoved reports whether a machine of that name was removed and none let in since.
func (p *Peer) wasRemoved(name string) bool {
	if _, in, err := p.raft.Store().Get(peerPrefix+store.Key(name), 0); err != nil || in {
		return false
	}
	return slices.ContainsFunc(p.removals(), func(r removedRecord) bool { return r.Name == name })
}

// names of the machines that have been let in.
func (p *Peer) names() []string {
	records, err := readAll[peerRecord](p.raft, peerPrefix)
	if err != nil {
		return nil
	}
	all := make([]string, len(records))
	for i, r := range records {
		all[i] = r.Name
	}
	return all
}

// heedRemovals refuses the certificates of removed machines and ends their connections, until ctx ends or it is this machine that was removed.
func (p *Peer) heedRemovals(ctx context.Context) error {
	select {
	case <-p.raft.Ready():
	case <-ctx.Done():
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	wrote := make(chan struct{}, 1)
	g.Go(func() error { return tellWrites(ctx, p.raft.Store(), removedPrefix, wrote) })
	g.Go(func() error {
		for {
			select {
			case <-wrote:
			case <-ctx.Done():
				return nil
			}
			refused := map[string]bool{}
			for _, r := range p.removals() {
				refused[r.Key] = true
			}
			p.id.Refuse(refused)
			if p.id.Refused(p.id.Certificate().Leaf) {
				return errRemoved
			}
			p.mux.guests.close(p.id.Refused)
			p.transport.cut(p.wasRemoved)
		}
	})
	return g.Wait()
}

// noteRemoval remembers that this machine was removed, if that is why the peer has ended, and says what to do.
func (p *Peer) noteRemoval(err error) error {
	if !errors.Is(err, errRemoved) {
		return err
	}
	return errors.Join(p.removedFor(err), p.keep(func(m *memory) { m.Removed = true }))
}
