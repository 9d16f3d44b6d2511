package peer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/pki"
)

var curve = elliptic.P256()

// httpError is an error with the status it should have on the wire.
type httpError struct {
	code int
	text string
}

func (e httpError) Error() string { return e.text }

func failf(code int, format string, args ...any) error {
	return httpError{code, fmt.Sprintf(format, args...)}
}

// errJoinedMeanwhile means that another machine joined between the checks and the transaction.
var errJoinedMeanwhile = failf(http.StatusServiceUnavailable, "another machine joined at the same moment: try again")

// admit lets a machine in, also when others join with the same token at the same moment. Only the Master can.
func (p *Peer) admit(ctx context.Context, req joinRequest) (joinAnswer, error) {
	for {
		answer, err := p.admitOnce(ctx, req)
		if !errors.Is(err, errJoinedMeanwhile) || ctx.Err() != nil {
			return answer, err
		}
	}
}

// admitOnce checks the token or secret, takes one use of the token, records the peer and signs its certificate, in this
// order and with the first two in one transaction.
func (p *Peer) admitOnce(ctx context.Context, req joinRequest) (joinAnswer, error) {
	if errs := validation.IsDNS1123Subdomain(req.Name); len(errs) > 0 {
		return joinAnswer{}, failf(http.StatusBadRequest, "name %q: %s", req.Name, strings.Join(errs, "; "))
	}
	csr, err := pki.ParseRequest(req.CSR)
	if err != nil {
		return joinAnswer{}, failf(http.StatusBadRequest, "csr: %v", err)
	}
	p.waitCA(ctx)
	if _, err := openCA(p.raft, p.id); err != nil {
		return joinAnswer{}, failf(http.StatusServiceUnavailable, "%v", err)
	}
	pub, err := publicBytes(csr.PublicKey)
	if err != nil {
		return joinAnswer{}, failf(http.StatusBadRequest, "csr: %v", err)
	}
	if hash, err := pki.HashKey(csr.PublicKey.(*ecdsa.PublicKey)); err != nil || p.isRefused(hash) {
		return joinAnswer{}, failf(http.StatusForbidden, "%s was removed from this cluster, with the key that it has: empty its data directory and join again", req.Name)
	}
	txn, err := p.checkCredential(req)
	if err != nil {
		return joinAnswer{}, err
	}
	if err := p.checkName(ctx, req, pub, &txn); err != nil {
		return joinAnswer{}, err
	}
	record, err := put(peerPrefix+store.Key(req.Name), peerRecord{Name: req.Name, Address: req.Address, PublicKey: pub, Joined: p.now()})
	if err != nil {
		return joinAnswer{}, err
	}
	txn.Ops = append(txn.Ops, record, store.Op{Key: sealPrefix + store.Key(req.Name), Delete: true}, store.Op{Key: vaultPrefix + store.Key(req.Name), Delete: true})
	res, err := p.raft.Propose(ctx, txn)
	if err != nil {
		return joinAnswer{}, failf(http.StatusServiceUnavailable, "%v", err)
	}
	if !res.OK {
		return joinAnswer{}, errJoinedMeanwhile
	}
	chain, err := p.issue(csr, req.Name)
	if err != nil {
		return joinAnswer{}, err
	}
	p.log.Info("let a machine in", "peer", req.Name, "address", req.Address)
	return joinAnswer{Chain: chain, Epoch: p.memory.Epoch, Keys: p.gossip.Keys(), Peers: p.gossipAddresses()}, nil
}

func (p *Peer) profile(name string) pki.PeerProfile {
	return pki.PeerProfile{Name: name, Domain: p.cfg.Network.Domain, ServiceIP: p.serviceIP(1), Epoch: p.memory.Epoch, Life: p.cfg.Master.PeerCertificates}
}

// checkCredential returns the transaction that uses the token up, or an empty one for the cluster secret or a certificate.
func (p *Peer) checkCredential(req joinRequest) (store.Txn, error) {
	if req.Known != "" {
		return store.Txn{}, p.checkKnown(req)
	}
	if len(req.Secret) > 0 {
		want, err := joinMAC(p.cfg.ClusterSecret, req.Name, req.CSR)
		if err != nil || !hmac.Equal(want, req.Secret) {
			return store.Txn{}, failf(http.StatusForbidden, "the cluster secret is another one here")
		}
		return store.Txn{}, nil
	}
	id, _, _ := strings.Cut(req.Bearer, ".")
	key := tokenPrefix + store.Key(id)
	token, rev, ok, err := read[tokenRecord](p.raft, key)
	if err != nil {
		return store.Txn{}, err
	}
	sum := sha256.Sum256([]byte(req.Bearer))
	switch {
	case !ok:
		return store.Txn{}, failf(http.StatusForbidden, "token %s is unknown: it was used up, revoked or never made here; make one with: shoal token create", id)
	case subtle.ConstantTimeCompare(sum[:], token.Hash) != 1:
		return store.Txn{}, failf(http.StatusForbidden, "the secret of token %s is wrong: copy the whole token", id)
	case p.now().After(token.Expires):
		return store.Txn{}, failf(http.StatusForbidden, "token %s expired at %s: make one with: shoal token create", id, token.Expires.Format(time.RFC3339))
	case token.UsesLeft < 1:
		return store.Txn{}, failf(http.StatusForbidden, "token %s has been used up: make one with: shoal token create (--uses N lets N machines join)", id)
	}
	token.UsesLeft--
	op, err := put(key, token)
	return store.Txn{Compares: []store.Compare{{Key: key, Mod: rev}}, Ops: []store.Op{op}}, err
}

