package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// twoCAs are the CAs of one cluster, and a function that makes a peer's identity of the chains that they sign.
func twoCAs(t *testing.T) (old, fresh *CA, peer func(name string, client, server *CA, trusted ...*CA) *Identity) {
	t.Helper()
	old, _ = testCA(t)
	fresh, err := NewCA(old.ClusterID(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return old, fresh, func(name string, client, server *CA, trusted ...*CA) *Identity {
		t.Helper()
		return issue(t, func(req *x509.CertificateRequest) ([]byte, error) {
			return chainOf(t, req, name, client, server, trusted...), nil
		})
	}
}

func chainOf(t *testing.T, req *x509.CertificateRequest, name string, client, server *CA, trusted ...*CA) []byte {
	t.Helper()
	sign := func(ca *CA) []byte {
		if ca == nil {
			return nil
		}
		chain, err := ca.IssuePeer(req, PeerProfile{Name: name}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return chain
	}
	var certs []*x509.Certificate
	for _, ca := range trusted {
		certs = append(certs, ca.cert)
	}
	return Chain(sign(client), sign(server), certs)
}

// TestPeersOfEveryPhaseUnderstandEachOther has a peer of each phase of a rotation, and of the one after it, speak with the other, both ways.
func TestPeersOfEveryPhaseUnderstandEachOther(t *testing.T) {
	old, fresh, peer := twoCAs(t)
	phases := []struct {
		name string
		make func(name string) *Identity
	}{
		{"before", func(n string) *Identity { return peer(n, old, nil, old) }},
		{"trust", func(n string) *Identity { return peer(n, old, nil, old, fresh) }},
		{"sign", func(n string) *Identity { return peer(n, fresh, old, old, fresh) }},
		{"serve", func(n string) *Identity { return peer(n, fresh, nil, old, fresh) }},
		{"forget", func(n string) *Identity { return peer(n, fresh, nil, fresh) }},
	}
	try := func(server, client *Identity) error {
		_, err := handshake(t, ServerTLS(server, []string{"shoal-peer/1"}, "shoal-peer/1"), PeerTLS(client, "server", "shoal-peer/1"))
		return err
	}
	for i, p := range phases {
		for j, q := range phases {
			near := i-j <= 1 && j-i <= 1 || i < 3 && j < 3 // who was away until the overlap is understood in it
			err := try(p.make("server"), q.make("client"))
			if near && err != nil {
				t.Errorf("a server in %s, a client in %s: %v", p.name, q.name, err)
			}
			if (i == 0 && j == 4 || i == 4 && j == 0) && err == nil {
				t.Errorf("a server in %s and a client in %s speak with each other", p.name, q.name)
			}
		}
	}
}

// TestWhoKnowsOneCAFindsIt: kubeconfigs and tokens name the old CA, the new one, or both.
func TestWhoKnowsOneCAFindsIt(t *testing.T) {
	old, fresh, peer := twoCAs(t)
	server := ServerTLS(peer("server", fresh, old, old, fresh), []string{"h2", "http/1.1"})
	for name, ca := range map[string]*CA{"old": old, "new": fresh} {
		if _, err := handshake(t, server, PinnedTLS(ca.Hash(), "http/1.1")); err != nil {
			t.Errorf("a token of the %s CA: %v", name, err)
		}
	}
	both := x509.NewCertPool()
	both.AddCert(old.cert)
	both.AddCert(fresh.cert)
	only := x509.NewCertPool()
	only.AddCert(old.cert)
	for name, pool := range map[string]*x509.CertPool{"old": only, "both": both} {
		if _, err := handshake(t, server, &tls.Config{RootCAs: pool, ServerName: "server", NextProtos: []string{"h2"}}); err != nil {
			t.Errorf("a kubeconfig with %s: %v", name, err)
		}
	}
	after := ServerTLS(peer("server", fresh, nil, fresh), []string{"h2", "http/1.1"})
	if _, err := handshake(t, after, PinnedTLS(old.Hash(), "http/1.1")); err == nil {
		t.Error("a token of the old CA is good when that is forgotten")
	}
	if _, err := handshake(t, after, &tls.Config{RootCAs: both, ServerName: "server", NextProtos: []string{"h2"}}); err != nil {
		t.Errorf("a kubeconfig with both, later: %v", err)
	}
}

// TestDistrustEndsIt: one server configuration, which is made once, follows whom the identity trusts.
func TestDistrustEndsIt(t *testing.T) {
	old, fresh, peer := twoCAs(t)
	id := peer("server", fresh, old, old, fresh)
	server := ServerTLS(id, []string{"h2", "shoal-peer/1"}, "shoal-peer/1")
	client := func(ca *CA) *tls.Config {
		c := issue(t, func(req *x509.CertificateRequest) ([]byte, error) {
			return ca.IssueClient(req, AdminUser, []string{MastersGroup}, 0, time.Now())
		})
		conf := PinnedTLS(ca.Hash(), "h2")
		conf.ServerName = ""
		conf.VerifyConnection = nil // whom the server shows is not asked here
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.Certificate(), nil }
		return conf
	}
	var chains [][]*x509.Certificate
	for _, ca := range []*CA{old, fresh} {
		seen, err := handshake(t, server, client(ca))
		if err != nil || !id.Trusts(seen.VerifiedChains) {
			t.Errorf("before: %v", err)
		}
		if ca == old {
			chains = seen.VerifiedChains
		}
	}
	changed := id.Changed()
	if err := id.Trust([]*x509.Certificate{fresh.cert}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	default:
		t.Error("nobody was told")
	}
	if _, err := handshake(t, server, client(old)); err == nil {
		t.Error("the old CA's certificates are good")
	}
	if _, err := handshake(t, server, client(fresh)); err != nil {
		t.Errorf("the new CA's are not: %v", err)
	}
	if id.Trusts(chains) {
		t.Error("a connection of before is taken for one of now")
	}
	if !id.ServerCA().Equal(fresh.cert) {
		t.Error("it shows a certificate of a CA that it does not trust")
	}
	if err := id.Trust([]*x509.Certificate{old.cert}); err == nil {
		t.Error("it takes no CA to be its own's")
	}
}

func TestTokensOfBothCAs(t *testing.T) {
	old, fresh, _ := twoCAs(t)
	certs := []*x509.Certificate{fresh.cert, old.cert}
	for _, ca := range []*CA{old, fresh} {
		token, err := ca.SignToken([]byte(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenToken(certs, token); err != nil {
			t.Error(err)
		}
	}
	keys, err := TokenKeys(certs)
	if err != nil || bytes.Count(keys, []byte(`"kid"`)) != 2 {
		t.Errorf("%s %v", keys, err)
	}
}

// TestPapersSurvive writes an identity of every phase, and reads it, also as programs did that knew of one CA.
func TestPapersSurvive(t *testing.T) {
	old, fresh, peer := twoCAs(t)
	for name, id := range map[string]*Identity{
		"before": peer("here", old, nil, old), "trust": peer("here", old, nil, old, fresh), "sign": peer("here", fresh, old, old, fresh),
		"serve": peer("here", fresh, nil, fresh, old), "forget": peer("here", fresh, nil, fresh),
	} {
		dir := filepath.Join(t.TempDir(), "pki")
		if err := errors.Join(id.Save(dir), id.Save(dir)); err != nil {
			t.Fatal(err)
		}
		got, err := LoadIdentity(dir)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.ChainPEM(), id.ChainPEM()) || !bytes.Equal(got.CAPEM(), id.CAPEM()) || !got.ServerCA().Equal(id.ServerCA()) {
			t.Errorf("%s: another identity than was saved", name)
		}
		beside, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
		if err != nil || !bytes.Equal(beside, id.CAPEM()) {
			t.Errorf("%s: ca.crt: %v", name, err)
		}
		certs, err := ParseCerts(id.ChainPEM())
		if err != nil {
			t.Fatal(err)
		}
		first, last := certs[0], certs[len(certs)-1]
		if err := first.CheckSignatureFrom(last); err != nil || !first.Equal(id.ServerCertificate().Leaf) || !last.IsCA {
			t.Errorf("%s: an older program reads %v", name, err)
		}
	}
}

// TestRenewalKeepsTheCAs: what a new certificate comes with does not change who is trusted.
func TestRenewalKeepsTheCAs(t *testing.T) {
	old, fresh, peer := twoCAs(t)
	id := peer("here", old, nil, old, fresh)
	data, err := id.Request([]net.IP{net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	req, err := ParseRequest(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := id.Replace(chainOf(t, req, "here", fresh, old, fresh)); err != nil {
		t.Fatal(err)
	}
	if len(id.CAs()) != 2 || !id.CA().Equal(fresh.cert) || !id.ServerCA().Equal(old.cert) {
		t.Error("not the two that it trusted, or not in their places")
	}
	stranger, _ := testCA(t)
	if err := id.Replace(chainOf(t, req, "here", stranger, nil)); err == nil {
		t.Error("it takes a certificate of a CA that it does not trust")
	}
	if err := id.ShowOne(); err != nil || !id.ServerCA().Equal(fresh.cert) {
		t.Errorf("it goes on to show the old one: %v", err)
	}
}
