package peer

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"shoal/consensus/store"
	"shoal/internal/pki"
)

// certRequest is a request for a certificate and the CA that may sign it.
type certRequest struct {
	req *x509.CertificateRequest
	ca  *pki.CA
}

// signer decides about a peer's request for a certificate, and signs it.
type signer func(ctx context.Context, asker string, c *certRequest) ([]byte, error)

// certMessage carries PEM both ways: a request there, a chain back.
type certMessage struct {
	PEM []byte `json:"pem"`
}

func publicBytes(key any) ([]byte, error) {
	k, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("not an ECDSA key")
	}
	return k.Bytes()
}

// signFor answers a peer's request for a certificate. Peers ask the Master themselves: a request is never passed on.
func (p *Peer) signFor(sign signer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		out, err := p.sign(r.Context(), body, pki.PeerName(*r.TLS), sign)
		answer(w, out, err)
	}
}

func (p *Peer) sign(ctx context.Context, body []byte, asker string, sign signer) (certMessage, error) {
	var m certMessage
	if err := json.Unmarshal(body, &m); err != nil {
		return m, failf(http.StatusBadRequest, "%v", err)
	}
	if id, ok := p.raft.Leader(); !ok || string(id) != p.cfg.Name {
		return m, failf(http.StatusServiceUnavailable, "%s is not the Master", p.cfg.Name)
	}
	req, err := pki.ParseRequest(m.PEM)
	if err != nil {
		return m, failf(http.StatusBadRequest, "%v", err)
	}
	p.waitCA(ctx)
	ca, err := openCA(p.raft, p.id)
	if err != nil {
		return m, failf(http.StatusServiceUnavailable, "%v", err)
	}
	chain, err := sign(ctx, asker, &certRequest{req: req, ca: ca})
	return certMessage{PEM: chain}, err
}

// waitCA waits a bounded time for this peer's copy of the CA's key: a new voter, and the founder in its first moments, has none
// yet.
func (p *Peer) waitCA(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, masterWait)
	defer cancel()
	s, key := p.raft.Store(), sealPrefix+store.Key(p.cfg.Name)
	after := s.Rev()
	if _, ok, err := s.Get(key, 0); err != nil || ok {
		return
	}
	w := s.Watch(key, after)
	defer w.Close()
	_, _ = w.Next(ctx) // whatever happened, opening the copy says it better
}

// signPeer renews the asking peer's certificate.
func (p *Peer) signPeer(_ context.Context, asker string, c *certRequest) ([]byte, error) {
	return p.issue(c.req, asker)
}

// signAdmin gives a voter's operator an administrator's certificate. Voters hold the CA's key anyway; other peers'
// operators use a kubeconfig.
func (p *Peer) signAdmin(ctx context.Context, asker string, c *certRequest) ([]byte, error) {
	if !p.isVoter(asker) {
		return nil, failf(http.StatusForbidden, "%s is no voter", asker)
	}
	if err := p.noteAdmin(ctx, asker, c.req); err != nil {
		return nil, failf(http.StatusServiceUnavailable, "%v", err)
	}
	return c.ca.IssueClient(c.req, pki.AdminUser, []string{pki.MastersGroup}, p.cfg.Master.AdminCertificates, p.now())
}

// ask has the Master sign a request, wherever it is.
func (p *Peer) ask(ctx context.Context, path string, csr []byte, sign signer) ([]byte, error) {
	body, err := json.Marshal(certMessage{PEM: csr})
	if err != nil {
		return nil, err
	}
	master, err := p.waitMaster(ctx)
	if err != nil {
		return nil, err
	}
	var out certMessage
	if master == p.cfg.Name {
		out, err = p.sign(ctx, body, p.cfg.Name, sign)
		return out.PEM, err
	}
	b, err := p.transport.post(ctx, master, path, body)
	if err != nil {
		return nil, err
	}
	err = json.Unmarshal(b, &out)
	return out.PEM, err
}

