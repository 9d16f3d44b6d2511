package peer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"

	"shoal/consensus/store"
	"shoal/internal/pki"
)

// sealedKeys opens this peer's copy of the CA's key: while the CA is rotated there are two, the one that signs first.
func sealedKeys(l log, id *pki.Identity) ([]byte, store.Rev, error) {
	kv, ok, err := l.Store().Get(sealPrefix+store.Key(id.Peer()), 0)
	if err != nil {
		return nil, 0, err
	}
	if !ok {
		return nil, 0, fmt.Errorf("%s has no copy of the CA's key yet: only voters have", id.Peer())
	}
	pem, err := pki.Open(id.Key(), caPurpose, kv.Value)
	return pem, kv.Mod, err
}

// rotationTxn is one step of a rotation of the CA: the record and all copies of the keys change together, or nothing does.
type rotationTxn struct {
	key  store.Key
	rev  store.Rev // of the record that it replaces
	keys []byte    // PEM of a key that nobody has yet
	txn  store.Txn
}

func (t *rotationTxn) propose(ctx context.Context, l log, record any) (bool, error) {
	op, err := put(t.key, record)
	if err != nil {
		return false, err
	}
	t.txn.Compares = append(t.txn.Compares, store.Compare{Key: t.key, Mod: t.rev})
	t.txn.Ops = append(t.txn.Ops, op)
	res, err := l.Propose(ctx, t.txn)
	return res.OK, err
}

// reseal makes the keys of these CAs, the one that signs first, all that voters have copies of. Who does not vote any more has none; it gets one when it
// votes again.
func (p *Peer) reseal(t *rotationTxn, certs ...[]byte) error {
	held, _, err := sealedKeys(p.raft, p.id)
	if err != nil {
		return err
	}
	var keys []byte
	for _, cert := range certs {
		ca, err := pki.FindCA(cert, append(held, t.keys...))
		if err != nil {
			return err
		}
		key, err := ca.KeyPEM()
		if err != nil {
			return err
		}
		keys = append(keys, key...)
	}
	page, err := p.raft.Store().List(sealPrefix, "", 0, 0)
	if err != nil {
		return err
	}
	had := map[store.Key]store.Rev{}
	for _, kv := range page.KVs {
		had[kv.Key] = kv.Mod
	}
	for _, name := range p.raft.Status().Voters {
		op, is, ok, err := copyFor(p.raft, sealPrefix, caPurpose, string(name), keys)
		if err != nil || !ok {
			return errors.Join(err, fmt.Errorf("voter %s has no record", name))
		}
		t.txn.Compares = append(t.txn.Compares, store.Compare{Key: op.Key, Mod: had[op.Key]}, is)
		t.txn.Ops = append(t.txn.Ops, op)
		delete(had, op.Key)
	}
	for key, rev := range had {
		t.txn.Compares = append(t.txn.Compares, store.Compare{Key: key, Mod: rev})
		t.txn.Ops = append(t.txn.Ops, store.Op{Key: key, Delete: true})
	}
	return nil
}

// issue signs a peer's certificates: the one that it calls with and, while the CA is rotated, the one of the old CA that it shows to those who
// call it; with the CAs that it should trust, as pki.NewIdentity reads them.
func (p *Peer) issue(csr *x509.CertificateRequest, name string) ([]byte, error) {
	ca, err := openCA(p.raft, p.id)
	if err != nil {
		return nil, failf(http.StatusServiceUnavailable, "%v", err)
	}
	client, err := ca.IssuePeer(csr, p.profile(name), p.now())
	if err != nil {
		return nil, err
	}
	r, _, ok, err := read[caRotation](p.raft, caRotationKey)
	if err != nil || !ok || !r.signsBoth() {
		return pki.Chain(client, nil, p.id.CAs()), err
	}
	keys, _, err := sealedKeys(p.raft, p.id)
	if err != nil {
		return nil, err
	}
	old, err := pki.FindCA(r.Old, keys)
	if err != nil {
		return nil, err
	}
	server, err := old.IssuePeer(csr, p.profile(name), p.now())
	if err != nil {
		return nil, err
	}
	return pki.Chain(client, server, p.id.CAs()), nil
}
