package pki

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
)

// Token lets a machine join: ID and Secret prove the machine to the cluster, CAHash the cluster to the machine.
type Token struct {
	ID     string // 6 lower-case letters or digits; not secret
	Secret string // 16 lower-case letters or digits
	CAHash string // Hash of the CA
}

var (
	tokenID     = regexp.MustCompile(`^[a-z0-9]{6}$`)
	tokenSecret = regexp.MustCompile(`^[a-z0-9]{16}$`)
	tokenHash   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// NewToken makes a random token for the cluster whose CA has the hash.
func NewToken(caHash string) Token {
	return Token{ID: random(6), Secret: random(16), CAHash: caHash}
}

// ParseToken reads id.secret.ca-hash. Its errors never show the secret.
func ParseToken(s string) (Token, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return Token{}, errors.New("the token is empty; make one on a peer of the cluster with: shoal token create")
	}
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return Token{}, fmt.Errorf("the token has %d parts between dots, not the three of id.secret.ca-hash; copy all of what shoal token create printed", len(parts))
	}
	t := Token{ID: parts[0], Secret: parts[1], CAHash: parts[2]}
	switch {
	case !tokenID.MatchString(t.ID):
		return Token{}, errors.New("the token's id must be 6 lower-case letters or digits")
	case !tokenSecret.MatchString(t.Secret):
		return Token{}, errors.New("the token's secret must be 16 lower-case letters or digits")
	case !tokenHash.MatchString(t.CAHash):
		return Token{}, fmt.Errorf("the token's CA hash must be 64 hexadecimal digits, not %d characters; was it cut off?", len(t.CAHash))
	}
	return t, nil
}

// String is the whole token, secret included.
func (t Token) String() string { return t.Bearer() + "." + t.CAHash }

// Bearer is the part that is sent: id.secret.
func (t Token) Bearer() string { return t.ID + "." + t.Secret }

// LogValue keeps the secret out of logs.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.ID) }

func random(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	out := make([]byte, 0, n)
	var b [1]byte
	for len(out) < n {
		_, _ = rand.Read(b[:])
		if int(b[0]) < 256-256%len(letters) { // no letter likelier than another
			out = append(out, letters[int(b[0])%len(letters)])
		}
	}
	return string(out)
}
