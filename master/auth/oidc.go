package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/sync/singleflight"
)

// OIDC is a TokenSource of ID tokens (OpenID Connect Core 1.0) of one issuer. Fill it in before use; safe for concurrent use then.
type OIDC struct {
	Issuer   string // its URL, as tokens name it; https
	ClientID string // whom the tokens are for
	// UsernameClaim is where a token has the user's name; groups are a text or a list. The prefixes keep what the issuer says apart from other users.
	UsernameClaim, UsernamePrefix string
	GroupsClaim, GroupsPrefix     string
	Client                        *http.Client
	Now                           func() time.Time

	fetching singleflight.Group

	mu      sync.Mutex
	keys    jose.JSONWebKeySet
	fetched time.Time
	problem error // of the last time
}

const (
	// keysEvery is how often keys are fetched at most: a token that names an unknown one may be made up.
	keysEvery = 10 * time.Second
	// mostOfIssuer is how long an issuer's documents may be.
	mostOfIssuer = 1 << 20
)

// signatures are the algorithms that an issuer may sign with: those of Kubernetes.
var signatures = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512}

// User implements TokenSource.
func (o *OIDC) User(ctx context.Context, token string) (*User, error) {
	parsed, err := jwt.ParseSigned(token, signatures)
	if err != nil {
		return nil, ErrUnknownToken
	}
	var unchecked jwt.Claims
	if err := parsed.UnsafeClaimsWithoutVerification(&unchecked); err != nil || unchecked.Issuer != o.Issuer || len(parsed.Headers) != 1 {
		return nil, ErrUnknownToken
	}
	key, err := o.key(ctx, parsed.Headers[0].KeyID)
	if err != nil {
		return nil, err
	}
	var claims jwt.Claims
	all := map[string]any{}
	if key == nil || parsed.Claims(key.Key, &claims, &all) != nil {
		return nil, ErrUnknownToken
	}
	if claims.Expiry == nil || claims.ValidateWithLeeway(jwt.Expected{Issuer: o.Issuer, AnyAudience: jwt.Audience{o.ClientID}, Time: o.Now()}, 0) != nil {
		return nil, ErrUnknownToken
	}
	return o.userOf(all)
}

// userOf reads who a token is of. Nobody becomes one of the cluster's own users by what an issuer says.
func (o *OIDC) userOf(claims map[string]any) (*User, error) {
	name, _ := claims[o.UsernameClaim].(string)
	if o.UsernameClaim == "email" {
		if verified, said := claims["email_verified"]; said && verified != true {
			return nil, ErrUnknownToken
		}
	}
	if name == "" {
		return nil, ErrUnknownToken
	}
	u := &User{Name: o.UsernamePrefix + name}
	switch groups := claims[o.GroupsClaim].(type) {
	case string:
		u.Groups = []string{o.GroupsPrefix + groups}
	case []any:
		for _, g := range groups {
			if s, ok := g.(string); ok {
				u.Groups = append(u.Groups, o.GroupsPrefix+s)
			}
		}
	}
	own := func(s string) bool { return strings.HasPrefix(s, "system:") }
	if own(u.Name) {
		return nil, ErrUnknownToken
	}
	u.Groups = slices.DeleteFunc(u.Groups, own)
	return u, nil
}

// key returns the issuer's key of an ID, nil when it has none. Keys are fetched when one is asked for that is not known; those that are known wait for nobody.
func (o *OIDC) key(ctx context.Context, id string) (*jose.JSONWebKey, error) {
	k, due, problem := o.known(id)
	if k != nil || !due {
		return k, problem
	}
	_, err, _ := o.fetching.Do("keys", func() (any, error) {
		keys, err := o.fetch(context.WithoutCancel(ctx)) // others wait for it, too
		o.mu.Lock()
		defer o.mu.Unlock()
		o.fetched, o.problem = o.Now(), nil
		if err != nil {
			o.problem = fmt.Errorf("keys of %s: %w", o.Issuer, err)
			return nil, o.problem
		}
		o.keys = keys
		return nil, nil
	})
	if err != nil {
		return nil, err
	}
	k, _, problem = o.known(id)
	return k, problem
}

// known returns the key of an ID if it is known; else whether keys may be fetched, or what was wrong when they were.
func (o *OIDC) known(id string) (k *jose.JSONWebKey, due bool, problem error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.keys.Keys {
		k := &o.keys.Keys[i]
		if (k.KeyID == id || id == "" && len(o.keys.Keys) == 1) && k.IsPublic() && k.Valid() && (k.Use == "" || k.Use == "sig") {
			return k, false, nil
		}
	}
	if o.Now().Sub(o.fetched) >= keysEvery {
		return nil, true, nil
	}
	return nil, false, o.problem
}

func (o *OIDC) fetch(ctx context.Context) (keys jose.JSONWebKeySet, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var about struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := o.read(ctx, strings.TrimSuffix(o.Issuer, "/")+"/.well-known/openid-configuration", &about); err != nil {
		return keys, err
	}
	if about.Issuer != o.Issuer {
		return keys, fmt.Errorf("it calls itself %q", about.Issuer)
	}
	if !strings.HasPrefix(about.Keys, "https://") {
		return keys, errors.New("its keys are not at an https address")
	}
	return keys, o.read(ctx, about.Keys, &keys)
}

func (o *OIDC) read(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := o.Client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return json.NewDecoder(io.LimitReader(resp.Body, mostOfIssuer)).Decode(into)
}
