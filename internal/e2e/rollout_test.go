//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
)

// deployed is web as a Deployment, of a version.
func deployed(replicas, version int) string {
	manifest := web(replicas)
	manifest = strings.Replace(manifest, "apiVersion: v1\nkind: ReplicationController", "apiVersion: apps/v1\nkind: Deployment", 1)
	manifest = strings.Replace(manifest, "  selector: {app: web}\n  template:", "  selector: {matchLabels: {app: web}}\n  template:", 1)
	// A machine that is busy may send to a pod for a moment longer than others think: a hook that sleeps is what makes nothing of that.
	manifest = strings.Replace(manifest, "terminationGracePeriodSeconds: 2", "terminationGracePeriodSeconds: 4", 1)
	manifest = strings.Replace(manifest, "        args: [serve, \"8080\"]\n", "        args: [serve, \"8080\"]\n        lifecycle: {preStop: {sleep: {seconds: 1}}}\n", 1)
	return strings.Replace(manifest, "    metadata: {labels: {app: web}}\n    spec:", fmt.Sprintf("    metadata: {labels: {app: web, version: v%d}}\n    spec:", version), 1)
}

func TestRollingUpdates(t *testing.T) {
	c := startLab(t, 3)
	t.Run("of a Deployment fails no request", c.rollDeployment)
	shoal(t, "delete", "deploy", "web")
	gone(t, c.api, "web", 20*time.Second)
	shoal(t, "delete", "pod", "ask")
	t.Run("of a ReplicationController outlives its Master", c.rollControllerWithoutMaster)
}

// rollDeployment replaces ten pods behind a VIP, forth and back, while a pod on another machine asks it 200 times a second.
func (c *cluster) rollDeployment(t *testing.T) {
	apply(t, deployed(10, 1))
	shoal(t, "rollout", "status", "deploy/web", "--timeout", "60s")
	const length = 20 * time.Second
	startAskingOften(t, "ask", c.names[1], 200, length)
	began := time.Now()
	apply(t, deployed(10, 2))
	out := shoal(t, "rollout", "status", "deploy/web", "--timeout", "60s")
	t.Logf("FIGURES ten pods replaced after %v\n%s", time.Since(began).Round(time.Millisecond), out)
	c.allOf(t, "v2")
	shoal(t, "rollout", "undo", "deploy/web")
	shoal(t, "rollout", "status", "deploy/web", "--timeout", "60s")
	c.allOf(t, "v1")
	if over := time.Since(began) - length; over > 0 {
		t.Errorf("the pod stopped asking %v before the end", over)
	}
	a := answers(t, "ask", length+15*time.Second)
	t.Logf("FIGURES %d of %d requests failed", a.failed, a.sent)
	if a.failed > 0 || a.sent < int(length.Seconds())*150 {
		t.Errorf("%d of %d requests failed:\n%s", a.failed, a.sent, a.log)
	}
	kubectl := tourShell(t, ".", c.names[0], map[string]string{"kubectl": "kubectl-current"})
	for _, args := range []string{"history deploy/web --revision=2", "undo deploy/web --to-revision=2", "status deploy/web --timeout=60s", "restart deploy/web", "status deploy/web --timeout=60s"} {
		if out, err := kubectl("kubectl -n default rollout " + args); err != nil {
			t.Errorf("kubectl rollout %s: %v\n%s", args, err, out)
		}
	}
	c.allOf(t, "v2")
	if out := shoal(t, "rollout", "history", "deploy/web"); !strings.Contains(out, "\n3 ") || !strings.Contains(out, "\n5 ") {
		t.Errorf("history:\n%s", out)
	}
}

// allOf checks that the ten pods that are to stay are of one version.
func (c *cluster) allOf(t *testing.T, version string) {
	t.Helper()
	all, err := pods(t.Context(), c.api, "web")
	must(t, err)
	n := 0
	for _, p := range all {
		if p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodRunning && api.IsPodReady(p) && p.Labels["version"] == version {
			n++
		}
	}
	if n != 10 {
		t.Errorf("%d pods of %s are ready, want 10", n, version)
	}
}

// rollControllerWithoutMaster replaces ten pods behind a VIP, and kills first the command that asked for it and then the
// Master's machine, with the pods on it, half-way. What fails is what was on its way to that machine, and its share of about a second.
func (c *cluster) rollControllerWithoutMaster(t *testing.T) {
	apply(t, web(10))
	running(t, c.api, "web", 10, time.Minute)
	old := master(t)
	others := c.others(old)
	at := clientFor(t, others...) // none of whose connections breaks
	const rate, length = 200, 20 * time.Second
	startAskingOften(t, "ask", others[0], rate, length)
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, binary(), "--peer", others[0], "rolling-update", "web", "--image", "shoal.local/probe:1")
	must(t, cmd.Start())
	isNew := func(p *corev1.Pod) bool {
		return api.VersionOf(p.Annotations) != "" && p.DeletionTimestamp == nil && api.IsPodReady(p)
	}
	new := func(ctx context.Context) (n int, err error) {
		all, err := pods(ctx, at, "web")
		for _, p := range all {
			if isNew(p) {
				n++
			}
		}
		return n, err
	}
	within(t, 30*time.Second, "two pods are new", func(ctx context.Context) error {
		n, err := new(ctx)
		if err == nil && n < 2 {
			err = errNotYet
		}
		return err
	})
	cancel()
	_ = cmd.Wait()
	there, ready := 0, 0
	all, err := pods(t.Context(), at, "web")
	must(t, err)
	for _, p := range all {
		if api.IsPodReady(p) {
			ready++
			if p.Spec.NodeName == old {
				there++
			}
		}
	}
	shoal(t, "lab", "kill", old)
	began := time.Now()
	within(t, 60*time.Second, "all pods are new", func(ctx context.Context) error {
		n, err := new(ctx)
		if err == nil && n < 10 {
			err = errNotYet
		}
		return err
	})
	t.Logf("FIGURES all ten pods are new %v after the Master's machine died", time.Since(began).Round(time.Millisecond))
	a := answers(t, "ask", length+15*time.Second)
	share := rate * there / ready // of a second
	t.Logf("FIGURES %d of %d requests failed; %d of %d pods were on the machine", a.failed, a.sent, there, ready)
	if a.failed > 2*share { // one second is usual, and what a busy machine adds
		t.Errorf("%d of %d requests failed, more than the machine's share of two seconds, %d each:\n%s", a.failed, a.sent, share, a.log)
	}
	shoal(t, "lab", "start", old)
	if out := shoal(t, "--peer", others[0], "rolling-update", "web", "--rollback", "--timeout", "60s"); !strings.Contains(out, "done, all 10 pods are new") {
		t.Errorf("rolled back:\n%s", out)
	}
}
