package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The ALPN names of connections between peers. Only on those are the headers below believed.
const (
	PeerProtocol   = "shoal-peer/1"   // HTTP/2
	StreamProtocol = "shoal-stream/1" // HTTP/1.1, for requests that upgrade
)

// Headers in which a peer names the user whose request it forwards.
const (
	UserHeader      = "X-Shoal-User"
	GroupsHeader    = "X-Shoal-Groups" // once for each group
	ForwardedHeader = "X-Shoal-Forwarded"
)

// ErrUnknownToken: the token is not one of the source's. Any other error means that it could not tell.
var ErrUnknownToken = errors.New("unknown token")

// TokenSource knows bearer tokens.
type TokenSource interface {
	// User returns whose token it is, or ErrUnknownToken.
	User(ctx context.Context, token string) (*User, error)
}

// Authenticator finds out who sent a request. Safe for concurrent use when its fields are.
type Authenticator struct {
	// Tokens are asked in order. A forwarded request brings its token along, and it is checked again.
	Tokens []TokenSource
	// IsVoter reports whether a peer votes. Voters hold the CA's key, so they may assert anybody. It may wait for one that is about to be a
	// voter. Nil: none is.
	IsVoter func(ctx context.Context, peer string) bool
}

// Authenticate returns the sender of r: by bearer token if there is one, else by client certificate, else Anonymous.
// Whether anonymous may do anything is for the Authorizer. Errors are StatusErrors.
func (a *Authenticator) Authenticate(r *http.Request) (*User, error) {
	peer := peerOf(r.TLS)
	asserted, isAsserted := r.Header[UserHeader]
	token, hasToken, err := bearer(r)
	if err != nil {
		return nil, unauthorized(err.Error())
	}
	switch {
	case hasToken:
		return a.byToken(r.Context(), token)
	case isAsserted && peer != "":
		return a.byPeer(r.Context(), peer, asserted, r.Header[GroupsHeader])
	}
	// From anyone but a peer the headers mean nothing, as if they were not there.
	if cert := certUser(r.TLS); cert != nil {
		return cert, nil
	}
	return &User{Name: Anonymous, Groups: []string{UnauthenticatedGroup}}, nil
}

func (a *Authenticator) byToken(ctx context.Context, token string) (*User, error) {
	for _, source := range a.Tokens {
		u, err := source.User(ctx, token)
		switch {
		case err == nil:
			return authenticated(u), nil
		case !errors.Is(err, ErrUnknownToken):
			return nil, apierrors.NewServiceUnavailable("the token cannot be checked now: " + err.Error())
		}
	}
	return nil, unauthorized("the bearer token is not valid")
}

// byPeer believes a peer about whom it forwards for, within what the peer could have seen: a certificate of the cluster's
// CA. A peer that does not vote might be in wrong hands without the CA's key being so; it must not become an
// administrator or another node.
func (a *Authenticator) byPeer(ctx context.Context, peer string, names, groups []string) (*User, error) {
	if len(names) != 1 || names[0] == "" {
		return nil, unauthorized("a forwarded request must name exactly one user")
	}
	u := &User{Name: names[0], Groups: slices.Clone(groups)}
	if OnlyForVoters(peer, u) {
		if a.IsVoter == nil || !a.IsVoter(ctx, peer) {
			return nil, forbiddenf("peer %s is no voter and may not ask as %s in groups %s", peer, u.Name, strings.Join(groups, ", "))
		}
	}
	if u.Name == Anonymous || u.In(UnauthenticatedGroup) {
		return &User{Name: Anonymous, Groups: []string{UnauthenticatedGroup}}, nil
	}
	return authenticated(u), nil
}

// OnlyForVoters reports whether a peer must be a voter to ask others for u: an administrator or another node.
func OnlyForVoters(peer string, u *User) bool {
	another := strings.HasPrefix(u.Name, NodePrefix) || u.In(NodesGroup)
	return another && u.Name != NodePrefix+peer || u.In(MastersGroup)
}

// Forward writes u into the headers of a request that goes to another peer, in the place of whatever was there. The
// Authorization header stays: tokens are checked again where the request is served, and so is whom their bearers want to act as.
func Forward(h http.Header, u *User) {
	if h.Get("Authorization") == "" {
		dropImpersonation(h) // u is who acts
	}
	h.Del(UserHeader)
	h.Del(GroupsHeader)
	h.Set(ForwardedHeader, "1")
	h.Set(UserHeader, u.Name)
	for _, g := range u.Groups {
		h.Add(GroupsHeader, g)
	}
}

// bearer reads the token of a request.
func bearer(r *http.Request) (token string, ok bool, err error) {
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, token, _ := strings.Cut(header, " ")
		if token = strings.TrimSpace(token); strings.EqualFold(scheme, "Bearer") && token != "" {
			return token, true, nil
		}
		return "", false, errors.New("the Authorization header must be: Bearer TOKEN")
	}
	return "", false, nil
}

// peerOf returns the name of the peer at the other end of a connection between peers, or empty.
func peerOf(s *tls.ConnectionState) string {
	if s == nil || s.NegotiatedProtocol != PeerProtocol && s.NegotiatedProtocol != StreamProtocol {
		return ""
	}
	return certUser(s).Node()
}

// certUser returns the user of a client certificate whose chain the TLS server verified.
func certUser(s *tls.ConnectionState) *User {
	if s == nil || len(s.VerifiedChains) == 0 || len(s.PeerCertificates) == 0 {
		return nil
	}
	subject := s.PeerCertificates[0].Subject
	if subject.CommonName == "" {
		return nil
	}
	return authenticated(&User{Name: subject.CommonName, Groups: slices.Clone(subject.Organization)})
}

func authenticated(u *User) *User {
	if u.In(AuthenticatedGroup) {
		return u
	}
	c := *u
	c.Groups = append(slices.Clone(u.Groups), AuthenticatedGroup)
	return &c
}

func unauthorized(message string) error {
	err := apierrors.NewUnauthorized(message)
	err.ErrStatus.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	return err
}
