//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"shoal/internal/api"
	"shoal/internal/client"
)

// web is a ReplicationController of probes behind a Service.
func web(replicas int) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: http}
  - {name: echo, port: 80, protocol: UDP, targetPort: 8080}
---
apiVersion: v1
kind: ReplicationController
metadata: {name: web}
spec:
  replicas: %d
  selector: {app: web}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: probe
        image: shoal.local/probe:1
        args: [serve, "8080"]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {tcpSocket: {port: http}, periodSeconds: 1}
        resources: {requests: {cpu: 5m, memory: 8Mi}}
`, replicas)
}

// pod is one probe on a given machine.
func pod(name, node string, args ...string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = strconv.Quote(a)
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: %s}}
spec:
  nodeName: %s
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: probe
    image: shoal.local/probe:1
    args: [%s]
`, name, name, node, strings.Join(quoted, ", "))
}

// pods lists the pods with a label app, read through c.
func pods(ctx context.Context, c client.Interface, app string) ([]*corev1.Pod, error) {
	list, err := c.List(ctx, api.Pods, client.ListOptions{Namespace: "default", Labels: labels.SelectorFromSet(labels.Set{"app": app})})
	if err != nil {
		return nil, err
	}
	var all []*corev1.Pod
	for _, o := range list.Items {
		all = append(all, o.(*corev1.Pod))
	}
	return all, nil
}

// running waits until exactly n pods of app are Running and Ready, none on a machine in not, and no others are left.
func running(t testing.TB, c client.Interface, app string, n int, limit time.Duration, not ...string) time.Duration {
	t.Helper()
	return within(t, limit, fmt.Sprintf("%d pods of %s running", n, app), func(ctx context.Context) error {
		all, err := pods(ctx, c, app)
		if err != nil {
			return err
		}
		ready, others := 0, []string{}
		for _, p := range all {
			if p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodRunning && api.IsPodReady(p) && !slices.Contains(not, p.Spec.NodeName) {
				ready++
			} else if len(others) < 5 {
				others = append(others, fmt.Sprintf("%s on %s is %s, %v", p.Name, p.Spec.NodeName, p.Status.Phase, p.Status.ContainerStatuses))
			}
		}
		if ready != n {
			return fmt.Errorf("%d of %d ready (%d pods), not %s", ready, n, len(all), strings.Join(others, "; "))
		}
		return nil
	})
}

// gone waits until no pod of app is left.
func gone(t testing.TB, c client.Interface, app string, limit time.Duration) time.Duration {
	t.Helper()
	return within(t, limit, "pods of "+app+" gone", func(ctx context.Context) error {
		all, err := pods(ctx, c, app)
		if err == nil && len(all) > 0 {
			err = fmt.Errorf("%d left", len(all))
		}
		return err
	})
}

// asked is what an asking pod found.
type asked struct {
	sent, failed int
	span         time.Duration
	log          string
}

var summary = regexp.MustCompile(`(?m)^sent (\d+) failed (\d+) span (\d+)$`)

const asksPerSecond = 50

// startAsking starts a pod on node that asks the web Service so often for a time.
func startAsking(t testing.TB, name, node string, length time.Duration) {
	t.Helper()
	startAskingOften(t, name, node, asksPerSecond, length)
}

func startAskingOften(t testing.TB, name, node string, rate int, length time.Duration) {
	t.Helper()
	vip := shoal(t, "get", "svc", "web", "-o", "jsonpath={.spec.clusterIP}")
	apply(t, pod(name, node, "ask", "http://"+vip, fmt.Sprint(rate), fmt.Sprint(int(length.Seconds()))))
	within(t, 20*time.Second, name+" asks", func(ctx context.Context) error {
		out, err := tryShoal(ctx, "logs", name)
		if err == nil && !strings.Contains(out, "asking") {
			err = errNotYet
		}
		return err
	})
}

// answers waits for the pod to end and reads its summary.
func answers(t testing.TB, name string, limit time.Duration) asked {
	t.Helper()
	var a asked
	within(t, limit, name+" ends", func(ctx context.Context) error {
		out, err := tryShoal(ctx, "logs", name)
		if err != nil {
			return err
		}
		m := summary.FindStringSubmatch(out)
		if m == nil {
			return errNotYet
		}
		a.sent, _ = strconv.Atoi(m[1])
		a.failed, _ = strconv.Atoi(m[2])
		ms, _ := strconv.Atoi(m[3])
		a.span, a.log = time.Duration(ms)*time.Millisecond, out
		return nil
	})
	return a
}
