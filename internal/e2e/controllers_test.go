//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"shoal/internal/api"
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
  ttlSecondsAfterFinished: 20
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

// fillers take most of every machine, one each.
const fillers = `
apiVersion: v1
kind: ReplicationController
metadata: {name: filler}
spec:
  replicas: 3
  selector: {app: filler}
  template:
    metadata: {labels: {app: filler}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - {labelSelector: {matchLabels: {app: filler}}, topologyKey: kubernetes.io/hostname}
      containers:
      - {name: probe, image: "shoal.local/probe:1", args: [sleep], resources: {requests: {cpu: %dm}}}
`

// urgent is a pod that has no room unless one of them goes.
const urgent = `
apiVersion: v1
kind: Pod
metadata: {name: urgent, labels: {app: urgent}}
spec:
  priorityClassName: system-cluster-critical
  containers:
  - {name: probe, image: "shoal.local/probe:1", args: [sleep], resources: {requests: {cpu: %dm}}}
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
	t.Run("an autoscaler follows what pods use", func(t *testing.T) {
		apply(t, `
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 2
  maxReplicas: 8
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}}]
  behavior: {scaleDown: {stabilizationWindowSeconds: 0}}
`)
		replicas := func(what string, good func(n int) bool) {
			within(t, 60*time.Second, what, func(ctx context.Context) error {
				out, err := tryShoal(ctx, "get", "deploy", "web", "-o", "jsonpath={.spec.replicas}")
				if n, _ := strconv.Atoi(out); err == nil && !good(n) {
					err = fmt.Errorf("%s replicas", out)
				}
				return err
			})
		}
		replicas("few pods are enough for nobody", func(n int) bool { return n == 2 })
		startAskingOften(t, "busy", c.names[0], 200, 40*time.Second)
		replicas("more pods are made", func(n int) bool { return n > 3 })
		if out := shoal(t, "describe", "hpa", "web"); !strings.Contains(out, "SuccessfulRescale") {
			t.Errorf("no event tells of it:\n%s", out)
		}
		shoal(t, "delete", "hpa", "web")
		shoal(t, "delete", "deploy", "web")
	})
	t.Run("a more urgent pod takes the room of a lesser one", func(t *testing.T) {
		cpu := resource.MustParse(shoal(t, "get", "node", c.names[0], "-o", "jsonpath={.status.allocatable.cpu}"))
		apply(t, fmt.Sprintf(fillers, cpu.MilliValue()*6/10))
		running(t, c.api, "filler", 3, 20*time.Second)
		urgent := fmt.Sprintf(urgent, cpu.MilliValue()*6/10)
		file := filepath.Join(t.TempDir(), "urgent.yaml")
		must(t, os.WriteFile(file, []byte(urgent), 0o600))
		if out, err := tryShoal(t.Context(), "simulate", "-f", file); err == nil || !strings.Contains(out, "in the place of default/filler-") || !strings.Contains(out, "1 would not") {
			t.Errorf("on paper: %v\n%s", err, out)
		}
		if out, err := tryShoal(t.Context(), "simulate", "--lose", c.names[2]); err == nil || !strings.Contains(out, "Without "+c.names[2]+" (1 of 3 nodes)") || !strings.Contains(out, "default/filler-") {
			t.Errorf("without %s, on paper: %v\n%s", c.names[2], err, out)
		}
		apply(t, urgent)
		running(t, c.api, "urgent", 1, 20*time.Second)
		pending := ""
		within(t, 20*time.Second, "a filler waits", func(ctx context.Context) error {
			all, err := pods(ctx, c.api, "filler")
			if err != nil {
				return err
			}
			for _, p := range all {
				if c := api.PodCondition(p, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionFalse {
					pending = p.Name
					return nil
				}
			}
			return errNotYet
		})
		out := shoal(t, "why", pending)
		t.Logf("FIGURES\n%s", out)
		if !strings.Contains(out, "is pending: 0/3 nodes are available") || !strings.Contains(out, "Insufficient cpu") {
			t.Errorf("why it waits:\n%s", out)
		}
		if out := shoal(t, "why", "urgent"); !strings.Contains(out, "(here)") {
			t.Errorf("why it is where it is:\n%s", out)
		}
		shoal(t, "delete", "rc", "filler")
		shoal(t, "delete", "pod", "urgent", "--now")
	})
	t.Run("who does not tolerate a taint leaves, and a machine that is off is given up", func(t *testing.T) {
		shoal(t, "taint", c.names[1], "maintenance=:NoExecute")
		running(t, c.api, "agent", 2, 20*time.Second, c.names[1])
		running(t, c.api, "db", 3, 20*time.Second, c.names[1])
		shoal(t, "taint", c.names[1], "maintenance-")
		running(t, c.api, "agent", 3, 20*time.Second)
		victim := ""
		all, err := pods(t.Context(), c.api, "db")
		must(t, err)
		for _, p := range all {
			if p.Spec.NodeName != master(t) {
				victim = p.Spec.NodeName
			}
		}
		living := clientFor(t, c.others(victim)...)
		shoal(t, "lab", "kill", victim)
		within(t, 20*time.Second, "the machine is missed", func(ctx context.Context) error {
			all, err := pods(ctx, living, "db")
			for _, p := range all {
				if p.Spec.NodeName == victim && api.IsPodReady(p) {
					return errNotYet
				}
			}
			return err
		})
		shoal(t, "taint", victim, "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute")
		running(t, living, "db", 3, 20*time.Second, victim)
		shoal(t, "lab", "start", victim)
		shoal(t, "taint", victim, "node.kubernetes.io/out-of-service-")
		running(t, living, "agent", 3, 30*time.Second)
		running(t, living, "db", 3, 20*time.Second)
	})
	t.Run("a Job goes with its pods when its time is over", func(t *testing.T) {
		within(t, 30*time.Second, "it is gone", func(ctx context.Context) error {
			for _, kind := range []string{"jobs", "pods"} {
				out, err := tryShoal(ctx, "get", kind, "-o", "name")
				if err == nil && strings.Contains(out, "parts") {
					err = errNotYet
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
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
