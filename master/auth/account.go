package auth

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Names of service accounts as users.
const (
	AccountPrefix = "system:serviceaccount:" // then namespace:name
	AccountsGroup = "system:serviceaccounts" // and, with ":namespace", of one namespace
)

// Names of what else a token says about its bearer, in User.Extra.
const (
	extraPrefix  = "authentication.kubernetes.io/"
	extraID      = extraPrefix + "credential-id"
	extraPod     = extraPrefix + "pod-name"
	extraPodUID  = extraPrefix + "pod-uid"
	extraNode    = extraPrefix + "node-name"
	extraNodeUID = extraPrefix + "node-uid"
)

// Claims are what the token of a service account says, by the names that Kubernetes uses.
type Claims struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"`
	Audience  []string `json:"aud"`
	Expiry    int64    `json:"exp"` // seconds since 1970, as the others
	NotBefore int64    `json:"nbf"`
	IssuedAt  int64    `json:"iat"`
	ID        string   `json:"jti"`
	About     About    `json:"kubernetes.io"`
}

// About is the account of a token, and what else must exist for it to be good.
type About struct {
	Namespace string  `json:"namespace"`
	Account   Object  `json:"serviceaccount"`
	Pod       *Object `json:"pod,omitempty"`
	Secret    *Object `json:"secret,omitempty"`
	Node      *Object `json:"node,omitempty"`
}

// Object is one object and no other of its name.
type Object struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
}

// AccountUser returns a service account as a user.
func AccountUser(namespace, name, uid string) *User {
	return &User{
		Name: AccountPrefix + namespace + ":" + name, UID: uid, Groups: accountGroups(namespace),
	}
}

// Accounts knows the tokens of service accounts. It is a TokenSource.
type Accounts struct {
	Issuer    string
	Audiences []string // a token is for us if it names one of these
	// Open returns the claims of a token that this cluster signed.
	Open func(token string) ([]byte, error)
	// UID looks an object up: resource is serviceaccounts, pods, secrets or nodes. Empty: there is none, or it is being deleted.
	UID func(ctx context.Context, resource, namespace, name string) (string, error)
	Now func() time.Time
}

// leeway is how far the clock of whoever signed a token may be ahead of that of whoever checks it: two of them, each an hour wrong. Nothing
// is signed in advance, so a token that is not valid yet says no more than that.
const leeway = 2 * time.Hour

// User implements TokenSource.
func (a *Accounts) User(ctx context.Context, token string) (*User, error) {
	u, _, err := a.Review(ctx, token, nil)
	return u, err
}

// Review returns whose token it is and for which of the audiences; no audiences means our own. Errors other than ErrUnknownToken and
// what wraps it mean that the token could not be checked.
func (a *Accounts) Review(ctx context.Context, token string, audiences []string) (*User, []string, error) {
	if strings.Count(token, ".") != 2 {
		return nil, nil, ErrUnknownToken
	}
	b, err := a.Open(token)
	if err != nil {
		return nil, nil, ErrUnknownToken
	}
	var c Claims
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, nil, refused("its claims cannot be read: %v", err)
	}
	if len(audiences) == 0 {
		audiences = a.Audiences
	}
	audiences = slices.DeleteFunc(slices.Clone(audiences), func(s string) bool { return !slices.Contains(c.Audience, s) })
	now := a.Now()
	switch {
	case c.Issuer != a.Issuer:
		return nil, nil, refused("it was issued by %q", c.Issuer)
	case now.After(time.Unix(c.Expiry, 0)):
		return nil, nil, refused("it has expired")
	case now.Add(leeway).Before(time.Unix(c.NotBefore, 0)):
		return nil, nil, refused("it is not valid yet: is the clock right?")
	case len(audiences) == 0:
		return nil, nil, refused("it is for the audiences %q", c.Audience)
	}
	if err := a.exist(ctx, &c.About); err != nil {
		return nil, nil, err
	}
	return c.user(), audiences, nil
}

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnknownToken, fmt.Sprintf(format, args...))
}

// exist makes sure that everything the token depends on is there still.
func (a *Accounts) exist(ctx context.Context, about *About) error {
	check := func(resource, namespace string, o *Object) error {
		if o == nil {
			return nil
		}
		uid, err := a.UID(ctx, resource, namespace, o.Name)
		switch {
		case err != nil:
			return err
		case uid == "" || uid != o.UID:
			return refused("of %s there is no %q any more", resource, o.Name)
		}
		return nil
	}
	node := about.Node
	if about.Pod != nil {
		node = nil // only says where the pod is
	}
	for _, err := range []error{
		check("serviceaccounts", about.Namespace, &about.Account), check("pods", about.Namespace, about.Pod),
		check("secrets", about.Namespace, about.Secret), check("nodes", "", node),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Claims) user() *User {
	u := AccountUser(c.About.Namespace, c.About.Account.Name, c.About.Account.UID)
	u.Extra = map[string][]string{}
	add := func(key, value string) {
		if value != "" {
			u.Extra[key] = []string{value}
		}
	}
	if c.ID != "" {
		add(extraID, "JTI="+c.ID)
	}
	if p := c.About.Pod; p != nil {
		add(extraPod, p.Name)
		add(extraPodUID, p.UID)
	}
	if n := c.About.Node; n != nil {
		add(extraNode, n.Name)
		add(extraNodeUID, n.UID)
	}
	return u
}

// NewClaims returns what a token says that is good from now on for so long.
func (a *Accounts) NewClaims(about About, audiences []string, life time.Duration, id string) *Claims {
	now := a.Now()
	return &Claims{
		Issuer: a.Issuer, Subject: AccountPrefix + about.Namespace + ":" + about.Account.Name, Audience: audiences,
		Expiry: now.Add(life).Unix(), NotBefore: now.Unix(), IssuedAt: now.Unix(), ID: id, About: about,
	}
}
