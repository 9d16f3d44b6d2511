//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"shoal/internal/lab"
)

// kubectls are the versions to try: one of long ago and whatever else is on the machine.
func kubectls(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, path := range []string{repo() + "/build/tools/kubectl-1.20", repo() + "/build/tools/kubectl"} {
		if _, err := exec.LookPath(path); err == nil {
			all = append(all, path)
		}
	}
	if len(all) == 0 {
		t.Fatal("no kubectl in build/tools: run make tools")
	}
	return all
}

// TestKubectl takes kubectl through what people do, at a follower.
func TestKubectl(t *testing.T) {
	c := startLab(t, 3)
	follower := c.others(master(t))[0]
	for _, bin := range kubectls(t) {
		t.Run(bin[strings.LastIndex(bin, "/")+1:], func(t *testing.T) { c.tour(t, bin, follower) })
	}
}

func (c *cluster) tour(t *testing.T, bin, peer string) {
	kubectl := func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), bin, append([]string{"--kubeconfig", lab.Kubeconfig(), "--context", peer}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	want := func(out, part string) {
		t.Helper()
		if !strings.Contains(out, part) {
			t.Errorf("no %q in:\n%s", part, out)
		}
	}
	watching, stop := context.WithCancel(t.Context())
	defer stop()
	watch := exec.CommandContext(watching, bin, "--kubeconfig", lab.Kubeconfig(), "--context", peer, "get", "pods", "-w", "-l", "app=web")
	pipe, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	want(kubectl(web(2), "apply", "-f", "-"), "created")
	running(t, c.api, "web", 2, 30*time.Second)
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "Running") {
			break
		}
	}
	stop()
	_ = watch.Wait()

	want(kubectl("", "explain", "pods.spec.containers"), "A single application container")
	want(kubectl("", "get", "nodes"), "Ready")
	want(kubectl("", "get", "pods", "-o", "wide"), "peer-")
	want(kubectl("", "get", "rc,svc"), "replicationcontroller/web")
	want(kubectl(web(2), "apply", "-f", "-"), "unchanged")
	want(kubectl("", "scale", "rc", "web", "--replicas=3"), "scaled")
	running(t, c.api, "web", 3, 30*time.Second)
	want(kubectl("", "describe", "rc", "web"), "3 current / 3 desired")
	name := strings.Fields(kubectl("", "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"))[0]
	want(kubectl("", "describe", "pod", name), "shoal.local/probe:1")
	want(kubectl("", "describe", "node", "peer-1"), "Capacity")
	want(kubectl("", "logs", name), "serving on port 8080")
	want(kubectl("", "exec", name, "--", "/app", "get", "http://web"), "web-")
	want(kubectl("", "label", "pod", name, "seen=yes"), "labeled")
	want(kubectl("", "patch", "pod", name, "-p", `{"metadata":{"annotations":{"note":"here"}}}`), "patched")
	want(kubectl("", "get", "pod", name, "-o", "yaml"), "note: here")
	want(kubectl("", "delete", "pod", name), "deleted")
	running(t, c.api, "web", 3, 30*time.Second)
	want(kubectl("", "delete", "rc,svc", "web"), "deleted")
	gone(t, c.api, "web", 30*time.Second)
}
