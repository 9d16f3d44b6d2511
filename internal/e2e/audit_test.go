//go:build e2e

package e2e

import (
	"bytes"
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
)

// TestWhatIsAskedIsNoted looks for a write at the peer that took it and at the Master, kills a peer in the middle of many, and changes its log behind its back.
func TestWhatIsAskedIsNoted(t *testing.T) {
	c := startLab(t, 3)
	leader := master(t)
	follower := c.others(leader)[0]
	data := map[string]string{}
	for _, p := range labPeers(t) {
		data[p.Name] = p.DataDir()
	}
	at := clientFor(t, follower)
	secret := func(name string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string][]byte{"k": []byte("topsecret")}}
	}
	made, err := at.Create(t.Context(), api.Secrets, secret("noted"), client.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	find := func(peer string) (found []audit.Record) {
		t.Helper()
		if _, err := audit.Read(filepath.Join(data[peer], "audit"), func(r audit.Record) {
			if r.Resource == "secrets" && r.Verb == "create" && r.Revision == made.(*corev1.Secret).ResourceVersion {
				found = append(found, r)
			}
		}); err != nil {
			t.Fatal(err)
		}
		return found
	}
	for peer, via := range map[string]string{follower: "", leader: follower} {
		got := find(peer)
		if len(got) != 1 || got[0].Via != via || got[0].User == "" || got[0].Name != "noted" || got[0].Code != 201 || got[0].Decision != audit.Allow {
			t.Errorf("%s notes %+v", peer, got)
		}
	}
	apply(t, strings.Replace(pod("bold", "peer-1", "sleep"), "restartPolicy", "hostNetwork: true\n  restartPolicy", 1))
	noted := ""
	if _, err := audit.Read(filepath.Join(data[leader], "audit"), func(r audit.Record) {
		if r.Resource == "pods" && r.Verb != "delete" {
			noted += r.Annotations["pod-security.kubernetes.io/audit-violations"]
		}
	}); err != nil || !strings.Contains(noted, "host namespaces") {
		t.Errorf("a pod below the baseline: %q, %v", noted, err)
	}
	verify := func() string { return shoal(t, "--data-dir", data[follower], "audit", "--verify") }
	verify()

	// Killed while it writes, it goes on with a log that is whole.
	written := make(chan struct{})
	go func() {
		defer close(written)
		for i := range 2000 {
			if _, err := at.Create(t.Context(), api.Secrets, secret("s"+strings.Repeat("x", i%50)), client.CreateOptions{}); err != nil && i > 500 {
				return
			}
		}
	}()
	<-time.After(300 * time.Millisecond) // in the middle of it
	shoal(t, "lab", "kill", follower, "--process")
	<-written
	shoal(t, "lab", "start", follower)
	if out := verify(); !strings.Contains(out, "whole") {
		t.Error(out)
	}

	file := filepath.Join(data[follower], "audit", "audit.log")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte("topsecret")) || bytes.Contains(b, []byte("dG9wc2VjcmV0")) {
		t.Error("what a Secret holds is in the log")
	}
	lines := bytes.SplitAfter(b, []byte("\n"))
	if err := os.WriteFile(file, bytes.Join(append(lines[:3:3], lines[4:]...), nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := tryShoal(t.Context(), "--data-dir", data[follower], "audit", "--verify"); err == nil || !strings.Contains(err.Error(), "audit.log:4: line number 5 does not follow number 3") {
		t.Errorf("a line less: %v, %s", err, out)
	}
}
