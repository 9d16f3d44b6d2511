package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Files of an identity's directory. Key and certificates share a file so that they are replaced together.
const (
	identityFile = "peer.pem"
	caFile       = "ca.crt"
)

// Identity is who this peer is: its key, its certificates and the CAs it trusts. The key never changes, since blobs are
// sealed to it; the rest does, while connections use it. Safe for concurrent use.
type Identity struct {
	key     *ecdsa.PrivateKey
	current atomic.Pointer[papers]
	now     func() time.Time // by which others' certificates are judged
	refused atomic.Pointer[map[string]bool]

	mu      sync.Mutex // one change at a time
	changed chan struct{}
}

// NewIdentity joins a key with the chain that IssuePeer (or IssueClient) returned for it, or that ChainPEM did. Whether the chain is valid at
// this moment is not checked: a clock may be wrong, and an expired certificate is still needed to ask for the next.
func NewIdentity(key *ecdsa.PrivateKey, chainPEM []byte) (*Identity, error) {
	client, server, cas, err := parseChain(chainPEM)
	if err != nil {
		return nil, err
	}
	p, err := newPapers(key, client, server, cas)
	if err != nil {
		return nil, err
	}
	i := &Identity{key: key, now: time.Now, changed: make(chan struct{})}
	i.current.Store(p)
	return i, nil
}

// LoadIdentity reads what Save wrote. The error is fs.ErrNotExist when there is none.
func LoadIdentity(dir string) (*Identity, error) {
	path := filepath.Join(dir, identityFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load the peer's identity: %w", err)
	}
	begin := bytes.Index(data, []byte("-----BEGIN "+blockCert+"-----"))
	if begin < 0 {
		return nil, fmt.Errorf("load the peer's identity: %s holds no certificate", path)
	}
	key, err := ParseKey(data[:begin])
	if err != nil {
		return nil, fmt.Errorf("load the peer's identity from %s: %w", path, err)
	}
	i, err := NewIdentity(key, data[begin:])
	if err != nil {
		return nil, fmt.Errorf("load the peer's identity from %s: %w", path, err)
	}
	return i, nil
}

// Save writes the identity to dir, atomically, readable by the owner only; and the CAs' certificates beside it, for others. Both files are
// left alone when they hold that already.
func (i *Identity) Save(dir string) error {
	key, err := EncodeKey(i.key)
	if err != nil {
		return err
	}
	p := i.current.Load()
	if err := saveFile(filepath.Join(dir, identityFile), append(key, p.chainPEM()...), 0o600); err != nil {
		return err
	}
	return saveFile(filepath.Join(dir, caFile), encodeCerts(p.cas), 0o644)
}

// saveFile writes what a file does not hold yet.
func saveFile(path string, data []byte, mode os.FileMode) error {
	if is, err := os.ReadFile(path); err == nil && bytes.Equal(is, data) {
		return nil
	}
	return WriteFile(path, data, mode)
}

// Replace puts new certificates in the place of the old: new connections use them at once. They must be for the same key and
// user, from CAs that are trusted, and good at this moment. Which CAs are trusted does not change.
func (i *Identity) Replace(chainPEM []byte) error {
	client, server, _, err := parseChain(chainPEM)
	if err != nil {
		return err
	}
	return i.change(func(old *papers) (*papers, error) {
		p, err := newPapers(i.key, client, server, old.cas)
		if err != nil {
			return nil, err
		}
		for _, leaf := range []*x509.Certificate{client, server} {
			if leaf.Subject.CommonName != old.client.Leaf.Subject.CommonName {
				return nil, fmt.Errorf("the new certificate is for %s, not %s", leaf.Subject.CommonName, old.client.Leaf.Subject.CommonName)
			}
			if now := i.now(); now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
				return nil, fmt.Errorf("the new certificate is good from %v to %v, and here it is %v: one of the clocks is wrong, this machine's or the Master's",
					leaf.NotBefore, leaf.NotAfter, now.UTC().Truncate(time.Second))
			}
		}
		return p, nil
	})
}

// Trust makes these the CAs that are trusted, from now on, of others and for this peer's own certificates. The one that signed the
// certificate which this peer shows when it calls must be among them; what a CA signed that is not, is not shown any more.
func (i *Identity) Trust(cas []*x509.Certificate) error {
	return i.change(func(old *papers) (*papers, error) {
		return newPapers(i.key, old.client.Leaf, old.server.Leaf, cas)
	})
}

// ShowOne makes the certificate that this peer shows when it calls also the one that it shows when it is called.
func (i *Identity) ShowOne() error {
	return i.change(func(old *papers) (*papers, error) {
		return newPapers(i.key, old.client.Leaf, old.client.Leaf, old.cas)
	})
}

func (i *Identity) change(f func(*papers) (*papers, error)) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	p, err := f(i.current.Load())
	if err != nil {
		return err
	}
	i.current.Store(p)
	close(i.changed)
	i.changed = make(chan struct{})
	return nil
}

// Changed is closed at the next change of a certificate or of whom is trusted.
func (i *Identity) Changed() <-chan struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.changed
}

// Certificate returns the certificate that this peer shows at this moment when it calls. It is read-only.
func (i *Identity) Certificate() *tls.Certificate { return i.current.Load().client }

// ServerCertificate returns the one that it shows when it is called. It is read-only.
func (i *Identity) ServerCertificate() *tls.Certificate { return i.current.Load().server }

// RenewAt is when new certificates should be asked for.
func (i *Identity) RenewAt() time.Time {
	p := i.current.Load()
	at := RenewAt(p.client.Leaf)
	if other := RenewAt(p.server.Leaf); other.Before(at) {
		return other
	}
	return at
}

// RenewAt is when a certificate should be renewed: when a third of the life is left that it had when it was made.
func RenewAt(cert *x509.Certificate) time.Time {
	life := cert.NotAfter.Sub(cert.NotBefore)
	if life > backdate {
		life -= backdate
	}
	return cert.NotAfter.Add(-life / 3)
}

// Request makes the request for the next certificate.
func (i *Identity) Request(ips []net.IP) ([]byte, error) {
	return NewRequest(i.key, i.User(), ips)
}

// User is the certificate's common name.
func (i *Identity) User() string { return i.current.Load().client.Leaf.Subject.CommonName }

// Peer is the peer's name, or empty for a client's identity.
func (i *Identity) Peer() string {
	name, ok := strings.CutPrefix(i.User(), NodePrefix)
	if !ok {
		return ""
	}
	return name
}

// Key is the private key, for Open.
func (i *Identity) Key() *ecdsa.PrivateKey { return i.key }

// CA is the one that signed the certificate which this peer shows when it calls. It is read-only.
func (i *Identity) CA() *x509.Certificate { return i.current.Load().cas[0] }

// CAs are the CAs that are trusted, CA first. They are read-only.
func (i *Identity) CAs() []*x509.Certificate { return i.current.Load().cas }

// CAPEM is the certificates of CAs as PEM.
func (i *Identity) CAPEM() []byte { return encodeCerts(i.CAs()) }

// ChainPEM is all certificates, the one that this peer shows when it is called first, and the CA that signed it last: a program that knows of one
// certificate and one CA takes those two.
func (i *Identity) ChainPEM() []byte { return i.current.Load().chainPEM() }

// ClusterID is the cluster that the identity belongs to.
func (i *Identity) ClusterID() string { return ClusterID(i.CA()) }
