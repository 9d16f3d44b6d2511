package pki

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
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

// newPapers checks certificates for a key. The first is the client's; the second, if any, the server's: when no CA is trusted that signed it, the
// first is shown in its place.
func newPapers(key *ecdsa.PrivateKey, leaves, cas []*x509.Certificate) (*papers, error) {
	p := &papers{pool: x509.NewCertPool()}
	for _, ca := range cas {
		p.pool.AddCert(ca)
	}
	for n, leaf := range leaves {
		if !key.PublicKey.Equal(leaf.PublicKey) {
			return nil, fmt.Errorf("the certificate of %s is for another key", leaf.Subject.CommonName)
		}
		by := slices.IndexFunc(cas, func(ca *x509.Certificate) bool { return leaf.CheckSignatureFrom(ca) == nil })
		switch {
		case by < 0 && n == 0:
			return nil, fmt.Errorf("the certificate of %s is not from this cluster's CA", leaf.Subject.CommonName)
		case by < 0:
			continue
		}
		// The CA goes with every handshake: a machine that joins knows only its hash.
		shown := &tls.Certificate{Certificate: [][]byte{leaf.Raw, cas[by].Raw}, PrivateKey: key, Leaf: leaf}
		if n == 0 {
			p.client = shown
			p.cas = append([]*x509.Certificate{cas[by]}, slices.Delete(slices.Clone(cas), by, by+1)...)
		}
		p.server = shown
	}
	return p, nil
}

// chainPEM is what parseChain reads.
func (p *papers) chainPEM() []byte {
	all := []*x509.Certificate{p.client.Leaf}
	if !p.server.Leaf.Equal(p.client.Leaf) {
		all = append(all, p.server.Leaf)
	}
	others := slices.Clone(p.cas)
	slices.Reverse(others)
	return encodeCerts(append(all, others...))
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

// ServerCA is the CA that signed the certificate which the peer shows when it is called. It is read-only.
func (i *Identity) ServerCA() *x509.Certificate {
	p := i.current.Load()
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
