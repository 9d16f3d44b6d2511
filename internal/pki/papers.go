package pki

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// papers are an identity's certificates and those of the CAs it trusts, at one moment. While the cluster changes its CA there are two of each:
// whoever has known the cluster for long knows only the old CA, so that is the one whose certificate is shown to who calls, until the
// last; the others know both. Read-only.
type papers struct {
	client, server *tls.Certificate    // shown when this peer calls, and when it is called
	cas            []*x509.Certificate // the client's first
	pool           *x509.CertPool
}

// newPapers checks certificates for a key. When no CA is trusted that signed the server's, the client's is shown in its place.
func newPapers(key *ecdsa.PrivateKey, client, server *x509.Certificate, cas []*x509.Certificate) (*papers, error) {
	p := &papers{pool: x509.NewCertPool()}
	for _, ca := range cas {
		p.pool.AddCert(ca)
	}
	for _, leaf := range []*x509.Certificate{client, server} {
		if !key.PublicKey.Equal(leaf.PublicKey) {
			return nil, fmt.Errorf("the certificate of %s is for another key", leaf.Subject.CommonName)
		}
		by := slices.IndexFunc(cas, func(ca *x509.Certificate) bool { return leaf.CheckSignatureFrom(ca) == nil })
		switch {
		case by < 0 && p.client == nil:
			return nil, fmt.Errorf("the certificate of %s is not from this cluster's CA", leaf.Subject.CommonName)
		case by < 0:
			continue
		}
		// The CA goes with every handshake: a machine that joins knows only its hash.
		p.server = &tls.Certificate{Certificate: [][]byte{leaf.Raw, cas[by].Raw}, PrivateKey: key, Leaf: leaf}
		if p.client == nil {
			p.client = p.server
			p.cas = append([]*x509.Certificate{cas[by]}, slices.Delete(slices.Clone(cas), by, by+1)...)
		}
	}
	return p, nil
}

// chainPEM is what parseChain reads.
func (p *papers) chainPEM() []byte {
	return encodeCerts(chain(p.client.Leaf, p.server.Leaf, p.serverCA(), p.cas))
}

// chain puts the server's certificate first and the CA that signed it last, which is what a program takes that knows of one certificate and one CA:
// as a peer of such a program it is understood until the old CA is not shown any more.
func chain(client, server, serverCA *x509.Certificate, cas []*x509.Certificate) []*x509.Certificate {
	all := []*x509.Certificate{server}
	if !server.Equal(client) {
		all = append(all, client)
	}
	for _, ca := range cas {
		if !ca.Equal(serverCA) {
			all = append(all, ca)
		}
	}
	return append(all, serverCA)
}

// parseChain tells a chain's certificates of this machine from the CAs'.
func parseChain(chainPEM []byte) (client, server *x509.Certificate, cas []*x509.Certificate, err error) {
	all, err := ParseCerts(chainPEM)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, c := range all {
		switch {
		case c.IsCA:
			cas = append(cas, c)
		case server == nil:
			client, server = c, c
		default:
			client = c
		}
	}
	if len(all) < 2 || all[0].IsCA || !all[len(all)-1].IsCA {
		return nil, nil, nil, errors.New("a certificate chain must end with the CA's certificate")
	}
	return client, server, cas, nil
}

// shownBy is the certificate of this peer that a CA signed whose hash begins with prefix.
func (p *papers) shownBy(prefix string) *tls.Certificate {
	for _, c := range []*tls.Certificate{p.server, p.client} {
		for _, ca := range p.cas {
			if Hash(ca)[:len(prefix)] == prefix && string(ca.Raw) == string(c.Certificate[1]) {
				return c
			}
		}
	}
	return p.server
}

// certificateFor is the certificate to call a server with: if that does not know the CA which signed the one that is meant for it, because it was away
// while the cluster got a new one, the one of the old.
func (i *Identity) certificateFor(asks *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	p := i.current.Load()
	if asks.SupportsCertificate(p.client) != nil && asks.SupportsCertificate(p.server) == nil {
		return p.server, nil
	}
	return p.client, nil
}

// ServerCA is the CA that signed the certificate which the peer shows when it is called. It is read-only.
func (i *Identity) ServerCA() *x509.Certificate { return i.current.Load().serverCA() }

func (p *papers) serverCA() *x509.Certificate {
	for _, ca := range p.cas {
		if string(ca.Raw) == string(p.server.Certificate[1]) {
			return ca
		}
	}
	return p.cas[0]
}

// Trusts reports whether one of the CAs which are trusted now is at the end of one of the chains: those of a connection that was made when
// others may have been.
func (i *Identity) Trusts(chains [][]*x509.Certificate) bool {
	cas := i.CAs()
	return slices.ContainsFunc(chains, func(chain []*x509.Certificate) bool {
		return slices.ContainsFunc(cas, chain[len(chain)-1].Equal)
	})
}

func encodeCerts(certs []*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, encodeCert(c)...)
	}
	return out
}
