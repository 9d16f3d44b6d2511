package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// pinDomain is that of the names by which machines ask for a certificate from the CA that they know: pinName.
const pinDomain = ".ca.shoal"

// pinName is the name of a server whose certificate is from the CA of that hash.
func pinName(caHash string) string { return short32(caHash) + pinDomain }

func short32(s string) string { return s[:min(32, len(s))] }

// ServerTLS answers with the identity's certificate, asks clients for one and verifies it when given, by the CAs that the identity trusts when a
// connection is made. protocols are the ALPN names in order of preference; a connection that negotiates one of peerOnly must come from a
// peer of the same epoch. The configuration's GetConfigForClient returns the one of the moment.
func ServerTLS(id *Identity, protocols []string, peerOnly ...string) *tls.Config {
	made := func(pool *x509.CertPool) *tls.Config {
		return &tls.Config{
			Time:       id.now,
			MinVersion: tls.VersionTLS12,
			NextProtos: protocols,
			ClientAuth: tls.VerifyClientCertIfGiven,
			ClientCAs:  pool,
			GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				if pin, ok := strings.CutSuffix(hello.ServerName, pinDomain); ok {
					return id.current.Load().shownBy(short32(pin)), nil
				}
				return id.current.Load().server, nil
			},
			VerifyConnection: func(s tls.ConnectionState) error {
				if err := id.checkRemoved(s.PeerCertificates); err != nil {
					return err
				}
				if !slices.Contains(peerOnly, s.NegotiatedProtocol) {
					return nil
				}
				if PeerName(s) == "" {
					return fmt.Errorf("protocol %s is for peers: a peer's certificate is required", s.NegotiatedProtocol)
				}
				return id.sameEpoch(s.PeerCertificates[0])
			},
		}
	}
	// One configuration as long as the same CAs are trusted: a session that is resumed is not verified again, and another one cannot resume it.
	var last atomic.Pointer[tls.Config]
	cfg := made(id.current.Load().pool)
	last.Store(cfg.Clone())
	cfg.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		pool := id.current.Load().pool
		if c := last.Load(); c.ClientCAs == pool {
			return c, nil
		}
		c := made(pool)
		last.Store(c)
		return c, nil
	}
	return cfg
}

// PeerTLS dials a peer and makes sure that it is the one of that name, wherever it was dialled. An empty name accepts
// any peer of the cluster. A handshake with one of another epoch fails with an EpochError.
func PeerTLS(id *Identity, name string, protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		NextProtos:           protocols,
		ServerName:           name,
		GetClientCertificate: id.certificateFor,
		// A peer is known by its name, not its address: the check below replaces the one of the host name.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if err := verifyPeer(s, id.current.Load().pool, name, id.now()); err != nil {
				return err
			}
			if err := id.checkRemoved(s.PeerCertificates); err != nil {
				return err
			}
			return id.sameEpoch(s.PeerCertificates[0])
		},
	}
}

// PinnedTLS dials a peer of a cluster of which only the CA's hash is known.
func PinnedTLS(caHash string, protocols ...string) *tls.Config {
	c := pinnedTLS([]string{caHash}, protocols)
	c.ServerName = pinName(caHash)
	return c
}

// pinnedTLS dials a peer whose certificate is from a CA of one of the hashes.
func pinnedTLS(hashes, protocols []string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         protocols,
		InsecureSkipVerify: true, // the check below is against the pinned CA
		VerifyConnection: func(s tls.ConnectionState) error {
			pool := x509.NewCertPool()
			found := ""
			for _, cert := range s.PeerCertificates {
				if cert.IsCA {
					found = Hash(cert)
				}
				if cert.IsCA && slices.Contains(hashes, found) {
					pool.AddCert(cert)
					return verifyPeer(s, pool, "", time.Now())
				}
			}
			if found == "" {
				return errors.New("the machine at that address does not answer as a Shoal peer: it shows no CA")
			}
			return fmt.Errorf("the machine at that address belongs to another cluster: its CA is %s…, the token's %s…", found[:12], short(hashes[0]))
		},
	}
}

// ProofTLS dials a machine whose CA is not known at all. The caller must check a Proof before it believes a word.
func ProofTLS(protocols ...string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: protocols, InsecureSkipVerify: true}
}

// ClientTLS dials the API as a user, or anonymously when id is nil, trusting the CA certificate.
func ClientTLS(ca *x509.Certificate, id *Identity, protocols ...string) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	c := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protocols, RootCAs: pool}
	if id != nil {
		c.GetClientCertificate = id.certificateFor
	}
	return c
}

// PeerName is the name of the peer at the other end of a connection whose chain was verified, or empty when the other
// end is no peer.
func PeerName(s tls.ConnectionState) string {
	if len(s.VerifiedChains) == 0 {
		return ""
	}
	return peerName(s.PeerCertificates[0])
}

func peerName(cert *x509.Certificate) string {
	name, ok := strings.CutPrefix(cert.Subject.CommonName, NodePrefix)
	if !ok || !slices.Contains(cert.Subject.Organization, NodesGroup) {
		return ""
	}
	return name
}

func verifyPeer(s tls.ConnectionState, pool *x509.CertPool, want string, now time.Time) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("the other end shows no certificate")
	}
	leaf := s.PeerCertificates[0]
	how := x509.VerifyOptions{Roots: pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if _, err := leaf.Verify(how); err != nil {
		return fmt.Errorf("verify the certificate of %s: %w", leaf.Subject.CommonName, err)
	}
	name := peerName(leaf)
	switch {
	case name == "":
		return fmt.Errorf("the certificate of %s is not a peer's", leaf.Subject.CommonName)
	case want != "" && name != want:
		return fmt.Errorf("dialled peer %s and reached %s", want, name)
	}
	return nil
}

func short(s string) string { return s[:min(12, len(s))] }