// renewals keeps this peer's certificates fresh, and the operator's while this peer votes, and does what a rotation of the CA asks.
func (p *Peer) renewals(ctx context.Context) error {
	var order caOrder
	return p.follow(ctx, caRotationKey, func(ctx context.Context) (time.Duration, error) {
		err := p.freshPapers(ctx, &order)
		admin := p.now().Add(maxSleep)
		if p.isVoter(p.cfg.Name) {
			end, aerr := p.ensureAdmin(ctx)
			if aerr != nil {
				aerr = fmt.Errorf("an administrator's certificate: %w", aerr)
			}
			admin, err = end, errors.Join(err, aerr)
		}
		if terr := p.tell(); terr != nil {
			err = errors.Join(err, terr)
		}
		next := p.id.RenewAt()
		if admin.Before(next) {
			next = admin
		}
		return max(time.Second, min(next.Sub(p.now()), maxSleep)), err
	}, p.raft.Changed)
}

// freshPapers brings this peer's certificates to where they should be, and writes them down.
func (p *Peer) freshPapers(ctx context.Context, order *caOrder) error {
	if err := p.lookAtCARotation(ctx, order); err != nil {
		return err
	}
	if err := p.trustBoth(order); err != nil {
		return err
	}
	if err := p.renew(ctx, order); err != nil {
		return fmt.Errorf("renew the certificate: %w", err)
	}
	if err := p.partWithOld(order); err != nil {
		return err
	}
	return p.id.Save(p.dir.join("pki"))
}

func (p *Peer) renew(ctx context.Context, order *caOrder) error {
	client, server, err := order.issuers()
	if err != nil {
		return err
	}
	fits := (client == nil || p.id.CA().Equal(client)) && (server == nil || p.id.ServerCA().Equal(server))
	if fits && p.now().Before(p.id.RenewAt()) && p.namesAddress() {
		return nil
	}
	csr, err := p.id.Request([]net.IP{p.advertise})
	if err != nil {
		return err
	}
	chain, err := p.ask(ctx, "/peer/certificate", csr, p.signPeer)
	if err != nil {
		return err
	}
	if err := p.id.Replace(chain); err != nil {
		return err
	}
	p.log.Info("renewed the certificate", "until", p.id.Certificate().Leaf.NotAfter)
	return nil
}

// namesAddress reports whether the certificates are good for the address this machine has now.
func (p *Peer) namesAddress() bool {
	at := p.advertise.String()
	return p.id.Certificate().Leaf.VerifyHostname(at) == nil && p.id.ServerCertificate().Leaf.VerifyHostname(at) == nil
}

// ensureAdmin keeps an administrator's certificate in the data directory, for the command line on this machine. It returns when to look
// again.
func (p *Peer) ensureAdmin(ctx context.Context) (time.Time, error) {
	p.admin.Lock()
	defer p.admin.Unlock()
	certFile, keyFile := p.dir.join("pki", "admin.crt"), p.dir.join("pki", "admin.key")
	// A crash between the two files leaves a pair that does not match.
	if pair, err := tls.LoadX509KeyPair(certFile, keyFile); err == nil && pair.Leaf.CheckSignatureFrom(p.id.CA()) == nil {
		if again := pki.RenewAt(pair.Leaf); p.now().Before(again) {
			return again, nil
		}
	}
	key, err := pki.NewKey()
	if err != nil {
		return time.Time{}, err
	}
	csr, err := pki.NewRequest(key, pki.AdminUser, nil)
	if err != nil {
		return time.Time{}, err
	}
	chain, err := p.ask(ctx, "/peer/admin", csr, p.signAdmin)
	if err != nil {
		return time.Time{}, err
	}
	pem, err := pki.EncodeKey(key)
	if err != nil {
		return time.Time{}, err
	}
	if err := pki.WriteFile(keyFile, pem, 0o600); err != nil {
		return time.Time{}, err
	}
	cert, err := pki.ParseCert(chain)
	if err != nil {
		return time.Time{}, err
	}
	return pki.RenewAt(cert), pki.WriteFile(certFile, chain, 0o600)
}
