package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// conn is a TLS connection whose client certificate was verified, or not.
func conn(protocol string, verified bool, cn string, orgs ...string) *tls.ConnectionState {
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: cn, Organization: orgs}}
	s := &tls.ConnectionState{NegotiatedProtocol: protocol, PeerCertificates: []*x509.Certificate{cert}}
	if verified {
		s.VerifiedChains = [][]*x509.Certificate{{cert}}
	}
	return s
}

type brokenSource struct{}

func (brokenSource) User(context.Context, string) (*User, error) { return nil, errors.New("no quorum") }

func TestAuthenticate(t *testing.T) {
	authn := &Authenticator{
		Tokens:  []TokenSource{NewStaticTokens(map[string]User{"tok-1": {Name: "robot", Groups: []string{"robots"}}})},
		IsVoter: func(_ context.Context, peer string) bool { return peer == "voter" },
	}
	peer := func(name string) *tls.ConnectionState { return conn(PeerProtocol, true, NodePrefix+name, NodesGroup) }
	header := func(kv ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(kv); i += 2 {
			h.Add(kv[i], kv[i+1])
		}
		return h
	}
	user := func(name string, groups ...string) *User { return &User{Name: name, Groups: groups} }
	anonymous := user(Anonymous, UnauthenticatedGroup)
	admin := user("admin", MastersGroup, AuthenticatedGroup)
	asAdmin := header(UserHeader, "admin", GroupsHeader, MastersGroup, GroupsHeader, AuthenticatedGroup)

	for _, tc := range []struct {
		name   string
		conn   *tls.ConnectionState
		header http.Header
		want   *User
		code   int32
	}{
		{"nothing", nil, nil, anonymous, 0},
		{"no certificate", &tls.ConnectionState{}, nil, anonymous, 0},
		{"certificate", conn("h2", true, "admin", MastersGroup), nil, admin, 0},
		{"certificate not verified", conn("h2", false, "admin", MastersGroup), nil, anonymous, 0},
		{"token", nil, header("Authorization", "Bearer tok-1"), user("robot", "robots", AuthenticatedGroup), 0},
		{"token before certificate", conn("h2", true, "admin", MastersGroup), header("Authorization", "bearer tok-1"), user("robot", "robots", AuthenticatedGroup), 0},
		{"wrong token", conn("h2", true, "admin", MastersGroup), header("Authorization", "Bearer tok-2"), nil, 401},
		{"not a token", nil, header("Authorization", "Basic YTpi"), nil, 401},
		{"empty token", nil, header("Authorization", "Bearer "), nil, 401},
		{"node", conn("h2", true, "system:node:a", NodesGroup), nil, user("system:node:a", NodesGroup, AuthenticatedGroup), 0},
		{"peer itself", peer("a"), nil, user("system:node:a", NodesGroup, AuthenticatedGroup), 0},
		{"voter for an administrator", peer("voter"), asAdmin, admin, 0},
		{"replica for an administrator", peer("a"), asAdmin, nil, 403},
		{"replica for a user", peer("a"), header(UserHeader, "jane", GroupsHeader, "dev"), user("jane", "dev", AuthenticatedGroup), 0},
		{"replica for itself", peer("a"), header(UserHeader, "system:node:a", GroupsHeader, NodesGroup), user("system:node:a", NodesGroup, AuthenticatedGroup), 0},
		{"replica for another node", peer("a"), header(UserHeader, "system:node:b", GroupsHeader, NodesGroup), nil, 403},
		{"replica for another node without its group", peer("a"), header(UserHeader, "system:node:b"), nil, 403},
		{"replica for a user among the nodes", peer("a"), header(UserHeader, "jane", GroupsHeader, NodesGroup), nil, 403},
		{"voter for another node", peer("voter"), header(UserHeader, "system:node:b", GroupsHeader, NodesGroup), user("system:node:b", NodesGroup, AuthenticatedGroup), 0},
		{"replica for nobody", peer("a"), header(UserHeader, Anonymous, GroupsHeader, UnauthenticatedGroup), anonymous, 0},
		{"replica for nobody with groups", peer("a"), header(UserHeader, Anonymous, GroupsHeader, "dev"), anonymous, 0},
		{"replica, empty user", peer("a"), header(UserHeader, ""), nil, 401},
		{"replica, two users", peer("a"), header(UserHeader, "x", UserHeader, "y"), nil, 401},
		{"replica with a token", peer("a"), header(UserHeader, "admin", GroupsHeader, MastersGroup, "Authorization", "Bearer tok-1"), user("robot", "robots", AuthenticatedGroup), 0},
		{"replica with a wrong token", peer("a"), header(UserHeader, "jane", "Authorization", "Bearer x"), nil, 401},
		{"headers without the peers' protocol", conn("h2", true, "system:node:voter", NodesGroup), asAdmin, user("system:node:voter", NodesGroup, AuthenticatedGroup), 0},
		{"headers from a user on the peers' protocol", conn(PeerProtocol, true, "jane", "dev"), asAdmin, user("jane", "dev", AuthenticatedGroup), 0},
		{"headers from a name without the nodes' group", conn(PeerProtocol, true, "system:node:voter"), asAdmin, user("system:node:voter", AuthenticatedGroup), 0},
		{"headers, certificate not verified", conn(PeerProtocol, false, "system:node:voter", NodesGroup), asAdmin, anonymous, 0},
		{"headers without TLS", nil, asAdmin, anonymous, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := http.NewRequest(http.MethodGet, "https://peer/api/v1/pods", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.TLS = tc.conn
			if tc.header != nil {
				r.Header = tc.header
			}
			got, err := authn.Authenticate(r)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("user (-want +got):\n%s", diff)
			}
			if code := codeOf(err); code != tc.code {
				t.Errorf("error %v, want code %d", err, tc.code)
			}
		})
	}
}

func codeOf(err error) int32 {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return status.Status().Code
	}
	return 0
}

func TestTokenThatCannotBeCheckedIsNotRefusedForGood(t *testing.T) {
	authn := &Authenticator{Tokens: []TokenSource{NewStaticTokens(nil), brokenSource{}}}
	r, _ := http.NewRequest(http.MethodGet, "https://peer/", nil)
	r.Header.Set("Authorization", "Bearer x")
	if _, err := authn.Authenticate(r); codeOf(err) != 503 {
		t.Errorf("got %v", err)
	}
}

func TestWithoutVotersNobodyAssertsAdministrators(t *testing.T) {
	r, _ := http.NewRequest(http.MethodGet, "https://peer/", nil)
	r.TLS = conn(PeerProtocol, true, "system:node:a", NodesGroup)
	Forward(r.Header, &User{Name: "admin", Groups: []string{MastersGroup}})
	if _, err := (&Authenticator{}).Authenticate(r); codeOf(err) != 403 {
		t.Errorf("got %v", err)
	}
}

func TestForwardedUserArrivesAndStaleHeadersDoNot(t *testing.T) {
	r, _ := http.NewRequest(http.MethodGet, "https://peer/", nil)
	r.TLS = conn(PeerProtocol, true, "system:node:a", NodesGroup)
	r.Header.Set(UserHeader, "admin")
	r.Header.Add(GroupsHeader, MastersGroup)
	want := &User{Name: "jane", Groups: []string{"dev", "ops", AuthenticatedGroup}}
	Forward(r.Header, want)
	got, err := (&Authenticator{}).Authenticate(r)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
