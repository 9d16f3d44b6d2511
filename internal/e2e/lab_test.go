//go:build e2e

// Package e2e tests the real binary: real peers in the lab, real containerd, iptables and packets.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/lab"
)

// repo is the top of the tree, where bin/ and build/ are.
func repo() string {
	dir, err := filepath.Abs("../..")
	if err != nil {
		panic(err)
	}
	return dir
}

func binary() string { return filepath.Join(repo(), "bin", "shoal") }

// shoal runs the command line and fails the test when it fails.
func shoal(t testing.TB, args ...string) string {
	t.Helper()
	out, err := tryShoal(t.Context(), args...)
	if err != nil {
		t.Fatalf("shoal %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// tryShoal runs the command line and returns its standard output; the error holds standard error.
func tryShoal(ctx context.Context, args ...string) (string, error) {
	return tryRun(ctx, binary(), args...)
}

func tryRun(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = repo()
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%w\n%s%s", err, out.String(), stderr.String())
	}
	return out.String(), nil
}

// cluster is a lab with the tests' images loaded.
type cluster struct {
	api   *client.HTTP
	names []string
}

// startLab brings up a lab of n peers with the probe image, and ends it with the test.
func startLab(t *testing.T, n int) *cluster {
	t.Helper()
	return startLabOf(t, binary(), n)
}

// startLabOf does the same with the peers of another build.
func startLabOf(t *testing.T, program string, n int) *cluster {
	t.Helper()
	if _, err := tryShoal(t.Context(), "lab", "down"); err != nil && !strings.Contains(err.Error(), "no lab") {
		t.Fatal(err)
	}
	if _, err := tryRun(t.Context(), program, "lab", "up", "--peers", fmt.Sprint(n)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			keepLogs(t)
		}
		if out, err := tryShoal(context.Background(), "lab", "down"); err != nil {
			t.Errorf("lab down: %v %s", err, out)
		}
	})
	shoal(t, "image", "import", filepath.Join(repo(), "build/images/probe.tar"))
	c := &cluster{}
	for i := range n {
		c.names = append(c.names, fmt.Sprintf("peer-%d", i+1))
	}
	c.api = clientFor(t, c.names...)
	for _, name := range c.names {
		shoal(t, "wait", "node", name, "--for", "condition=Ready", "--timeout", "60s")
	}
	c.allVote(t)
	return c
}

// allVote waits until as many peers vote as can, which they are made to one after the other: with fewer, a machine that dies may take the quorum along.
func (c *cluster) allVote(t *testing.T) {
	t.Helper()
	want := len(c.names)
	if want > 2 && want%2 == 0 {
		want--
	}
	within(t, 20*time.Second, "all vote", func(context.Context) error {
		votes := 0
		for _, p := range status(t).Peers {
			if p.Role == api.RoleMaster || p.Role == api.RoleVoter {
				votes++
			}
		}
		if votes < min(want, 5) {
			return fmt.Errorf("%d of %d peers vote", votes, want)
		}
		return nil
	})
}

// configure adds settings to every peer's file and starts one after the other anew.
func (c *cluster) configure(t *testing.T, settings string) {
	t.Helper()
	for _, name := range c.names {
		f, err := os.OpenFile(filepath.Join(lab.Dir, name, "config.toml"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("\n" + settings); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		shoal(t, "lab", "stop", name)
		shoal(t, "lab", "start", name)
	}
	for _, name := range c.names {
		shoal(t, "wait", "node", name, "--for", "condition=Ready", "--timeout", "60s")
	}
	c.allVote(t)
}

// keepLogs copies the end of every peer's log into the test's output.
func keepLogs(t *testing.T) {
	peers, err := lab.Peers()
	if err != nil {
		return
	}
	for _, p := range peers {
		b, err := os.ReadFile(filepath.Join(lab.Dir, p.Name, "peer.log"))
		if err != nil {
			continue
		}
		lines := strings.Split(string(b), "\n")
		t.Logf("--- %s\n%s", p.Name, strings.Join(lines[max(0, len(lines)-60):], "\n"))
	}
}

// clientFor returns an admin's client of the named peers, tried in turn.
func clientFor(t testing.TB, names ...string) *client.HTTP {
	t.Helper()
	raw, err := clientcmd.LoadFromFile(lab.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := clientcmd.NewDefaultClientConfig(*raw, nil).ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	tlsConfig, err := rest.TLSConfigFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	tlsConfig.NextProtos = []string{"h2"}
	var urls []string
	for _, n := range names {
		urls = append(urls, raw.Clusters[n].Server)
	}
	h, err := client.NewHTTP(client.HTTPConfig{BaseURLs: urls, Transport: &http.Transport{TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true}})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// status is what "lab status" says.
func status(t testing.TB) lab.Status {
	t.Helper()
	var s lab.Status
	if err := json.Unmarshal([]byte(shoal(t, "lab", "status", "-o", "json")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// master returns the Master's name.
func master(t testing.TB) string {
	t.Helper()
	for _, p := range status(t).Peers {
		if p.Role == "master" {
			return p.Name
		}
	}
	t.Fatalf("no Master: %+v", status(t))
	return ""
}

// others returns every peer but name.
func (c *cluster) others(name string) []string {
	var all []string
	for _, n := range c.names {
		if n != name {
			all = append(all, n)
		}
	}
	return all
}

// apply applies a manifest.
func apply(t testing.TB, manifest string, more ...string) {
	t.Helper()
	if err := tryApply(t.Context(), manifest, more...); err != nil {
		t.Fatal(err)
	}
}

func tryApply(ctx context.Context, manifest string, more ...string) error {
	cmd := exec.CommandContext(ctx, binary(), append([]string{"apply", "-f", "-"}, more...)...)
	cmd.Stdin = strings.NewReader(manifest)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apply: %w\n%s", err, out)
	}
	return nil
}

// within runs f until it succeeds. f is expected to block on a watch or a command of its own; what is left of the wait
// is a bound, not a pace.
func within(t testing.TB, limit time.Duration, what string, f func(context.Context) error) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	started := time.Now()
	var before error
	for {
		err := f(ctx)
		if err == nil {
			return time.Since(started)
		}
		if ctx.Err() != nil {
			t.Fatalf("%s: not within %v: %v; before that: %v", what, limit, err, before)
		}
		before = err
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

var errNotYet = errors.New("not yet")
