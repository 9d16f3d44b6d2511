package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// issuer is an OpenID provider.
type issuer struct {
	*httptest.Server
	keys    []jose.JSONWebKey // with their private parts
	calls   atomic.Int64
	broken  bool
	namedAs string
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{}
	i.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.calls.Add(1)
		switch {
		case i.broken:
			w.WriteHeader(http.StatusBadGateway)
		case r.URL.Path == "/.well-known/openid-configuration":
			name := i.URL
			if i.namedAs != "" {
				name = i.namedAs
			}
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": name, "jwks_uri": i.URL + "/keys"})
		case r.URL.Path == "/keys":
			var public jose.JSONWebKeySet
			for _, k := range i.keys {
				public.Keys = append(public.Keys, k.Public())
			}
			_ = json.NewEncoder(w).Encode(public)
		}
	}))
	t.Cleanup(i.Close)
	i.rotate(t, "one")
	return i
}

// rotate makes a new key the only one.
func (i *issuer) rotate(t *testing.T, id string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i.keys = []jose.JSONWebKey{{Key: key, KeyID: id, Algorithm: string(jose.ES256), Use: "sig"}}
}

func signed(t *testing.T, key jose.SigningKey, claims map[string]any) string {
	t.Helper()
	s, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestOIDC(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	i := newIssuer(t)
	source := func() *OIDC {
		return &OIDC{
			Issuer: i.URL, ClientID: "shoal", UsernameClaim: "sub", UsernamePrefix: "oidc:", GroupsClaim: "groups", GroupsPrefix: "oidc:", Client: i.Client(),
			Now: func() time.Time { return now },
		}
	}
	claims := func(change func(c map[string]any)) map[string]any {
		c := map[string]any{"iss": i.URL, "aud": "shoal", "sub": "jane", "exp": now.Add(time.Hour).Unix(), "groups": []string{"crew", "deck"}}
		if change != nil {
			change(c)
		}
		return c
	}
	es := func() jose.SigningKey { return jose.SigningKey{Algorithm: jose.ES256, Key: i.keys[0]} }
	o := source()
	u, err := o.User(t.Context(), signed(t, es(), claims(nil)))
	if err != nil || u.Name != "oidc:jane" || !slices.Equal(u.Groups, []string{"oidc:crew", "oidc:deck"}) {
		t.Fatalf("%+v, %v", u, err)
	}
	for what, change := range map[string]func(c map[string]any){
		"another issuer":   func(c map[string]any) { c["iss"] = "https://other.example.org" },
		"another audience": func(c map[string]any) { c["aud"] = []string{"other"} },
		"no audience":      func(c map[string]any) { delete(c, "aud") },
		"over":             func(c map[string]any) { c["exp"] = now.Add(-time.Second).Unix() },
		"without an end":   func(c map[string]any) { delete(c, "exp") },
		"not yet":          func(c map[string]any) { c["nbf"] = now.Add(time.Minute).Unix() },
		"nobody":           func(c map[string]any) { delete(c, "sub") },
		"a number":         func(c map[string]any) { c["sub"] = 5 },
	} {
		if u, err := o.User(t.Context(), signed(t, es(), claims(change))); !errors.Is(err, ErrUnknownToken) {
			t.Errorf("%s: %+v, %v", what, u, err)
		}
	}
	for what, token := range map[string]string{
		"nonsense":     "nonsense",
		"no signing":   "eyJhbGciOiJub25lIn0.eyJzdWIiOiJqYW5lIn0.",
		"a shared key": signed(t, jose.SigningKey{Algorithm: jose.HS256, Key: []byte(strings.Repeat("k", 32))}, claims(nil)),
		"cut":          strings.TrimSuffix(signed(t, es(), claims(nil)), "AAAA")[:60],
	} {
		if _, err := o.User(t.Context(), token); !errors.Is(err, ErrUnknownToken) {
			t.Errorf("%s: %v", what, err)
		}
	}
	other := newIssuer(t)
	other.keys[0].KeyID = "one"
	if _, err := o.User(t.Context(), signed(t, jose.SigningKey{Algorithm: jose.ES256, Key: other.keys[0]}, claims(nil))); !errors.Is(err, ErrUnknownToken) {
		t.Errorf("somebody else's key of the same name: %v", err)
	}

	// The cluster's own names stay its own, whatever the prefixes are.
	bare := source()
	bare.UsernamePrefix, bare.GroupsPrefix = "", ""
	if _, err := bare.User(t.Context(), signed(t, es(), claims(func(c map[string]any) { c["sub"] = "system:admin" }))); !errors.Is(err, ErrUnknownToken) {
		t.Errorf("a user of the cluster's own: %v", err)
	}
	if u, err := bare.User(t.Context(), signed(t, es(), claims(func(c map[string]any) { c["groups"] = []any{"system:masters", "crew", 7} }))); err != nil || !slices.Equal(u.Groups, []string{"crew"}) {
		t.Errorf("a group of the cluster's own: %+v, %v", u, err)
	}
	mail := source()
	mail.UsernameClaim = "email"
	for verified, want := range map[any]bool{true: true, false: false, "true": false, nil: true} {
		_, err := mail.User(t.Context(), signed(t, es(), claims(func(c map[string]any) {
			c["email"] = "jane@example.org"
			if verified != nil {
				c["email_verified"] = verified
			}
		})))
		if (err == nil) != want {
			t.Errorf("an address that is verified: %v: %v", verified, err)
		}
	}
}

// TestKeysOfAnIssuer are fetched when one is not known, and no more often than that may be.
func TestKeysOfAnIssuer(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	i := newIssuer(t)
	o := &OIDC{Issuer: i.URL, ClientID: "shoal", UsernameClaim: "sub", Client: i.Client(), Now: func() time.Time { return now }}
	ask := func() error {
		_, err := o.User(t.Context(), signed(t, jose.SigningKey{Algorithm: jose.ES256, Key: i.keys[0]}, map[string]any{"iss": i.URL, "aud": "shoal", "sub": "jane", "exp": now.Add(time.Hour).Unix()}))
		return err
	}
	calls := func(want int64) {
		t.Helper()
		if got := i.calls.Swap(0); got != want {
			t.Errorf("%d calls of the issuer, want %d", got, want)
		}
	}
	for range 5 {
		if err := ask(); err != nil {
			t.Fatal(err)
		}
	}
	calls(2)
	i.rotate(t, "two")
	for range 5 {
		if err := ask(); !errors.Is(err, ErrUnknownToken) {
			t.Errorf("too soon: %v", err)
		}
	}
	calls(0)
	now = now.Add(keysEvery)
	if err := ask(); err != nil {
		t.Errorf("after rotation: %v", err)
	}
	calls(2)
	now = now.Add(keysEvery)
	i.broken = true
	i.calls.Store(0)
	if err := ask(); err != nil {
		t.Errorf("the issuer is away, its key is known: %v", err)
	}
	i.rotate(t, "three")
	if err := ask(); err == nil || errors.Is(err, ErrUnknownToken) {
		t.Errorf("it cannot be told: %v", err)
	}
	calls(1)
	if err := ask(); err == nil || errors.Is(err, ErrUnknownToken) {
		t.Errorf("nor a moment later: %v", err)
	}
	calls(0)
	now = now.Add(keysEvery)
	i.broken, i.namedAs = false, "https://other.example.org"
	if err := ask(); err == nil || !strings.Contains(err.Error(), "calls itself") {
		t.Errorf("an issuer of another name: %v", err)
	}
}
