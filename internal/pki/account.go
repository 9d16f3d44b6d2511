package pki

import (
	"crypto/x509"
	"encoding/json"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// Tokens of service accounts are JSON Web Tokens (RFC 7519) that the CA's own key signs (ES256), so every peer can check them by the
// CA's certificate, whoever is Master, and nothing has to be kept. A signature over a token is never one over a certificate: the text
// that is signed begins with "ey", a certificate with the byte 0x30.

// SignToken returns claims, which are JSON, as a signed token.
func (ca *CA) SignToken(claims []byte) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{
		Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: ca.key, KeyID: keyID(ca.cert)},
	}, nil)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return signed.CompactSerialize()
}

// OpenToken returns the claims of a token that one of the CAs signed. What they say, even until when, is for the caller to check.
func OpenToken(cas []*x509.Certificate, token string) ([]byte, error) {
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return nil, fmt.Errorf("not a token: %w", err)
	}
	for _, ca := range cas {
		var claims []byte
		if claims, err = signed.Verify(ca.PublicKey); err == nil {
			return claims, nil
		}
	}
	return nil, fmt.Errorf("not a token of this cluster: %w", err)
}

// TokenKeys returns the keys that check tokens as a JSON Web Key Set (RFC 7517).
func TokenKeys(cas []*x509.Certificate) ([]byte, error) {
	var set jose.JSONWebKeySet
	for _, ca := range cas {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: ca.PublicKey, KeyID: keyID(ca), Algorithm: string(jose.ES256), Use: "sig"})
	}
	return json.Marshal(set)
}

func keyID(ca *x509.Certificate) string { return short(Hash(ca)) }