// checkKnown lets a machine in again that was let in before: a peer saw its certificate, and its request is made with the same key.
func (p *Peer) checkKnown(req joinRequest) error {
	record, _, ok, err := read[peerRecord](p.raft, peerPrefix+store.Key(req.Name))
	if err != nil {
		return err
	}
	csr, err := pki.ParseRequest(req.CSR)
	if err != nil {
		return failf(http.StatusBadRequest, "csr: %v", err)
	}
	pub, err := publicBytes(csr.PublicKey)
	if err != nil || !ok || req.Known != req.Name || subtle.ConstantTimeCompare(record.PublicKey, pub) != 1 {
		return failf(http.StatusForbidden, "no peer %q with that key is known here: join with a token, made with: shoal token create", req.Name)
	}
	return nil
}

// checkName refuses a name that a living machine has, and makes room for a machine that lost its data.
func (p *Peer) checkName(ctx context.Context, req joinRequest, pub []byte, txn *store.Txn) error {
	key := peerPrefix + store.Key(req.Name)
	old, rev, ok, err := read[peerRecord](p.raft, key)
	if err != nil {
		return err
	}
	txn.Compares = append(txn.Compares, store.Compare{Key: key, Mod: rev})
	if !ok || subtle.ConstantTimeCompare(old.PublicKey, pub) == 1 && !req.Rejoin {
		return nil
	}
	if state := p.Liveness(req.Name); state == api.Alive && !req.Rejoin || req.Name == p.memory.Name {
		return failf(http.StatusConflict, "a peer called %q is in the cluster and alive, at %s: give this machine another name (--name)", req.Name, old.Address)
	}
	p.log.Warn("a machine comes back without its data", "peer", req.Name)
	if err := p.raft.RemovePeer(ctx, peerID(req.Name)); err != nil {
		return failf(http.StatusServiceUnavailable, "remove the old %s: %v", req.Name, err)
	}
	return nil
}

// newToken makes a join token.
func (p *Peer) newToken(ctx context.Context, req api.TokenRequest) (api.Token, error) {
	if req.Uses < 1 || req.Uses > 1000 || req.TTLSeconds < 1 {
		return api.Token{}, failf(http.StatusBadRequest, "uses must be 1 to 1000 and ttlSeconds at least 1")
	}
	t := pki.NewToken(pki.Hash(p.pinned()))
	sum := sha256.Sum256([]byte(t.Bearer()))
	record := tokenRecord{ID: t.ID, Hash: sum[:], UsesLeft: req.Uses, Expires: p.now().Add(time.Duration(req.TTLSeconds) * time.Second)}
	op, err := put(tokenPrefix+store.Key(t.ID), record)
	if err != nil {
		return api.Token{}, err
	}
	if _, err := p.raft.Propose(ctx, store.Txn{Ops: []store.Op{op}}); err != nil {
		return api.Token{}, err
	}
	return api.Token{ID: t.ID, Token: t.String(), UsesLeft: record.UsesLeft, Expires: record.Expires}, nil
}

func (p *Peer) tokens() ([]api.Token, error) {
	records, err := readAll[tokenRecord](p.raft, tokenPrefix)
	if err != nil {
		return nil, err
	}
	all := make([]api.Token, 0, len(records))
	for _, r := range records {
		all = append(all, api.Token{ID: r.ID, UsesLeft: r.UsesLeft, Expires: r.Expires})
	}
	return all, nil
}

func (p *Peer) revokeToken(ctx context.Context, id string) error {
	key := tokenPrefix + store.Key(id)
	if _, ok, err := p.raft.Store().Get(key, 0); err != nil || !ok {
		return errors.Join(err, failf(http.StatusNotFound, "no token %q", id))
	}
	_, err := p.raft.Propose(ctx, store.Txn{Ops: []store.Op{{Key: key, Delete: true}}})
	return err
}
