//go:build e2e

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"shoal/internal/lab"
)

// labBridge is the host's address in the lab.
const labBridge = "10.99.77.1"

// newIssuer is an OpenID provider that the lab's machines reach, and the file of its CA.
func newIssuer(t *testing.T, key jose.JSONWebKey) (url, ca string) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(labBridge)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &own.PublicKey, own)
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", labBridge+":0")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": url, "jwks_uri": url + "/keys"})
		case "/keys":
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}})
		}
	}))
	_ = s.Listener.Close()
	s.Listener = listener
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: own}}}
	s.StartTLS()
	t.Cleanup(s.Close)
	url = "https://" + listener.Addr().String()
	return url, ca
}

// TestUsersOfAnIssuer has users come with tokens of an OpenID provider, to any peer.
func TestUsersOfAnIssuer(t *testing.T) {
	c := startLab(t, 3)
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := jose.JSONWebKey{Key: private, KeyID: "one", Algorithm: string(jose.ES256), Use: "sig"}
	url, ca := newIssuer(t, key)
	c.configure(t, fmt.Sprintf("[api.oidc]\nissuer = %q\nclient_id = \"lab\"\nusername_prefix = \"oidc:\"\ngroups_prefix = \"oidc:\"\nca_file = %q\n", url, ca))
	shoal(t, "tenant", "create", "team", "--group", "oidc:crew")
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token := func(group string, end time.Time) string {
		t.Helper()
		text, err := jwt.Signed(signer).Claims(map[string]any{"iss": url, "aud": "lab", "sub": "jane", "exp": end.Unix(), "groups": []string{group}}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	config := filepath.Join(t.TempDir(), "nobody.kubeconfig")
	var text strings.Builder
	fmt.Fprint(&text, "apiVersion: v1\nkind: Config\nclusters:\n")
	for _, p := range status(t).Peers {
		fmt.Fprintf(&text, "- {name: %s, cluster: {server: %q, certificate-authority: %q}}\n", p.Name, p.API, filepath.Join(lab.Dir, "ca.crt"))
	}
	fmt.Fprint(&text, "users: [{name: u, user: {}}]\ncontexts:\n")
	for _, p := range status(t).Peers {
		fmt.Fprintf(&text, "- {name: %s, context: {cluster: %[1]s, user: u}}\n", p.Name)
	}
	if err := os.WriteFile(config, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	as := func(peer, token string, args ...string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := tryRun(ctx, filepath.Join(repo(), "build/tools/kubectl-current"), append([]string{"--kubeconfig", config, "--context", peer, "--token", token, "-n", "team"}, args...)...)
		return err
	}
	good, over := token("crew", time.Now().Add(time.Hour)), token("crew", time.Now().Add(-time.Minute))
	for i, p := range status(t).Peers {
		if err := as(p.Name, good, "create", "configmap", fmt.Sprint("c", i)); err != nil {
			t.Errorf("at %s: %v", p.Name, err)
		}
		if err := as(p.Name, token("deck", time.Now().Add(time.Hour)), "get", "pods"); err == nil || !strings.Contains(err.Error(), `User "oidc:jane" cannot list`) {
			t.Errorf("at %s, in another group: %v", p.Name, err)
		}
		if err := as(p.Name, over, "get", "pods"); err == nil || !strings.Contains(err.Error(), "Unauthorized") && !strings.Contains(err.Error(), "logged in") {
			t.Errorf("at %s, a token that is over: %v", p.Name, err)
		}
		if err := as(p.Name, token("system:masters", time.Now().Add(time.Hour)), "get", "pods"); err == nil {
			t.Errorf("at %s: the issuer made an administrator", p.Name)
		}
	}
}
