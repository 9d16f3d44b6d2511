package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// testCA returns a CA and a function that issues a peer's identity.
func testCA(t *testing.T) (*CA, func(name string) *Identity) {
	t.Helper()
	ca, err := NewCA(NewClusterID(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca, func(name string) *Identity {
		t.Helper()
		return issue(t, func(req *x509.CertificateRequest) ([]byte, error) {
			return ca.IssuePeer(req, PeerProfile{Name: name, Domain: "cluster.local", ServiceIP: net.ParseIP("10.43.0.1")}, time.Now())
		})
	}
}

func issue(t *testing.T, sign func(*x509.CertificateRequest) ([]byte, error)) *Identity {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	data, err := NewRequest(key, "what the request calls itself", []net.IP{net.ParseIP("192.0.2.7")})
	if err != nil {
		t.Fatal(err)
	}
	req, err := ParseRequest(data)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := sign(req)
	if err != nil {
		t.Fatal(err)
	}
	id, err := NewIdentity(key, chain)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestPeerCertificateSaysWhatTheProfileSays(t *testing.T) {
	ca, peer := testCA(t)
	id := peer("peer-1")
	leaf := id.Certificate().Leaf
	if leaf.Subject.CommonName != "system:node:peer-1" || id.Peer() != "peer-1" {
		t.Errorf("common name %q", leaf.Subject.CommonName)
	}
	if diff := cmp.Diff([]string{"system:nodes"}, leaf.Subject.Organization); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{
		"peer-1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc.cluster.local", "127.0.0.1", "10.43.0.1", "192.0.2.7",
	} {
		if err := leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if err := leaf.VerifyHostname("what the request calls itself"); err == nil {
		t.Error("a name was taken from the request")
	}
	if id.ClusterID() != ca.ClusterID() || len(ca.ClusterID()) != 32 {
		t.Errorf("cluster ids %q and %q", id.ClusterID(), ca.ClusterID())
	}
	left := leaf.NotAfter.Sub(id.RenewAt())
	if third := PeerLife / 3; left != third {
		t.Errorf("renewed with %v left, want %v", left, third)
	}
	if leaf.NotBefore.After(time.Now().Add(-50 * time.Minute)) {
		t.Errorf("not backdated: %v", leaf.NotBefore)
	}
}

func TestClientCertificateIsNeverANode(t *testing.T) {
	ca, _ := testCA(t)
	for _, tc := range []struct {
		user   string
		groups []string
	}{{"system:node:peer-1", nil}, {"x", []string{"system:nodes"}}, {"", nil}} {
		key, _ := NewKey()
		data, _ := NewRequest(key, "x", nil)
		req, _ := ParseRequest(data)
		if _, err := ca.IssueClient(req, tc.user, tc.groups, 0, time.Now()); err == nil {
			t.Errorf("issued to %q in %q", tc.user, tc.groups)
		}
	}
	id := issue(t, func(req *x509.CertificateRequest) ([]byte, error) {
		return ca.IssueClient(req, AdminUser, []string{MastersGroup}, 0, time.Now())
	})
	if id.Peer() != "" || id.User() != AdminUser {
		t.Errorf("user %q peer %q", id.User(), id.Peer())
	}
}

func TestRequestNeedsProofOfTheKey(t *testing.T) {
	key, _ := NewKey()
	data, _ := NewRequest(key, "x", nil)
	req, err := ParseRequest(data)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := NewKey()
	req.PublicKey = other.Public()
	if err := checkRequest(req); err == nil {
		t.Error("accepted a request signed by another key")
	}
}

func TestIdentitySurvivesSaveAndLoad(t *testing.T) {
	_, peer := testCA(t)
	id, dir := peer("peer-1"), filepath.Join(t.TempDir(), "pki")
	if _, err := LoadIdentity(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("load of nothing: %v", err)
	}
	if err := id.Save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got.User() != id.User() || !got.Key().Equal(id.Key()) || string(got.ChainPEM()) != string(id.ChainPEM()) {
		t.Error("loaded another identity than was saved")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("files left: %v %v", entries, err)
	}
	info, err := os.Stat(filepath.Join(dir, identityFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
}

func TestReplaceTakesOnlyTheSameKeyUserAndCA(t *testing.T) {
	ca, peer := testCA(t)
	id := peer("peer-1")
	data, err := id.Request(nil)
	if err != nil {
		t.Fatal(err)
	}
	req, err := ParseRequest(data)
	if err != nil {
		t.Fatal(err)
	}
	foreign, _ := testCA(t)
	for name, sign := range map[string]func() ([]byte, error){
		"another CA":   func() ([]byte, error) { return foreign.IssuePeer(req, PeerProfile{Name: "peer-1"}, time.Now()) },
		"another name": func() ([]byte, error) { return ca.IssuePeer(req, PeerProfile{Name: "peer-2"}, time.Now()) },
		"another key":  func() ([]byte, error) { return peer("peer-1").ChainPEM(), nil },
	} {
		chain, err := sign()
		if err != nil {
			t.Fatal(err)
		}
		if err := id.Replace(chain); err == nil {
			t.Errorf("took a certificate of %s", name)
		}
	}
	changed, old := id.Changed(), id.Certificate()
	chain, err := ca.IssuePeer(req, PeerProfile{Name: "peer-1", Life: time.Hour}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := id.Replace(chain); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	default:
		t.Error("Changed was not closed")
	}
	if id.Certificate() == old {
		t.Error("the old certificate is still in use")
	}
}

func TestParseCARefusesAKeyOfAnother(t *testing.T) {
	a, _ := testCA(t)
	b, _ := testCA(t)
	aKey, _ := a.KeyPEM()
	bKey, _ := b.KeyPEM()
	got, err := ParseCA(a.CertPEM(), aKey)
	if err != nil || got.Hash() != a.Hash() {
		t.Errorf("round trip: %v", err)
	}
	if _, err := ParseCA(a.CertPEM(), bKey); err == nil {
		t.Error("accepted the key of another CA")
	}
}

func TestTLS(t *testing.T) {
	ca, peer := testCA(t)
	_, strange := testCA(t)
	server := ServerTLS(peer("peer-1"), []string{"shoal-peer/1", "h2"}, "shoal-peer/1")
	admin := issue(t, func(req *x509.CertificateRequest) ([]byte, error) {
		return ca.IssueClient(req, AdminUser, []string{MastersGroup}, 0, time.Now())
	})
	for _, tc := range []struct {
		name   string
		client *tls.Config
		want   string // of the error; empty means success
		peer   string // as the server sees the client
	}{
		{"peer", PeerTLS(peer("peer-2"), "peer-1", "shoal-peer/1"), "", "peer-2"},
		{"any peer", PeerTLS(peer("peer-2"), "", "shoal-peer/1"), "", "peer-2"},
		{"wrong peer answers", PeerTLS(peer("peer-2"), "peer-3", "shoal-peer/1"), "dialled peer peer-3 and reached peer-1", ""},
		{"peer of another cluster", PeerTLS(strange("peer-2"), "peer-1", "shoal-peer/1"), "verify the certificate of system:node:peer-1", ""},
		{"pinned", PinnedTLS(ca.Hash(), "h2"), "", ""},
		{"pinned to another", PinnedTLS(strings.Repeat("0", 64), "h2"), "belongs to another cluster", ""},
		{"anonymous on the peers' protocol", PinnedTLS(ca.Hash(), "shoal-peer/1"), "a peer's certificate is required", ""},
		{"admin on the peers' protocol", func() *tls.Config {
			c := ClientTLS(admin.CA(), admin, "shoal-peer/1")
			c.ServerName = "kubernetes"
			return c
		}(), "a peer's certificate is required", ""},
		{"admin", func() *tls.Config {
			c := ClientTLS(admin.CA(), admin, "h2")
			c.ServerName = "kubernetes"
			return c
		}(), "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			seen, err := handshake(t, server, tc.client)
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want %q", err, tc.want)
			case err == nil && PeerName(seen) != tc.peer:
				t.Errorf("server sees peer %q, want %q", PeerName(seen), tc.peer)
			}
		})
	}
}

// TestEpochsDoNotSpeakAsPeers: whoever was left behind by a recovery learns it from the first peer it calls, and is not heard.
func TestEpochsDoNotSpeakAsPeers(t *testing.T) {
	ca, peer := testCA(t)
	in := func(name string, epoch uint64) *Identity {
		return issue(t, func(req *x509.CertificateRequest) ([]byte, error) {
			return ca.IssuePeer(req, PeerProfile{Name: name, Epoch: epoch}, time.Now())
		})
	}
	serve := func(id *Identity) *tls.Config {
		return ServerTLS(id, []string{"shoal-peer/1", "http/1.1"}, "shoal-peer/1")
	}
	before, after, also := peer("before"), in("after", 12), in("also", 12)
	if before.Epoch() != 0 || after.Epoch() != 12 {
		t.Errorf("epochs %d and %d", before.Epoch(), after.Epoch())
	}
	if seen, err := handshake(t, serve(after), PeerTLS(also, "after", "shoal-peer/1")); err != nil || PeerName(seen) != "also" {
		t.Errorf("in one epoch: %v", err)
	}
	var epoch *EpochError
	for _, tc := range []struct {
		server, client *Identity
		want           EpochError
	}{
		{after, before, EpochError{Peer: "after", Theirs: 12, Ours: 0}},
		{before, after, EpochError{Peer: "before", Theirs: 0, Ours: 12}},
	} {
		if _, err := handshake(t, serve(tc.server), PeerTLS(tc.client, "", "shoal-peer/1")); !errors.As(err, &epoch) || *epoch != tc.want {
			t.Errorf("%s calls %s: %v", tc.client.Peer(), tc.server.Peer(), err)
		}
	}
	// The server does not rely on the client's looking.
	careless := PinnedTLS(ca.Hash(), "shoal-peer/1")
	careless.Certificates = []tls.Certificate{*before.Certificate()}
	if _, err := handshake(t, serve(after), careless); !errors.As(err, &epoch) || epoch.Theirs != 0 {
		t.Errorf("a peer of before is heard: %v", err)
	}
	seen, err := handshake(t, serve(after), ReturnTLS(before, "http/1.1"))
	if err != nil || PeerName(seen) != "before" {
		t.Errorf("it cannot ask to come back: %q, %v", PeerName(seen), err)
	}
}

// handshake returns what the server sees, and the first error of either side.
func handshake(t *testing.T, server, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	s, _, err := pair(t, server, client)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	return s.ConnectionState(), nil
}

func pair(t *testing.T, server, client *tls.Config) (*tls.Conn, *tls.Conn, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // a pipe would block the side that sends an alert
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	s, c := tls.Server(a, server), tls.Client(b, client)
	errs := make(chan error, 1)
	go func() {
		err := s.HandshakeContext(t.Context())
		if err != nil {
			_ = a.Close()
		}
		errs <- err
	}()
	cerr := c.HandshakeContext(t.Context())
	if cerr != nil {
		_ = b.Close()
	}
	serr := <-errs
	if cerr != nil && !strings.Contains(cerr.Error(), "remote error") && !strings.Contains(cerr.Error(), "reset") && !errors.Is(cerr, io.EOF) {
		return nil, nil, cerr
	}
	return s, c, errors.Join(serr, cerr)
}

func TestSealedBlobOpensForItsKeyAndPurposeOnly(t *testing.T) {
	key, _ := NewKey()
	other, _ := NewKey()
	sealed, err := Seal(&key.PublicKey, "ca key", []byte("the key"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(sealed), "the key") {
		t.Error("sealed in clear")
	}
	blob, err := Open(key, "ca key", sealed)
	if err != nil || string(blob) != "the key" {
		t.Errorf("opened %q, %v", blob, err)
	}
	if _, err := Open(other, "ca key", sealed); err == nil {
		t.Error("another key opened it")
	}
	if _, err := Open(key, "another purpose", sealed); err == nil {
		t.Error("opened for another purpose")
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := Open(key, "ca key", sealed); err == nil {
		t.Error("a changed blob opened")
	}
}

func TestProofBindsSecretRoleAndConnection(t *testing.T) {
	_, peer := testCA(t)
	server := ServerTLS(peer("peer-1"), []string{"h2"})
	s, c, err := pair(t, server, ProofTLS("h2"))
	if err != nil {
		t.Fatal(err)
	}
	proof, err := Proof(c.ConnectionState(), "a shared secret", "joiner")
	if err != nil {
		t.Fatal(err)
	}
	if !CheckProof(s.ConnectionState(), "a shared secret", "joiner", proof) {
		t.Error("a good proof was refused")
	}
	if CheckProof(s.ConnectionState(), "another secret", "joiner", proof) {
		t.Error("another secret's proof was taken")
	}
	if CheckProof(s.ConnectionState(), "a shared secret", "member", proof) {
		t.Error("the proof was taken for another role")
	}
	s2, _, err := pair(t, server, ProofTLS("h2"))
	if err != nil {
		t.Fatal(err)
	}
	if CheckProof(s2.ConnectionState(), "a shared secret", "joiner", proof) {
		t.Error("the proof was taken on another connection")
	}
	if _, err := Proof(c.ConnectionState(), "", "joiner"); err == nil {
		t.Error("proved an empty secret")
	}
}

func TestDeriveKeyDependsOnSecretAndPurpose(t *testing.T) {
	a, err := DeriveKey("secret", "gossip")
	if err != nil || len(a) != 32 {
		t.Fatalf("%d bytes, %v", len(a), err)
	}
	again, _ := DeriveKey("secret", "gossip")
	other, _ := DeriveKey("secret", "join")
	if string(a) != string(again) || string(a) == string(other) {
		t.Error("a key must be the same for the same purpose, and only then")
	}
}
