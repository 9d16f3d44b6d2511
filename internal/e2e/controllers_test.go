//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

const controllersManifest = `
apiVersion: batch/v1
kind: CronJob
metadata: {name: tick}
spec:
  schedule: "* * * * *"
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: probe, image: "shoal.local/probe:1", args: [exit, "0"]}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: probe, image: "shoal.local/probe:1", args: [sleep]}]
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec:
  clusterIP: None
  selector: {app: db}
  ports: [{name: http, port: 8080}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 3
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: probe
        image: shoal.local/probe:1
        args: [serve, "8080"]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {tcpSocket: {port: http}, periodSeconds: 1}
---
apiVersion: batch/v1
kind: Job
metadata: {name: parts}
spec:
  completions: 5
  parallelism: 2
  completionMode: Indexed
  template:
    spec:
      restartPolicy: Never
      containers: [{name: probe, image: "shoal.local/probe:1", args: [exit, "0"]}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: doomed}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: probe, image: "shoal.local/probe:1", args: [exit, "3"]}]
`

// TestControllersRunRealContainers: what each kind of workload is for, and a Master that dies in the middle.
func TestControllersRunRealContainers(t *testing.T) {
	c := startLab(t, 3)
	apply(t, controllersManifest)
	t.Run("a DaemonSet has a pod on every machine", func(t *testing.T) {
		shoal(t, "rollout", "status", "ds/agent", "--timeout", "60s")
		running(t, c.api, "agent", 3, 10*time.Second)
		all, err := pods(t.Context(), c.api, "agent")
		must(t, err)
		on := map[string]bool{}
		for _, p := range all {
			on[p.Spec.NodeName] = true
		}
		if len(on) != 3 {
			t.Errorf("pods on %v", on)
		}
	})
	t.Run("Jobs end", func(t *testing.T) {
		shoal(t, "wait", "job", "parts", "--for", "condition=Complete", "--timeout", "60s")
		shoal(t, "wait", "job", "doomed", "--for", "condition=Failed", "--timeout", "60s")
		if s := shoal(t, "get", "job", "parts", "-o", "jsonpath={.status.succeeded} {.status.completedIndexes}"); s != "5 0-4" {
			t.Errorf("parts: %s", s)
		}
		if s := shoal(t, "get", "job", "doomed", "-o", "jsonpath={.status.failed} {.status.conditions[?(@.type==\"Failed\")].reason}"); s != "1 BackoffLimitExceeded" {
			t.Errorf("doomed: %s", s)
		}
	})
	t.Run("the pods of a StatefulSet have names", func(t *testing.T) {
		shoal(t, "rollout", "status", "sts/db", "--timeout", "60s")
		apply(t, pod("asker", c.names[0], "get", "http://db-2.db:8080"))
		within(t, 20*time.Second, "db-2 answers by its name", func(ctx context.Context) error {
			out, err := tryShoal(ctx, "logs", "asker")
			if err == nil && !strings.HasPrefix(out, "db-2 ") {
				err = fmt.Errorf("it says %q", out)
			}
			return err
		})
	})
	t.Run("a rollout goes on when the Master dies", func(t *testing.T) {
		shoal(t, "patch", "sts", "db", "-p", `{"spec":{"template":{"metadata":{"labels":{"version":"v2"}}}}}`)
		old := master(t)
		shoal(t, "lab", "kill", "--process", old)
		shoal(t, "lab", "start", old)
		shoal(t, "rollout", "status", "sts/db", "--timeout", "60s")
		all, err := pods(t.Context(), c.api, "db")
		must(t, err)
		for _, p := range all {
			if p.Labels["version"] != "v2" {
				t.Errorf("%s is of version %q", p.Name, p.Labels["version"])
			}
		}
	})
	t.Run("a machine is drained within a budget", func(t *testing.T) {
		apply(t, deployed(6, 1)+`
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: web}}}
`)
		shoal(t, "rollout", "status", "deploy/web", "--timeout", "60s")
		shoal(t, "delete", "pod", "asker", "--now")
		_, err := tryShoal(t.Context(), "drain", c.names[2])
		if err == nil || !strings.Contains(err.Error(), "--ignore-daemonsets") {
			t.Errorf("drained with a DaemonSet's pod there: %v", err)
		}
		startAsking(t, "ask", c.names[0], 15*time.Second)
		out := shoal(t, "drain", c.names[2], "--ignore-daemonsets", "--timeout", "60s")
		t.Logf("FIGURES drained:\n%s", out)
		running(t, c.api, "web", 6, 30*time.Second, c.names[2])
		if a := answers(t, "ask", 30*time.Second); a.failed > a.sent/50 {
			t.Errorf("%d of %d requests failed:\n%s", a.failed, a.sent, a.log)
		}
		shoal(t, "uncordon", c.names[2])
	})
	t.Run("a CronJob comes every minute", func(t *testing.T) {
		within(t, 70*time.Second, "a job of tick has succeeded", func(ctx context.Context) error {
			out, err := tryShoal(ctx, "get", "cronjob", "tick", "-o", "jsonpath={.status.lastSuccessfulTime}")
			if err == nil && out == "" {
				err = errNotYet
			}
			return err
		})
	})
}
