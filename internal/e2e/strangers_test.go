//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/audit"
	"shoal/internal/client"
	"shoal/internal/lab"
)

// stranger asks one peer for what it has no right to.
type stranger struct {
	t    *testing.T
	peer lab.Peer
	pool *x509.CertPool
	n    *int // how much was tried
}

func (s stranger) tls(certs ...tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: s.pool, Certificates: certs, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
}

// ask returns the code of the answer, 0 when there is none.
func (s stranger) ask(conf *tls.Config, method, path string, headers ...string) (int, string) {
	s.t.Helper()
	*s.n++
	hc := &http.Client{
		Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.peer.API(), strings.NewReader("{}"))
	if err != nil {
		s.t.Fatal(err)
	}
	req.URL.Opaque = "//" + req.URL.Host + path // as it is written
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := hc.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(b)
}

// refused checks that a request gets nothing: 401, 403, or nothing that there is.
func (s stranger) refused(what string, code int, body string) {
	s.t.Helper()
	if code == http.StatusServiceUnavailable && strings.Contains(body, "this peer is not the Master") {
		return // who says that a peer sent it on is answered as that peer
	}
	if code >= 200 && code < 300 || code >= 500 || strings.Contains(body, "topsecret") || strings.Contains(body, "dG9wc2VjcmV0") {
		s.t.Errorf("%s: %s is answered %d: %.200s", s.peer.Name, what, code, body)
	}
}

// selfSigned is a certificate of a CA that the cluster does not know.
func selfSigned(t *testing.T, name string, groups ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name, Organization: groups}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// paths are of everything that is served: kinds with their subresources, and what is not about objects.
func paths(t *testing.T, c client.Interface) []string {
	t.Helper()
	out, err := tryKubectl(t.Context(), "get", "--raw", "/apis", "-v=0")
	if err != nil {
		t.Fatal(err)
	}
	var groups metav1.APIGroupList
	if err := json.Unmarshal([]byte(out), &groups); err != nil {
		t.Fatal(err)
	}
	roots := []string{"/api/v1"}
	for _, g := range groups.Groups {
		for _, v := range g.Versions {
			roots = append(roots, "/apis/"+v.GroupVersion)
		}
	}
	all := []string{"/api", "/apis", "/openapi/v2", "/openapi/v3", "/metrics", "/", "/.well-known/openid-configuration", "/openid/v1/jwks", "/logs", "/debug/pprof/"}
	for _, root := range roots {
		out, err := tryKubectl(t.Context(), "get", "--raw", root)
		if err != nil {
			t.Fatal(err)
		}
		var list metav1.APIResourceList
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			t.Fatal(err)
		}
		for _, r := range list.APIResources {
			resource, sub, _ := strings.Cut(r.Name, "/")
			base := root
			if r.Namespaced {
				base += "/namespaces/default"
			}
			switch {
			case sub != "":
				all = append(all, base+"/"+resource+"/kept/"+sub)
			default:
				all = append(all, base+"/"+resource, base+"/"+resource+"/kept", root+"/watch/"+resource)
				if r.Namespaced {
					all = append(all, root+"/"+resource)
				}
			}
		}
	}
	for _, p := range []string{
		"peers", "tokens", "tokens/x", "peers/peer-1/images", "peers/peer-1/images/pull", "history?kind=secrets&name=kept", "who-can?verb=get&resource=secrets", "backup", "restore", "pprof/heap", "nothing",
	} {
		all = append(all, "/shoal/v1/"+p)
	}
	for _, p := range []string{"join", "certificate", "admin", "consensus/call", "pods/default/kept/log", "images/"} {
		all = append(all, "/peer/"+p)
	}
	return all
}

