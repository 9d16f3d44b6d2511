package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Files of an identity's directory. Key and certificate share a file so that they are replaced together.
const (
	identityFile = "peer.pem"
	caFile       = "ca.crt"
)

// Identity is who this peer is: its key, its certificate and the CA it trusts. The key never changes, since blobs are
// sealed to it; the certificate does, while connections use it. Safe for concurrent use.
type Identity struct {
	key     *ecdsa.PrivateKey
	ca      *x509.Certificate
	pool    *x509.CertPool
	current atomic.Pointer[tls.Certificate]
	now     func() time.Time // by which others' certificates are judged
	refused atomic.Pointer[map[string]bool]

	mu      sync.Mutex
	changed chan struct{}
}

// NewIdentity joins a key with the chain that IssuePeer (or IssueClient) returned for it. The last certificate of the
// chain is the CA. Whether the chain is valid at this moment is not checked: a clock may be wrong, and an expired
// certificate is still needed to ask for the next.
func NewIdentity(key *ecdsa.PrivateKey, chainPEM []byte) (*Identity, error) {
	chain, err := ParseCerts(chainPEM)
	if err != nil {
		return nil, err
	}
	ca := chain[len(chain)-1]
	if len(chain) < 2 || !ca.IsCA {
		return nil, errors.New("a certificate chain must end with the CA's certificate")
	}
	i := &Identity{key: key, ca: ca, pool: x509.NewCertPool(), now: time.Now, changed: make(chan struct{})}
	i.pool.AddCert(ca)
	if err := i.Replace(chainPEM); err != nil {
		return nil, err
	}
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

// Save writes the identity to dir, atomically, readable by the owner only; and the CA's certificate beside it, for others.
func (i *Identity) Save(dir string) error {
	data, err := EncodeKey(i.key)
	if err != nil {
		return err
	}
	if err := WriteFile(filepath.Join(dir, identityFile), append(data, i.ChainPEM()...), 0o600); err != nil {
		return err
	}
	return WriteFile(filepath.Join(dir, caFile), i.CAPEM(), 0o644)
}

// Replace puts a new certificate in the place of the old: new connections use it at once. It must be for the same key and
// user, from the same CA, and good at this moment.
func (i *Identity) Replace(chainPEM []byte) error {
	chain, err := ParseCerts(chainPEM)
	if err != nil {
		return err
	}
	leaf := chain[0]
	if !i.key.PublicKey.Equal(leaf.PublicKey) {
		return fmt.Errorf("the certificate of %s is for another key", leaf.Subject.CommonName)
	}
	if err := leaf.CheckSignatureFrom(i.ca); err != nil {
		return fmt.Errorf("the certificate of %s is not from this cluster's CA: %w", leaf.Subject.CommonName, err)
	}
	if old := i.current.Load(); old != nil && old.Leaf.Subject.CommonName != leaf.Subject.CommonName {
		return fmt.Errorf("the new certificate is for %s, not %s", leaf.Subject.CommonName, old.Leaf.Subject.CommonName)
	} else if now := i.now(); old != nil && (now.After(leaf.NotAfter) || now.Before(leaf.NotBefore)) {
		return fmt.Errorf("the new certificate is good from %v to %v, and here it is %v: one of the clocks is wrong, this machine's or the Master's",
			leaf.NotBefore, leaf.NotAfter, now.UTC().Truncate(time.Second))
	}
	// The CA goes with every handshake: a machine that joins knows only its hash.
	i.current.Store(&tls.Certificate{Certificate: [][]byte{leaf.Raw, i.ca.Raw}, PrivateKey: i.key, Leaf: leaf})
	i.mu.Lock()
	defer i.mu.Unlock()
	close(i.changed)
	i.changed = make(chan struct{})
	return nil
}

// Changed is closed at the next Replace.
func (i *Identity) Changed() <-chan struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.changed
}

// Certificate returns the certificate of this moment. It is read-only.
func (i *Identity) Certificate() *tls.Certificate { return i.current.Load() }

// RenewAt is when a new certificate should be asked for: when a third of the life is left.
func (i *Identity) RenewAt() time.Time {
	leaf := i.current.Load().Leaf
	return leaf.NotAfter.Add(-leaf.NotAfter.Sub(leaf.NotBefore) / 3)
}

// Request makes the request for the next certificate.
func (i *Identity) Request(ips []net.IP) ([]byte, error) {
	return NewRequest(i.key, i.current.Load().Leaf.Subject.CommonName, ips)
}

// User is the certificate's common name.
func (i *Identity) User() string { return i.current.Load().Leaf.Subject.CommonName }

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

// CA is the CA's certificate. It is read-only.
func (i *Identity) CA() *x509.Certificate { return i.ca }

// CAPEM is the CA's certificate as PEM.
func (i *Identity) CAPEM() []byte { return encodeCert(i.ca) }

// ChainPEM is the certificate followed by the CA's.
func (i *Identity) ChainPEM() []byte {
	return append(encodeCert(i.current.Load().Leaf), encodeCert(i.ca)...)
}

// ClusterID is the cluster that the identity belongs to.
func (i *Identity) ClusterID() string { return ClusterID(i.ca) }
