package api

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A user is who has a token, and a token is a Secret in kube-system: it has the token's hash, not the token. Who deletes it ends the token at once.
const (
	UserTokenType corev1.SecretType = "shoal/user-token"

	userTokenPrefix = "shoal." // and ID.SECRET
	userTokenName   = "user-"  // and ID, of the Secret

	userTokenUser    = "user"
	userTokenGroups  = "groups"  // one a line
	userTokenHash    = "hash"    // SHA-256 of the secret part
	userTokenExpires = "expires" // RFC 3339; nothing: never
)

// UserToken is what a Secret says of a user's token.
type UserToken struct {
	ID      string
	User    string
	Groups  []string
	Expires time.Time // zero: never
	hash    []byte
}

// NewUserToken makes a token and the Secret to keep of it.
func NewUserToken(user string, groups []string, expires time.Time) (token string, s *corev1.Secret, err error) {
	if err := checkUser(user, groups); err != nil {
		return "", nil, err
	}
	id, secret := randomHex(8), randomHex(20)
	hash := sha256.Sum256([]byte(secret))
	s = &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: userTokenName + id}, Type: UserTokenType,
		Data: map[string][]byte{userTokenUser: []byte(user), userTokenGroups: []byte(strings.Join(groups, "\n")), userTokenHash: hash[:]},
	}
	if !expires.IsZero() {
		s.Data[userTokenExpires] = []byte(expires.UTC().Format(time.RFC3339))
	}
	return userTokenPrefix + id + "." + secret, s, nil
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b)
}

// SplitUserToken returns the name of the Secret that a token is of, and its secret part; false for what is no such token.
func SplitUserToken(token string) (name, secret string, ok bool) {
	rest, ok := strings.CutPrefix(token, userTokenPrefix)
	id, secret, cut := strings.Cut(rest, ".")
	if _, err := hex.DecodeString(id); !ok || !cut || err != nil || len(id) != 16 || secret == "" {
		return "", "", false
	}
	return userTokenName + id, secret, true
}

// UserTokenOf reads a Secret. A name that only the cluster itself gives is refused: who may write Secrets does not become an administrator by it.
func UserTokenOf(s *corev1.Secret) (*UserToken, error) {
	id, ok := strings.CutPrefix(s.Name, userTokenName)
	if s.Type != UserTokenType || s.Namespace != metav1.NamespaceSystem || !ok {
		return nil, errors.New("it is no user's token")
	}
	t := &UserToken{ID: id, User: string(s.Data[userTokenUser]), hash: s.Data[userTokenHash]}
	if text := string(s.Data[userTokenGroups]); text != "" {
		t.Groups = strings.Split(text, "\n")
	}
	if text := string(s.Data[userTokenExpires]); text != "" {
		var err error
		if t.Expires, err = time.Parse(time.RFC3339, text); err != nil {
			return nil, fmt.Errorf("its end: %w", err)
		}
	}
	if len(t.hash) != sha256.Size {
		return nil, errors.New("it has no hash")
	}
	return t, checkUser(t.User, t.Groups)
}

// Matches reports whether a secret part is the token's. How long it takes says nothing about how much of it was right.
func (t *UserToken) Matches(secret string) bool {
	hash := sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(hash[:], t.hash) == 1
}

func checkUser(user string, groups []string) error {
	for _, name := range append([]string{user}, groups...) {
		switch {
		case name == "":
			return errors.New("a user, or a group, without a name")
		case len(name) > 253:
			return fmt.Errorf("%q is longer than 253 bytes", name[:50]+"…")
		case strings.HasPrefix(name, "system:"):
			return fmt.Errorf("%q: names that begin with system: are the cluster's own", name)
		case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
			return fmt.Errorf("%q has control characters", name)
		}
	}
	return nil
}
