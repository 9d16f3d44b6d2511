//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestUsersByToken gives a tenant's administrator a token, uses it at every peer, and takes it back; then it goes through the checklist.
func TestUsersByToken(t *testing.T) {
	startLab(t, 3)
	shoal(t, "tenant", "create", "team", "--user", "jane", "--pods", "5")
	config := filepath.Join(t.TempDir(), "jane.kubeconfig")
	if err := os.WriteFile(config, []byte(shoal(t, "-n", "team", "user", "create", "jane", "--ttl", "1h")), 0o600); err != nil {
		t.Fatal(err)
	}
	as := func(ctx context.Context, peer string, args ...string) (string, error) {
		return tryRun(ctx, filepath.Join(repo(), "build/tools/kubectl-current"), append([]string{"--kubeconfig", config, "--context", peer}, args...)...)
	}
	var peers []string
	for _, p := range labPeers(t) {
		peers = append(peers, p.Name)
	}
	for i, peer := range peers {
		if _, err := as(t.Context(), peer, "create", "configmap", fmt.Sprint("c", i)); err != nil {
			t.Errorf("at %s, in her namespace: %v", peer, err)
		}
		if _, err := as(t.Context(), peer, "-n", "default", "get", "pods"); err == nil || !strings.Contains(err.Error(), `User "jane" cannot list resource "pods"`) {
			t.Errorf("at %s, elsewhere: %v", peer, err)
		}
	}
	if out := shoal(t, "user", "list"); !strings.Contains(out, "jane") {
		t.Error(out)
	}
	shoal(t, "user", "revoke", "jane")
	for _, peer := range peers {
		within(t, 5*time.Second, "she is nobody at "+peer, func(ctx context.Context) error {
			if out, err := as(ctx, peer, "get", "configmaps"); err == nil || !strings.Contains(err.Error(), "Unauthorized") && !strings.Contains(err.Error(), "must be logged in") {
				return fmt.Errorf("%v: %s", err, out)
			}
			return nil
		})
	}

	apply(t, strings.Replace(pod("bold", "peer-1", "sleep"), "restartPolicy", "hostNetwork: true\n  restartPolicy", 1))
	var list []struct {
		Item, What, Verdict, How string
		Found                    []string
	}
	dir := labPeers(t)[0].DataDir()
	if err := json.Unmarshal([]byte(shoal(t, "lab", "exec", "peer-1", "--", binary(), "--data-dir", dir, "doctor", "--security", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		switch f.Item {
		case "1.1.19", "1.2.1", "1.2.16", "1.2.18", "1.2.29", "5.1.1", "5.1.3":
			if f.Verdict != "ok" {
				t.Errorf("%+v", f)
			}
		case "5.2.2":
			if strings.Join(f.Found, "") != "pod default/bold: hostNetwork" {
				t.Errorf("%+v", f)
			}
		}
	}
	if len(list) < 15 {
		t.Errorf("%d items", len(list))
	}
}