// TestStrangersGetNothing asks for everything that is served, with every method, as somebody who has no right to it, at the Master and at a follower, and
// with tricks; then as a machine that was stolen. Whatever is refused for who asked is in the audit log.
func TestStrangersGetNothing(t *testing.T) {
	c := startLab(t, 4)
	c.allVote(t) // but one
	apply(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: kept}\nstringData: {k: topsecret}\n")
	apply(t, pod("kept", "peer-1", "sleep"))
	leader := master(t)
	ca, err := os.ReadFile(filepath.Join(lab.Dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	tried := 0
	at := func(name string) stranger {
		for _, p := range labPeers(t) {
			if p.Name == name {
				return stranger{t, p, pool, &tried}
			}
		}
		t.Fatalf("no peer %s", name)
		return stranger{}
	}
	ends := []stranger{at(leader), at(c.others(leader)[0])}
	all := paths(t, c.api)
	admin := []string{"X-Shoal-User", "admin", "X-Shoal-Groups", "system:masters", "X-Shoal-Forwarded", "1", "X-Remote-User", "admin", "X-Remote-Group", "system:masters"}

	t.Run("everything, by nobody", func(t *testing.T) {
		for _, s := range ends {
			s.t = t
			for _, path := range all {
				for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECTX"} {
					code, body := s.ask(s.tls(), method, path, admin...)
					s.refused(method+" "+path, code, body)
				}
			}
		}
	})
	t.Run("a foreign certificate, tokens that are none", func(t *testing.T) {
		foreign := selfSigned(t, "admin", "system:masters")
		dead, err := tryKubectl(t.Context(), "create", "token", "default", "--duration", "10m")
		if err != nil {
			t.Fatal(err)
		}
		dead = strings.TrimSpace(dead)
		if _, err := tryKubectl(t.Context(), "delete", "serviceaccount", "default"); err != nil {
			t.Fatal(err)
		}
		within(t, 10*time.Second, "another account of the name", func(context.Context) error {
			_, err := tryKubectl(t.Context(), "get", "serviceaccount", "default")
			return err
		})
		for _, s := range ends {
			s.t = t
			for _, path := range []string{"/api/v1/secrets", "/api/v1/namespaces/default/secrets/kept", "/shoal/v1/peers", "/shoal/v1/backup", "/api/v1/nodes"} {
				code, body := s.ask(s.tls(foreign), "GET", path)
				s.refused("foreign "+path, code, body)
				for _, header := range []string{
					"Bearer " + dead, "Bearer " + dead[:len(dead)-4] + "AAAA", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.", "Bearer shoal.0123456789abcdef.x", "Bearer " + strings.Repeat("A", 100_000),
					"Basic YWRtaW46YWRtaW4=", "Bearer", "bearer admin", "Bearer\x00admin",
				} {
					code, body := s.ask(s.tls(), "GET", path, "Authorization", header)
					s.refused(path+" with "+header[:min(len(header), 30)], code, body)
				}
			}
		}
	})
	t.Run("paths that are not what they seem", func(t *testing.T) {
		for _, s := range ends {
			s.t = t
			for _, path := range []string{
				"/healthz/../api/v1/secrets", "/healthz/%2e%2e/api/v1/secrets", "/healthz/..%2fapi/v1/secrets", "//api//v1//secrets", "/api/v1/namespaces/default/../../secrets",
				"/api/v1/namespaces/default%2fsecrets/kept", "/api/v1/%73ecrets", "/API/v1/secrets", "/api/v1/secrets/", "/api/v1/secrets?watch=1&timeoutSeconds=1", "/api/v1/secrets;x=y",
				"/version/../../api/v1/secrets", "/version%00/api/v1/secrets", "/livez/ping/../../api/v1/secrets", "/api/v1/namespaces/" + strings.Repeat("x", 20_000) + "/secrets",
				"/api/v1/proxy/namespaces/default/pods/kept/", "/api/v1/namespaces/default/pods/kept/proxy/", "/api/v1/nodes/peer-1/proxy/stats/summary", "/peer/../api/v1/secrets", "/shoal/../api/v1/secrets",
				"/shoal/v1/hello/../backup", "/apis/../api/v1/secrets", "/.", "/..", "/%", "/api/v1/secrets#x", "*",
			} {
				for _, method := range []string{"GET", "POST"} {
					code, body := s.ask(s.tls(), method, path, admin...)
					s.refused(method+" "+path[:min(len(path), 60)], code, body)
				}
			}
			for _, text := range []string{
				"POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /api/v1/secrets HTTP/1.1\r\nHost: x\r\nX-Shoal-User: admin\r\nX-Shoal-Groups: system:masters\r\n\r\n",
				"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 70\r\n\r\nGET /api/v1/secrets HTTP/1.1\r\nHost: x\r\n\r\n",
				"GET /healthz HTTP/1.1\r\nHost: x\r\nX: y\nX-Shoal-User: admin\r\n\r\nGET /api/v1/secrets HTTP/1.1\r\nHost: x\r\n\r\n",
				"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\nGET /api/v1/secrets HTTP/1.1\r\nHost: x\r\n\r\n",
				"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01", "GET /api/v1/secrets\r\n\r\n",
			} {
				s.smuggle(text)
			}
		}
	})
	t.Run("a machine that was stolen", func(t *testing.T) {
		// One that does not vote: it has no key of the CA, and must be no more than itself.
		var file string
		for _, p := range status(t).Peers {
			if p.Role == api.RoleReplica {
				file = filepath.Join(at(p.Name).peer.DataDir(), "pki", "peer.pem")
			}
		}
		cert, err := tls.LoadX509KeyPair(file, file)
		if err != nil {
			t.Fatal(err)
		}
		as := func(s stranger, proto string) *tls.Config {
			conf := s.tls(cert)
			conf.NextProtos = []string{proto}
			return conf
		}
		for _, s := range ends {
			s.t = t
			for _, proto := range []string{"http/1.1", "shoal-stream/1"} { // as a client, and as a peer that says who asks
				for _, r := range [][2]string{
					{"GET", "/api/v1/secrets"},
					{"GET", "/api/v1/namespaces/default/secrets"},
					{"GET", "/api/v1/namespaces/default/secrets/kept"},
					{"GET", "/shoal/v1/backup"},
					{"GET", "/shoal/v1/tokens"},
					{"GET", "/api/v1/namespaces/default/pods/kept/exec?command=sh"},
					{"GET", "/api/v1/namespaces/default/pods/kept/log"},
					{"GET", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"},
					{"DELETE", "/api/v1/namespaces/default/pods/kept"},
					{"DELETE", "/api/v1/nodes/peer-1"},
					{"POST", "/api/v1/namespaces/default/serviceaccounts/default/token"},
					{"POST", "/api/v1/namespaces/default/pods"},
					{"POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"},
					{"DELETE", "/api/v1/namespaces/default"},
				} {
					code, body := s.ask(as(s, proto), r[0], r[1], admin...)
					s.refused("a node's "+proto+" "+r[0]+" "+r[1], code, body)
				}
			}
		}
	})
	o, err := c.api.Get(t.Context(), api.Pods, client.Key{Namespace: "default", Name: "kept"}, client.GetOptions{})
	if err != nil || o.(*corev1.Pod).DeletionTimestamp != nil {
		t.Errorf("the pod: %v", err)
	}
	refusals := 0
	for _, s := range ends {
		if _, err := audit.Read(filepath.Join(s.peer.DataDir(), "audit"), func(r audit.Record) {
			if r.Decision == audit.Forbid || strings.Contains(r.Note, "were not noted") {
				refusals++
			}
		}); err != nil {
			t.Error(err)
		}
	}
	if refusals < 100 {
		t.Errorf("%d refusals are in the audit logs", refusals)
	}
	t.Logf("FIGURES %d requests of strangers tried, %d refusals noted", tried, refusals)
}

// smuggle sends text as it is and reads all answers: none may have anything of what is kept.
func (s stranger) smuggle(text string) {
	s.t.Helper()
	*s.n++
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: s.tls()}).DialContext(s.t.Context(), "tcp", strings.TrimPrefix(s.peer.API(), "https://"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	_, _ = io.WriteString(conn, text)
	in := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return
		}
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		_ = resp.Body.Close()
		if strings.Contains(string(b), "kept") || strings.Contains(string(b), "SecretList") {
			s.t.Errorf("%s: %q is answered %d: %.200s", s.peer.Name, text, resp.StatusCode, fmt.Sprint(string(b)))
		}
	}
}
