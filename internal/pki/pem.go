package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
)

const (
	blockCert    = "CERTIFICATE"
	blockKey     = "PRIVATE KEY"
	blockRequest = "CERTIFICATE REQUEST"
)

// NewKey makes a P-256 key.
func NewKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate a key: %w", err)
	}
	return key, nil
}

// NewRequest makes a certificate request for key, as PEM. Of its name and addresses the CA takes what its profile allows.
func NewRequest(key *ecdsa.PrivateKey, name string, ips []net.IP) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: name}, IPAddresses: ips,
	}, key)
	if err != nil {
		return nil, fmt.Errorf("create a certificate request: %w", err)
	}
	return encodeDER(blockRequest, der), nil
}

// ParseRequest reads a certificate request and checks that whoever made it holds its P-256 key.
func ParseRequest(data []byte) (*x509.CertificateRequest, error) {
	der, err := decodePEM(data, blockRequest)
	if err != nil {
		return nil, err
	}
	req, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("parse a certificate request: %w", err)
	}
	return req, checkRequest(req)
}

func checkRequest(req *x509.CertificateRequest) error {
	if key, ok := req.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		return errors.New("a certificate request needs an ECDSA P-256 key")
	}
	if err := req.CheckSignature(); err != nil {
		return fmt.Errorf("check a certificate request: %w", err)
	}
	return nil
}

// ParseCert reads the first certificate in data.
func ParseCert(data []byte) (*x509.Certificate, error) {
	certs, err := ParseCerts(data)
	if err != nil {
		return nil, err
	}
	return certs[0], nil
}

// ParseCerts reads a chain of at least one certificate, and nothing else.
func ParseCerts(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for rest := bytes.TrimSpace(data); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != blockCert {
			return nil, errors.New("expected PEM certificates")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse a certificate: %w", err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("expected PEM certificates, found none")
	}
	return certs, nil
}

// ParseKey reads a PKCS #8 P-256 private key.
func ParseKey(data []byte) (*ecdsa.PrivateKey, error) {
	der, err := decodePEM(data, blockKey)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("parse a private key: malformed") // the decoder's error might quote the key
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P256() {
		return nil, errors.New("parse a private key: not an ECDSA P-256 key")
	}
	return ec, nil
}

func decodePEM(data []byte, want string) ([]byte, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("expected a PEM block %q, found no PEM", want)
	}
	if block.Type != want {
		return nil, fmt.Errorf("expected a PEM block %q, found %q", want, block.Type)
	}
	return block.Bytes, nil
}

// EncodeKey returns key as PKCS #8 PEM.
func EncodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a private key: %w", err)
	}
	return encodeDER(blockKey, der), nil
}

func encodeCert(cert *x509.Certificate) []byte { return encodeDER(blockCert, cert.Raw) }

func encodeDER(block string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: block, Bytes: der})
}
