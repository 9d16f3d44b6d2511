//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"shoal/internal/api"
	"shoal/internal/lab"
)

// TestARemovedMachineIsNobody takes a voter out of a cluster while somebody else has a copy of its disk. What was open with its certificate, or with the
// administrator's that it kept, ends; neither opens anything again, at any peer; its pods are elsewhere; the keys of Secrets are new; and its own peer says what to do.
func TestARemovedMachineIsNobody(t *testing.T) {
	c := startLab(t, 4)
	apply(t, web(8))
	running(t, c.api, "web", 8, 60*time.Second)
	victim := ""
	for _, p := range status(t).Peers {
		if p.Role == api.RoleVoter {
			victim = p.Name
		}
	}
	var stolen lab.Peer
	var left []lab.Peer
	for _, p := range labPeers(t) {
		if p.Name == victim {
			stolen = p
		} else {
			left = append(left, p)
		}
	}
	dir := filepath.Join(stolen.DataDir(), "pki")
	own, err := tls.LoadX509KeyPair(filepath.Join(dir, "peer.pem"), filepath.Join(dir, "peer.pem"))
	must(t, err)
	admin, err := tls.LoadX509KeyPair(filepath.Join(dir, "admin.crt"), filepath.Join(dir, "admin.key"))
	must(t, err)
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	must(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	tried := 0
	as := func(at lab.Peer, cert tls.Certificate, proto string) *tls.Config {
		return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{proto}}
	}
	var open []*http.Response
	for _, p := range left {
		for _, cert := range []tls.Certificate{own, admin} {
			hc := &http.Client{Transport: &http.Transport{TLSClientConfig: as(p, cert, "http/1.1")}}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.API()+"/api/v1/nodes?watch=true", nil)
			must(t, err)
			resp, err := hc.Do(req)
			must(t, err)
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("before, at %s: %s", p.Name, resp.Status)
			}
			open = append(open, resp)
		}
	}
	key := keyOfSecrets(t)

	if out, err := tryShoal(t.Context(), "remove", victim); err == nil || !strings.Contains(err.Error(), "shoal drain "+victim) {
		t.Errorf("with its pods on it: %v %s", err, out)
	}
	if out, err := tryShoal(t.Context(), "--peer", victim, "remove", victim, "--force"); err == nil || !strings.Contains(err.Error(), "you ask "+victim+" itself") {
		t.Errorf("asked itself: %v %s", err, out)
	}
	if out, err := tryShoal(t.Context(), "remove", "nobody"); err == nil || !strings.Contains(err.Error(), `no machine "nobody" was ever let in`) {
		t.Errorf("one that is not there: %v %s", err, out)
	}
	if out := shoal(t, "remove", victim, "--force"); !strings.Contains(out, victim+" is removed") {
		t.Error(out)
	}
	began := time.Now()
	for _, resp := range open {
		ended := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, resp.Body)
			ended <- err
		}()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatalf("a watch of %s goes on with a certificate of the removed machine", resp.Request.URL)
		}
	}
	t.Logf("FIGURES what it had open ended after %v", time.Since(began).Round(time.Millisecond))
	for _, p := range left {
		s := stranger{t: t, peer: p, pool: pool, n: &tried}
		for name, cert := range map[string]tls.Certificate{"its certificate": own, "its administrator's": admin} {
			for _, proto := range []string{"http/1.1", "shoal-stream/1", "shoal-peer/1"} {
				if code, body := s.ask(as(p, cert, proto), "GET", "/api/v1/nodes"); code != 0 {
					t.Errorf("%s, %s: %s is answered %d: %.100s", p.Name, proto, name, code, body)
				}
			}
		}
	}
	running(t, c.api, "web", 8, 60*time.Second, victim)
	if out := shoal(t, "get", "pods", "-o", "wide"); strings.Contains(out, victim) {
		t.Errorf("pods are still there:\n%s", out)
	}
	if out := shoal(t, "peers"); strings.Contains(out, victim) {
		t.Errorf("it is a peer:\n%s", out)
	}
	if out := shoal(t, "get", "nodes"); strings.Contains(out, victim) {
		t.Errorf("it is a Node:\n%s", out)
	}
	within(t, 20*time.Second, "new keys of Secrets, and three voters", func(ctx context.Context) error {
		out, err := tryShoal(ctx, "rotate", "secrets", "--status")
		if err == nil && (strings.Contains(out, victim) || strings.Contains(out, key)) {
			err = errors.New(out)
		}
		votes := slices.DeleteFunc(status(t).Peers, func(p lab.PeerStatus) bool { return p.Role != api.RoleVoter && p.Role != api.RoleMaster })
		if err == nil && len(votes) != 3 {
			err = fmt.Errorf("%d vote", len(votes))
		}
		return err
	})
	within(t, 20*time.Second, "its own peer has ended", func(context.Context) error {
		b, err := os.ReadFile(filepath.Join(lab.Dir, victim, "peer.log"))
		if err == nil && !strings.Contains(string(b), "this machine was removed from the cluster") {
			err = errors.New("it has not said why")
		}
		return err
	})
	if out, err := tryShoal(t.Context(), "remove", victim); err != nil { // again, as after an interruption
		t.Errorf("again: %v %s", err, out)
	}
	was := master(t) // hands its role over first
	for _, p := range left {
		out, err := tryShoal(t.Context(), "lab", "exec", p.Name, "--", binary(), "--data-dir", p.DataDir(), "remove", was, "--force")
		switch {
		case p.Name == was && (err == nil || !strings.Contains(err.Error(), "you ask "+was+" itself")):
			t.Errorf("the Master, asked itself: %v %s", err, out)
		case p.Name != was && (err != nil || !strings.Contains(out, was+" is removed")):
			t.Errorf("the Master, asked at %s: %v %s", p.Name, err, out)
		}
	}
	for _, p := range left {
		if p.Name == was {
			continue
		}
		if out := shoal(t, "lab", "exec", p.Name, "--", binary(), "--data-dir", p.DataDir(), "peers"); strings.Contains(out, was) {
			t.Errorf("%s is a peer still, says %s:\n%s", was, p.Name, out)
		}
	}
}

// keyOfSecrets names the key that seals Secrets.
func keyOfSecrets(t *testing.T) string {
	t.Helper()
	out := shoal(t, "rotate", "secrets", "--status")
	_, key, ok := strings.Cut(out, "with key ")
	if !ok {
		t.Fatal(out)
	}
	key, _, _ = strings.Cut(key, ".")
	return key
}
