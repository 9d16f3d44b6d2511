package peer

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"net/http"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/pki"
)

// caOrder is what a rotation of the CA asks of this peer's certificates, as far as it has looked.
type caOrder struct {
	rev    store.Rev
	record *caRotation // nil: the CA was never rotated
}

// lookAtCARotation reads the record as it is now: a replica that is behind may show phases which are long over.
func (p *Peer) lookAtCARotation(ctx context.Context, o *caOrder) error {
	kv, ok, err := p.raft.Store().Get(caRotationKey, 0)
	if err != nil || !ok || kv.Mod == o.rev {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, masterWait)
	defer cancel()
	if _, err := p.raft.ReadIndex(ctx); err != nil {
		return err
	}
	r, rev, ok, err := read[caRotation](p.raft, caRotationKey)
	if err != nil || !ok {
		return err
	}
	*o = caOrder{rev: rev, record: &r}
	return nil
}

// issuers are the CAs that this peer's certificates should be from; nil: whichever it is.
func (o *caOrder) issuers() (client, server *x509.Certificate, err error) {
	r := o.record
	if r == nil || r.New == nil || r.Phase == phaseTrust {
		return nil, nil, nil
	}
	old, fresh, err := r.cas()
	if err != nil {
		return nil, nil, err
	}
	if r.signsBoth() {
		return fresh, old, nil
	}
	return fresh, nil, nil // what is shown to those who call, the phases themselves say
}

// trustBoth is what comes before new certificates: to trust whom they are from, and who still uses the old.
func (p *Peer) trustBoth(o *caOrder) error {
	r := o.record
	if r == nil || r.New == nil || r.Phase == phaseForget || r.Phase == api.RotationDone {
		return nil
	}
	old, fresh, err := r.cas()
	if err != nil {
		return err
	}
	return p.trust(old, fresh)
}

// partWithOld is what comes after new certificates: to show only those, and to trust only who signed them.
func (p *Peer) partWithOld(o *caOrder) error {
	r := o.record
	if r == nil || r.New == nil || r.signsBoth() || r.Phase == phaseTrust {
		return nil
	}
	_, fresh, err := r.cas()
	if err != nil {
		return err
	}
	if r.Phase != phaseServe {
		return p.trust(fresh)
	}
	if p.id.ServerCA().Equal(p.id.CA()) {
		return nil
	}
	return p.id.ShowOne()
}

// trust makes these the CAs that are trusted, if they are not.
func (p *Peer) trust(cas ...*x509.Certificate) error {
	is := p.id.CAs()
	same := len(is) == len(cas)
	for _, ca := range cas {
		same = same && (ca.Equal(is[0]) || ca.Equal(is[len(is)-1]))
	}
	if same {
		return nil
	}
	if err := p.id.Trust(cas); err != nil {
		return err
	}
	p.log.Info("the CAs that are trusted changed", "cas", p.saysTrust().trusted)
	return nil
}

// pinned is the CA that new tokens for joining name: the one that will be there for longest, as soon as every peer can show a certificate of it.
func (p *Peer) pinned() *x509.Certificate {
	if r, _, ok, err := read[caRotation](p.raft, caRotationKey); err == nil && ok && r.Phase == phaseSign {
		return p.id.ServerCA()
	}
	return p.id.CA()
}

// onlyTrusted refuses who has shown, when the connection was made, a certificate of a CA that was trusted then and is not any more. A member is let
// through: it has proved that it has the key which is in its record, whoever signed its certificate.
func (p *Peer) onlyTrusted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || p.id.Trusts(r.TLS.VerifiedChains) || p.isMember(r.TLS) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Connection", "close")
		fail(w, failf(http.StatusUnauthorized, "the cluster has a new CA and trusts the one no more that signed this certificate: get a new one with: shoal kubeconfig"))
	})
}

// isMember reports whether the other end of a connection has the key of the member that it says it is.
func (p *Peer) isMember(s *tls.ConnectionState) bool {
	record, _, ok, err := read[peerRecord](p.raft, peerPrefix+store.Key(pki.PeerName(*s)))
	if err != nil || !ok {
		return false
	}
	pub, err := publicBytes(s.PeerCertificates[0].PublicKey)
	return err == nil && subtle.ConstantTimeCompare(record.PublicKey, pub) == 1
}
