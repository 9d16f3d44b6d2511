// Package pki makes and checks the cluster's certificates: the CA, what it issues, join tokens, TLS configurations and
// blobs sealed to one peer. It decides what a certificate says, never who may have one: callers authenticate a request
// before they have it signed. Only IssuePeer makes a certificate whose name begins with NodePrefix. Private keys leave the
// package only as PEM that the caller asked for.
package pki

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// What certificates say of peers and administrators.
const (
	NodePrefix   = "system:node:" // common name of a peer: NodePrefix + its name
	NodesGroup   = "system:nodes"
	AdminUser    = "admin"
	MastersGroup = "system:masters"
)

// How long certificates are good for when the caller does not say.
const (
	caLife     = 20 * 365 * 24 * time.Hour
	PeerLife   = 7 * 24 * time.Hour
	ClientLife = 30 * 24 * time.Hour
	// backdate lets a machine use a certificate at once whose clock is behind that of the one who signed it by less. A day is more than
	// two clocks with wrong time zones can be apart.
	backdate = 24 * time.Hour
)

// CA signs the certificates of one cluster. It is read-only and safe for concurrent use.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewClusterID returns a random name for a new cluster: 32 hexadecimal digits.
func NewClusterID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b[:])
}

// NewCA makes the CA of a new cluster.
func NewCA(clusterID string, now time.Time) (*CA, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("create the CA certificate: %w", err)
	}
	template := &x509.Certificate{
		// A name of its own: while a cluster has two, whoever asks for a certificate says by their names which it believes.
		Subject:               pkix.Name{CommonName: "shoal-ca-" + keyHash(spki)[:12], SerialNumber: clusterID},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("create the CA certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &CA{cert: cert, key: key}, nil
}

// ParseCA reads a CA from what CertPEM and KeyPEM returned. Of several certificates it takes the one that the key belongs to.
func ParseCA(certPEM, keyPEM []byte) (*CA, error) {
	certs, err := ParseCerts(certPEM)
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	for _, cert := range certs {
		if !key.PublicKey.Equal(cert.PublicKey) {
			continue
		}
		if !cert.IsCA {
			return nil, fmt.Errorf("certificate of %q is not a CA's", cert.Subject.CommonName)
		}
		return &CA{cert: cert, key: key}, nil
	}
	return nil, errors.New("the CA's key does not belong to its certificate")
}

// FindCA joins a CA's certificate with the one of several keys that belongs to it.
func FindCA(certPEM, keysPEM []byte) (*CA, error) {
	for rest := keysPEM; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errors.New("none of the keys belongs to the CA's certificate")
		}
		if ca, err := ParseCA(certPEM, pem.EncodeToMemory(block)); err == nil {
			return ca, nil
		}
	}
}

// Chain puts what IssuePeer returned together for NewIdentity: what a peer shows when it calls and, if not nil, when it is called, and the CAs
// that it should trust.
func Chain(client, server []byte, trusted []*x509.Certificate) []byte {
	if server == nil {
		server = client
	}
	call, err := ParseCerts(client)
	shown, serr := ParseCerts(server)
	if err != nil || serr != nil {
		panic("a chain that IssuePeer did not make")
	}
	signed := call[len(call)-1]
	return encodeCerts(chain(call[0], shown[0], shown[len(shown)-1], append([]*x509.Certificate{signed}, slices.DeleteFunc(slices.Clone(trusted), signed.Equal)...)))
}

// Cert is the CA's certificate. It is read-only.
func (ca *CA) Cert() *x509.Certificate { return ca.cert }

// CertPEM returns the CA certificate, which is public.
func (ca *CA) CertPEM() []byte { return encodeCert(ca.cert) }

// KeyPEM returns the private key: to be kept sealed.
func (ca *CA) KeyPEM() ([]byte, error) { return EncodeKey(ca.key) }

// Hash pins the CA in a join token: see Hash.
func (ca *CA) Hash() string { return Hash(ca.cert) }

// ClusterID is the cluster that the CA belongs to.
func (ca *CA) ClusterID() string { return ClusterID(ca.cert) }

// HashKey is Hash of a certificate for that key.
func HashKey(key *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", err
	}
	return keyHash(der), nil
}

// Hash is the SHA-256 of a certificate's public key (SPKI), in hexadecimal.
func Hash(cert *x509.Certificate) string { return keyHash(cert.RawSubjectPublicKeyInfo) }

func keyHash(spki []byte) string {
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:])
}

// ClusterID reads the cluster id out of a CA certificate.
func ClusterID(ca *x509.Certificate) string { return ca.Subject.SerialNumber }

// PeerProfile says whom a peer's certificate is for.
type PeerProfile struct {
	Name      string
	Domain    string        // the cluster's, such as cluster.local
	ServiceIP net.IP        // of default/kubernetes
	Epoch     uint64        // of the cluster: raised when it is recovered
	Life      time.Duration // zero means PeerLife
}

// IssuePeer signs a peer's certificate, for both ends of a connection, and returns it followed by the CA's, as PEM. Of
// the request it takes the public key and the IP addresses; names come from the profile alone.
func (ca *CA) IssuePeer(req *x509.CertificateRequest, p PeerProfile, now time.Time) ([]byte, error) {
	if p.Name == "" {
		return nil, errors.New("a peer's certificate needs the peer's name")
	}
	names := []string{p.Name, "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}
	if p.Domain != "" {
		names = append(names, "kubernetes.default.svc."+p.Domain)
	}
	ips := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	for _, ip := range append([]net.IP{p.ServiceIP}, req.IPAddresses...) {
		if ip != nil && !slices.ContainsFunc(ips, ip.Equal) {
			ips = append(ips, ip)
		}
	}
	return ca.sign(req, &x509.Certificate{
		Subject:     pkix.Name{CommonName: NodePrefix + p.Name, Organization: []string{NodesGroup}, OrganizationalUnit: epochUnit(p.Epoch)},
		DNSNames:    names,
		IPAddresses: ips,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, p.Life, PeerLife, now)
}

// IssueClient signs the certificate of a user who is not a peer, and returns it followed by the CA's, as PEM. A zero
// life means ClientLife.
func (ca *CA) IssueClient(req *x509.CertificateRequest, user string, groups []string, life time.Duration, now time.Time) ([]byte, error) {
	if user == "" || strings.HasPrefix(user, NodePrefix) || slices.Contains(groups, NodesGroup) {
		return nil, fmt.Errorf("a client certificate cannot be for user %q in groups %q", user, groups)
	}
	return ca.sign(req, &x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, life, ClientLife, now)
}

func (ca *CA) sign(req *x509.CertificateRequest, cert *x509.Certificate, life, usual time.Duration, now time.Time) ([]byte, error) {
	if err := checkRequest(req); err != nil {
		return nil, err
	}
	if life <= 0 {
		life = usual
	}
	cert.NotBefore, cert.NotAfter = now.Add(-backdate), now.Add(life)
	if cert.NotAfter.After(ca.cert.NotAfter) {
		cert.NotAfter = ca.cert.NotAfter
	}
	cert.KeyUsage = x509.KeyUsageDigitalSignature
	cert.BasicConstraintsValid = true
	der, err := x509.CreateCertificate(rand.Reader, cert, ca.cert, req.PublicKey, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of %s: %w", cert.Subject.CommonName, err)
	}
	return append(encodeDER(blockCert, der), ca.CertPEM()...), nil
}
