//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// crun returns a program that is crun, and the file where it notes what it is told. It is shown the cgroups of version 1 alone: where it sees both versions, as on
// the tests' machines, it refuses to work.
func crun(t *testing.T) (program, notes string) {
	t.Helper()
	tools, dir := filepath.Join(repo(), "build/tools"), t.TempDir()
	program, notes = filepath.Join(dir, "crun"), filepath.Join(dir, "notes")
	script := fmt.Sprintf(`#!/bin/sh
echo "$*" >>%s
exec unshare -m sh -c 'umount /sys/fs/cgroup/unified 2>/dev/null; LD_LIBRARY_PATH=%[2]s exec %[2]s/crun "$@"' crun "$@"
`, notes, tools)
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return program, notes
}

const crunPod = `
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: crun}
handler: crun
---
apiVersion: v1
kind: Pod
metadata: {name: runs, labels: {app: runs}}
spec:
  runtimeClassName: crun
  terminationGracePeriodSeconds: 5
  initContainers: [{name: first, image: "shoal.local/busybox:1", command: [sh, -c, "echo first > /shared/said"], volumeMounts: [{name: shared, mountPath: /shared}]}]
  containers:
  - name: app
    image: shoal.local/probe:1
    args: [serve, "8080"]
    resources: {requests: {cpu: 50m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}
    resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}, {resourceName: memory, restartPolicy: NotRequired}]
    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
    livenessProbe: {exec: {command: [/app, get, "http://127.0.0.1:8080/"]}, periodSeconds: 1}
    securityContext: {runAsUser: 1000, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, readOnlyRootFilesystem: true}
  - name: shell
    image: shoal.local/busybox:1
    command: [sh, -c, "cat /shared/said; sleep 9999"]
    volumeMounts: [{name: shared, mountPath: /shared}]
  volumes: [{name: shared, emptyDir: {}}]
---
apiVersion: v1
kind: Pod
metadata: {name: eats, labels: {app: eats}}
spec:
  restartPolicy: Never
  containers: [{name: app, image: "shoal.local/probe:1", args: [eat, "128"], resources: {limits: {memory: 32Mi}}}]
`

// TestCrunRunsPods has crun make the containers of a machine, through the whole life of a pod.
func TestCrunRunsPods(t *testing.T) {
	c := startLab(t, 1)
	program, notes := crun(t)
	c.configure(t, fmt.Sprintf("oci_runtime = %q\n", program))
	shoal(t, "image", "import", filepath.Join(repo(), "build/images/busybox.tar"))
	apply(t, crunPod)
	running(t, c.api, "runs", 1, 30*time.Second)
	if out := shoal(t, "exec", "runs", "-c", "shell", "--", "id", "-u"); strings.TrimSpace(out) != "0" {
		t.Errorf("who it is: %q", out)
	}
	if out := shoal(t, "logs", "runs", "-c", "shell"); strings.TrimSpace(out) != "first" {
		t.Errorf("the log is %q", out)
	}
	if out := shoal(t, "exec", "runs", "-c", "app", "--", "/app", "get", "http://127.0.0.1:8080/"); !strings.HasPrefix(out, "runs ") {
		t.Errorf("it answers %q", out)
	}
	get := func(name string) *corev1.Pod {
		t.Helper()
		o, err := c.api.Get(t.Context(), api.Pods, client.Key{Namespace: "default", Name: name}, client.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return o.(*corev1.Pod)
	}
	within(t, 20*time.Second, "who takes too much memory is ended", func(context.Context) error {
		for _, s := range get("eats").Status.ContainerStatuses {
			if s.State.Terminated != nil && s.State.Terminated.Reason == "OOMKilled" {
				return nil
			}
		}
		return errNotYet
	})
	if _, err := tryKubectl(t.Context(), "patch", "pod", "runs", "--subresource", "resize", "--patch", `{"spec":{"containers":[{"name":"app","resources":{"limits":{"cpu":"300m","memory":"96Mi"}}}]}}`); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "it is resized", func(context.Context) error {
		for _, s := range get("runs").Status.ContainerStatuses {
			if s.Name == "app" && s.Resources != nil && s.Resources.Limits.Memory().String() == "96Mi" {
				return nil
			}
		}
		return errNotYet
	})
	// Its containers outlive the peer, and one that dies is made again.
	shoal(t, "lab", "kill", "peer-1", "--process")
	shoal(t, "lab", "start", "peer-1")
	if n := get("runs").Status.ContainerStatuses[0].RestartCount; n != 0 {
		t.Errorf("restarted %d times", n)
	}
	if _, err := tryShoal(t.Context(), "exec", "runs", "-c", "shell", "--", "sh", "-c", "kill -9 -1"); err == nil {
		t.Log("the shell has ended itself")
	}
	shoal(t, "delete", "pod", "runs", "eats")
	gone(t, c.api, "runs", 20*time.Second)
	b, err := os.ReadFile(notes)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{" create ", " start ", " exec ", " update ", " delete "} {
		if !strings.Contains(string(b), verb) {
			t.Errorf("crun was never told to%s", verb)
		}
	}
}
