package pki

import (
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
)

// Seal encrypts a blob so that only the holder of the key can Open it (HPKE, RFC 9180). purpose must be the same at
// both ends: a blob sealed for one purpose cannot be passed off as another.
func Seal(to *ecdsa.PublicKey, purpose string, blob []byte) ([]byte, error) {
	pub, err := to.ECDH()
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", purpose, err)
	}
	pk, err := hpke.NewDHKEMPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", purpose, err)
	}
	return hpke.Seal(pk, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(purpose), blob)
}

// Open decrypts what Seal made for key.
func Open(key *ecdsa.PrivateKey, purpose string, sealed []byte) ([]byte, error) {
	priv, err := key.ECDH()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", purpose, err)
	}
	sk, err := hpke.NewDHKEMPrivateKey(priv)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", purpose, err)
	}
	blob, err := hpke.Open(sk, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(purpose), sealed)
	if err != nil {
		return nil, fmt.Errorf("open %s: not sealed to this key, or changed since: %w", purpose, err)
	}
	return blob, nil
}

// DeriveKey makes a 32-byte key for one purpose out of the cluster secret.
func DeriveKey(secret, purpose string) ([]byte, error) {
	if secret == "" {
		return nil, errors.New("derive a key: the cluster secret is empty")
	}
	return hkdf.Key(sha256.New, []byte(secret), nil, "shoal "+purpose, 32)
}

// Proof shows over a TLS connection that this end knows secret, without sending it: a MAC over key material that only the
// two ends of this very connection share, so whoever relays the connection cannot relay the proof. The two ends use
// different roles, so neither can echo the other's.
func Proof(state tls.ConnectionState, secret, role string) ([]byte, error) {
	if secret == "" {
		return nil, errors.New("prove the cluster secret: it is empty")
	}
	bound, err := state.ExportKeyingMaterial("EXPORTER-shoal-proof", []byte(role), 32)
	if err != nil {
		return nil, fmt.Errorf("prove the cluster secret: %w", err)
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(bound)
	return mac.Sum(nil), nil
}

// CheckProof reports whether proof is what the other end of the connection, in its role, computes from the same secret.
func CheckProof(state tls.ConnectionState, secret, role string, proof []byte) bool {
	want, err := Proof(state, secret, role)
	return err == nil && hmac.Equal(want, proof)
}
