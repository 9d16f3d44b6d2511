//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/lab"
)

// redisManifest is three Redis servers that write every change to their volumes before they answer.
const redisManifest = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: store}
spec:
  replicas: 3
  serviceName: store
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: store}}
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete}
  template:
    metadata: {labels: {app: store}}
    spec:
      terminationGracePeriodSeconds: 2
      securityContext: {fsGroup: 10001}
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: store}}}
      containers:
      - name: redis
        image: shoal.local/redis:7
        args: [--port, "6379", --protected-mode, "no", --save, "", --appendonly, "yes", --appendfsync, always, --dir, /var/lib/redis]
        ports: [{name: redis, containerPort: 6379}]
        readinessProbe: {tcpSocket: {port: redis}, periodSeconds: 1}
        volumeMounts:
        - {name: data, mountPath: /var/lib/redis}
        - {name: scratch, mountPath: /scratch}
      volumes:
      - name: scratch
        ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOncePod], resources: {requests: {storage: 1Mi}}}}}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 64Mi}}}
`

// TestDataOutlivesPodsAndMachines runs Redis on volumes that are made where its pods run: what it acknowledged is there after its pod was replaced,
// after its machine had lost its power, and after the Master had; and nothing of it is left when the claims are gone.
func TestDataOutlivesPodsAndMachines(t *testing.T) {
	c := startLab(t, 3)
	shoal(t, "image", "import", filepath.Join(repo(), "build/images/redis.tar"))
	apply(t, redisManifest)
	running(t, c.api, "store", 3, time.Minute)
	where := map[string]string{}
	redis := func(pod, line string) (answer string) {
		t.Helper()
		within(t, time.Minute, line+" at "+pod, func(ctx context.Context) error {
			p, err := c.api.Get(ctx, api.Pods, client.Key{Namespace: "default", Name: pod}, client.GetOptions{})
			if err != nil {
				return err
			}
			is := p.(*corev1.Pod)
			if !api.IsPodReady(is) || is.DeletionTimestamp != nil {
				return errNotYet
			}
			if where[pod] == "" {
				where[pod] = is.Spec.NodeName
			}
			if is.Spec.NodeName != where[pod] {
				t.Fatalf("%s was on %s and is on %s, away from its volume", pod, where[pod], is.Spec.NodeName)
			}
			answer, err = tryShoal(ctx, "lab", "exec", is.Spec.NodeName, "--", "timeout", "3", "bash", "-c",
				fmt.Sprintf(`exec 3<>/dev/tcp/%s/6379; printf '%s\r\nQUIT\r\n' >&3; cat <&3`, is.Status.PodIP, line))
			return err
		})
		return answer
	}
	holds := func(pod, value string) {
		t.Helper()
		if got := redis(pod, "GET key"); !strings.Contains(got, value) {
			t.Errorf("%s: %q, want %q", pod, got, value)
		}
	}
	names := []string{"store-0", "store-1", "store-2"}
	for _, pod := range names {
		if got := redis(pod, "SET key of-"+pod); !strings.HasPrefix(got, "+OK") {
			t.Fatalf("%s: %s", pod, got)
		}
	}
	if n := len(directories(t)); n != 6 {
		t.Errorf("%d directories of volumes, want one for each of 6 claims: %v", n, directories(t))
	}
	t.Log("a pod is replaced")
	shoal(t, "delete", "pod", "store-1")
	holds("store-1", "of-store-1")
	t.Log("the Master's machine loses its power")
	victim := master(t)
	shoal(t, "lab", "kill", victim)
	shoal(t, "lab", "start", victim)
	for _, pod := range names {
		holds(pod, "of-"+pod)
	}
	t.Log("a machine has no power for long, and nobody takes its pod's place")
	victim = c.others(master(t))[0]
	shoal(t, "lab", "kill", victim)
	within(t, time.Minute, "its pod is not ready", func(ctx context.Context) error {
		all, err := pods(ctx, clientFor(t, c.others(victim)...), "store")
		for _, p := range all {
			if p.Spec.NodeName == victim && api.IsPodReady(p) {
				return errNotYet
			}
		}
		return err
	})
	shoal(t, "lab", "start", victim)
	for _, pod := range names {
		holds(pod, "of-"+pod)
	}
	t.Log("all is deleted")
	shoal(t, "delete", "statefulset", "store")
	within(t, time.Minute, "no volume is left", func(ctx context.Context) error {
		l, err := c.api.List(ctx, api.PersistentVolumes, client.ListOptions{})
		if err == nil && len(l.Items)+len(directories(t)) > 0 {
			err = fmt.Errorf("%d volumes, directories %v", len(l.Items), directories(t))
		}
		return err
	})
}

// directories are those of volumes on all machines of the lab.
func directories(t *testing.T) []string {
	t.Helper()
	return globs(t, filepath.Join(lab.Dir, "*", "data", "volumes", "*"))
}
