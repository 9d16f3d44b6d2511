//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// TestUpgradePeerByPeerAndBack starts a cluster of an earlier build, then one peer after the other anew with this build, and then with the
// earlier one again, on what this build has written. All the while a pod asks the VIP, and a client writes; after every step each peer
// takes a write, and in the end none is lost and no container was touched.
func TestUpgradePeerByPeerAndBack(t *testing.T) {
	before := filepath.Join(repo(), "build/before/shoal")
	c := startLabOf(t, before, 3)
	apply(t, web(6))
	running(t, c.api, "web", 6, 60*time.Second)
	var ids []string
	for _, name := range c.names {
		ids = append(ids, containers(t, c, name)...)
	}
	const length = 40 * time.Second
	startAsking(t, "ask", c.names[2], length)
	began := time.Now()
	w := startWriting(t, configMaps(c.api), "all-along")
	var acked []string
	for _, program := range []string{binary(), before} {
		at := time.Now()
		version, err := tryRun(t.Context(), program, "version")
		must(t, err)
		for _, name := range c.names {
			shoal(t, "lab", "stop", name)
			if out, err := tryRun(t.Context(), program, "lab", "start", name); err != nil {
				t.Fatalf("start %s: %v %s", name, err, out)
			}
			shoal(t, "wait", "node", name, "--for", "condition=Ready", "--timeout", "60s")
			c.allVote(t)
			if v := strings.TrimSpace(strings.TrimPrefix(version, "shoal ")); !strings.Contains(shoal(t, "--peer", name, "status"), v) {
				t.Fatalf("%s does not run %s", name, v)
			}
			for _, through := range c.names {
				acked = append(acked, writeAt(t, through, fmt.Sprintf("%s-at-%d-through-%s", name, time.Now().UnixNano(), through)))
			}
		}
		t.Logf("FIGURES all peers run %s after %v", strings.TrimSpace(version), time.Since(at).Round(time.Millisecond))
	}
	acked = append(acked, w.stop()...)
	if over := time.Since(began) - length; over > 0 {
		t.Errorf("the pod stopped asking %v before the end", over)
	}
	a := answers(t, "ask", length+15*time.Second)
	t.Logf("FIGURES while six peers were started anew %d of %d requests failed, and %d writes were acknowledged", a.failed, a.sent, len(acked))
	if a.failed > a.sent/100 {
		t.Errorf("%d of %d requests failed:\n%s", a.failed, a.sent, a.log)
	}
	noneLost(t, c, acked)
	var after []string
	for _, name := range c.names {
		after = append(after, containers(t, c, name)...)
	}
	if !slices.Equal(ids, after) {
		t.Errorf("containers changed:\n%s\n%s", strings.Join(ids, "\n"), strings.Join(after, "\n"))
	}
}

// writeAt makes an object through one peer.
func writeAt(t *testing.T, peer, name string) string {
	t.Helper()
	at := clientFor(t, peer)
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	within(t, 10*time.Second, peer+" takes a write", func(ctx context.Context) error {
		_, err := at.Create(ctx, api.ConfigMaps, cm, client.CreateOptions{})
		return err
	})
	return name
}
