//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"shoal/internal/api"
)

// three is what wants more than its tenant may have.
const three = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: three}
spec:
  replicas: 3
  selector: {matchLabels: {app: three}}
  template:
    metadata: {labels: {app: three}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: probe, image: "shoal.local/probe:1", args: [serve, "8080"]}]
`

// TestRoom is about who may have how much of the cluster, and who moves when there is more of it.
func TestRoom(t *testing.T) {
	c := startLab(t, 3)
	c.configure(t, "[master]\nrebalance = true\n")
	t.Run("a tenant keeps to its quota", func(t *testing.T) {
		shoal(t, "tenant", "create", "team", "--pods", "2", "--memory", "1Gi", "--security", "baseline")
		apply(t, three, "-n", "team")
		within(t, 20*time.Second, "two pods are counted", func(ctx context.Context) error {
			out, err := tryShoal(ctx, "get", "resourcequota", "tenant", "-n", "team", "-o", "jsonpath={.status.used.pods} {.status.used.limits\\.memory}")
			if err == nil && out != "2 512Mi" {
				err = fmt.Errorf("used: %s", out)
			}
			return err
		})
		within(t, 20*time.Second, "somebody says why there is no third", func(ctx context.Context) error {
			out, err := tryShoal(ctx, "events", "-n", "team")
			if err == nil && !strings.Contains(out, "exceeded quota: tenant, requested: pods=1, used: pods=2, limited: pods=2") {
				err = fmt.Errorf("the events:\n%s", out)
			}
			return err
		})
		if out := shoal(t, "tenant", "usage", "team"); !strings.Contains(out, "team     pods              2       2     100%") {
			t.Errorf("usage:\n%s", out)
		}
		shoal(t, "tenant", "create", "team", "--pods", "2", "--memory", "1Gi") // and to what is restricted
		shoal(t, "scale", "deployment", "three", "-n", "team", "--replicas", "0")
		shoal(t, "scale", "deployment", "three", "-n", "team", "--replicas", "1")
		within(t, 20*time.Second, "a pod is refused", func(ctx context.Context) error {
			out, err := tryShoal(ctx, "events", "-n", "team")
			if err == nil && !strings.Contains(out, `violates PodSecurity "restricted:latest"`) {
				err = fmt.Errorf("the events:\n%s", out)
			}
			return err
		})
		if out := shoal(t, "who-can", "delete", "pods", "-n", "team"); !strings.Contains(out, "Group   -           system:masters") {
			t.Errorf("who-can:\n%s", out)
		}
		shoal(t, "delete", "namespace", "team")
	})
	t.Run("pods move to a machine that has come back", func(t *testing.T) {
		apply(t, web(6))
		running(t, c.api, "web", 6, 30*time.Second)
		victim := c.others(master(t))[0]
		shoal(t, "lab", "kill", victim)
		running(t, c.api, "web", 6, 30*time.Second, victim)
		shoal(t, "lab", "start", victim)
		took := within(t, 3*time.Minute, "two of six are there", func(ctx context.Context) error {
			all, err := pods(ctx, c.api, "web")
			if err != nil {
				return err
			}
			on, ready := map[string]int{}, 0
			for _, p := range all {
				if p.DeletionTimestamp == nil && api.IsPodReady(p) {
					on[p.Spec.NodeName]++
					ready++
				}
			}
			if ready < 6 {
				t.Errorf("%d of six pods serve", ready)
			}
			if on[victim] != 2 || len(all) != 6 {
				return fmt.Errorf("the pods are on %v", on)
			}
			return nil
		})
		t.Logf("FIGURES spread again %v after the machine was started", took.Round(time.Millisecond))
		if out := shoal(t, "events"); !strings.Contains(out, "to be replaced by a pod on "+victim) {
			t.Errorf("no event explains the moves:\n%s", out)
		}
	})
	t.Run("top says who uses what", func(t *testing.T) {
		out := shoal(t, "top")
		if slices.ContainsFunc(c.names, func(name string) bool { return !strings.Contains(out, "\n"+name+" ") }) {
			t.Errorf("top:\n%s", out)
		}
		for path, want := range map[string]string{
			"/metrics/cadvisor": `container_network_receive_bytes_total{interface="eth0",namespace="default",pod="web-`,
			"/metrics/resource": `container_memory_working_set_bytes{container="probe",namespace="default",pod="web-`,
			"/stats/summary":    `"rxBytes":`,
		} {
			resp, err := clientFor(t, "peer-1").Do(t.Context(), "GET", "/api/v1/nodes/peer-2/proxy"+path, nil, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != 200 || !strings.Contains(string(b), want) {
				t.Errorf("%s: %s %v\n%s", path, resp.Status, err, b)
			}
		}
		if out := shoal(t, "top", "pods", "--recommend", "--for", "2s"); !strings.Contains(out, "replicationcontroller/web") || strings.Count(out, "\n") != 2 {
			t.Errorf("top pods --recommend:\n%s", out)
		}
	})
}
