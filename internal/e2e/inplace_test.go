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
	"shoal/internal/lab"
)

// sizedPod serves HTTP and has so much CPU (in millis) and memory.
const sizedPod = `
apiVersion: v1
kind: Pod
metadata: {name: sized, labels: {app: sized}}
spec:
  nodeName: peer-2
  containers:
  - name: app
    image: shoal.local/probe:1
    args: [serve, "8080"]
    resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}
    resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}, {resourceName: memory, restartPolicy: NotRequired}]
    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
`

// lookingPod looks into another image.
const lookingPod = `
apiVersion: v1
kind: Pod
metadata: {name: looks, labels: {app: looks}}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: other, image: {reference: "shoal.local/probe:1"}}]
  containers:
  - {name: sh, image: "shoal.local/busybox:1", command: [sleep, "1000"], volumeMounts: [{name: other, mountPath: /other}]}
`

const staticPod = `
apiVersion: v1
kind: Pod
metadata: {name: by-file, labels: {app: by-file}}
spec:
  terminationGracePeriodSeconds: 2
  containers: [{name: app, image: "shoal.local/probe:1", args: [serve]}]
`

// TestPodsInPlace changes what pods have while they run, and runs pods that a machine's own files say.
func TestPodsInPlace(t *testing.T) {
	c := startLab(t, 3)
	shoal(t, "image", "import", filepath.Join(repo(), "build/images/busybox.tar"))
	kubectl := func(args ...string) string {
		t.Helper()
		out, err := tryKubectl(t.Context(), args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	apply(t, sizedPod)
	running(t, c.api, "sized", 1, 30*time.Second)
	get := func(ctx context.Context, name string) (*corev1.Pod, error) {
		o, err := c.api.Get(ctx, api.Pods, client.Key{Namespace: "default", Name: name}, client.GetOptions{})
		if err != nil {
			return nil, err
		}
		return o.(*corev1.Pod), nil
	}
	t.Run("a volume is an image", func(t *testing.T) {
		apply(t, lookingPod)
		running(t, c.api, "looks", 1, 30*time.Second)
		prints(t, "app", "looks", "sh", "-c", "cd /other && ls app")
		for command, want := range map[string]string{"touch /other/new": "Read-only file system", "/other/app say x": "Permission denied"} {
			if out, err := tryShoal(t.Context(), "exec", "looks", "--", "sh", "-c", command); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v\n%s", command, err, out)
			}
		}
		shoal(t, "delete", "pod", "looks")
		peers, err := lab.Peers()
		if err != nil {
			t.Fatal(err)
		}
		within(t, 10*time.Second, "nothing of it is left", func(context.Context) error {
			for _, p := range peers {
				if left, _ := filepath.Glob(filepath.Join(p.DataDir(), "pods/*/images/*")); len(left) > 0 {
					return fmt.Errorf("left: %v", left)
				}
			}
			return nil
		})
	})
	t.Run("a pod that serves is resized", func(t *testing.T) { resizedWhileItServes(t, c, kubectl, get) })
	t.Run("a file is a pod", func(t *testing.T) { byFile(t, c, kubectl, get) })
}

func tryKubectl(ctx context.Context, args ...string) (string, error) {
	return tryRun(ctx, filepath.Join(repo(), "build/tools/kubectl-current"), append([]string{"--kubeconfig", filepath.Join(lab.Dir, "kubeconfig")}, args...)...)
}

// cgroupDir finds a cgroup of a machine by its name.
func cgroupDir(controller, machine, name string) (found string) {
	_ = filepath.WalkDir(filepath.Join("/sys/fs/cgroup", controller, "shoal-lab", machine), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Name() == name {
			found = path
			return filepath.SkipAll
		}
		return nil
	})
	return found
}

// limitsOf reads the memory limit and the CPU quota that the kernel holds a container of peer-2 to.
func limitsOf(container string) string {
	id := strings.TrimPrefix(container, "containerd://")
	memory, _ := os.ReadFile(filepath.Join(cgroupDir("memory", "peer-2", id), "memory.limit_in_bytes"))
	quota, _ := os.ReadFile(filepath.Join(cgroupDir("cpu", "peer-2", id), "cpu.cfs_quota_us"))
	return strings.TrimSpace(string(memory)) + " " + strings.TrimSpace(string(quota))
}

func resizedWhileItServes(t *testing.T, c *cluster, kubectl func(...string) string, get func(context.Context, string) (*corev1.Pod, error)) {
	before, err := get(t.Context(), "sized")
	if err != nil {
		t.Fatal(err)
	}
	kubectl("patch", "pod", "sized", "--subresource", "resize", "--patch",
		`{"spec":{"containers":[{"name":"app","resources":{"requests":{"cpu":"300m","memory":"48Mi"},"limits":{"cpu":"500m","memory":"128Mi"}}}]}}`)
	took := within(t, 20*time.Second, "it is resized", func(ctx context.Context) error {
		p, err := get(ctx, "sized")
		if err != nil {
			return err
		}
		s := p.Status.ContainerStatuses[0]
		if s.Resources == nil || s.Resources.Limits.Cpu().MilliValue() != 500 || s.Resources.Limits.Memory().Value() != 128<<20 || s.AllocatedResources.Cpu().MilliValue() != 300 {
			return fmt.Errorf("%+v: %w", s.Resources, errNotYet)
		}
		if s.ContainerID != before.Status.ContainerStatuses[0].ContainerID || s.RestartCount != 0 {
			t.Fatal("it was restarted")
		}
		return nil
	})
	t.Logf("resized after %s", took.Round(time.Millisecond))
	container := before.Status.ContainerStatuses[0].ContainerID
	if got := limitsOf(container); got != fmt.Sprint(128<<20, " ", 50000) {
		t.Errorf("its cgroup has %s", got)
	}
	kubectl("patch", "pod", "sized", "--subresource", "resize", "--patch", `{"spec":{"containers":[{"name":"app","resources":{"requests":{"cpu":"1900m"},"limits":{"cpu":"1900m"}}}]}}`)
	kubectl("patch", "pod", "sized", "--subresource", "resize", "--patch", `{"spec":{"containers":[{"name":"app","resources":{"requests":{"cpu":"9"},"limits":{"cpu":"9"}}}]}}`)
	within(t, 20*time.Second, "it says that this machine never will", func(ctx context.Context) error {
		p, err := get(ctx, "sized")
		if err != nil {
			return err
		}
		if cond := api.PodCondition(p, corev1.PodResizePending); cond == nil || cond.Reason != corev1.PodReasonInfeasible || !strings.Contains(cond.Message, "cpu, requested: 9000") {
			return fmt.Errorf("%+v: %w", cond, errNotYet)
		}
		return nil
	})
	if out := kubectl("describe", "pod", "sized"); !strings.Contains(out, "PodResizePending") || !strings.Contains(out, "ResizeCompleted") {
		t.Errorf("kubectl describe says nothing of it:\n%s", out)
	}
	kubectl("patch", "pod", "sized", "--subresource", "resize", "--patch",
		`{"spec":{"containers":[{"name":"app","resources":{"requests":{"cpu":"100m","memory":"16Mi"},"limits":{"cpu":"100m","memory":"32Mi"}}}]}}`)
	within(t, 20*time.Second, "it is small", func(context.Context) error {
		if got := limitsOf(container); got != fmt.Sprint(32<<20, " ", 10000) {
			return fmt.Errorf("%s: %w", got, errNotYet)
		}
		return nil
	})
	for patch, want := range map[string]string{
		`{"spec":{"containers":[{"name":"app","resources":{"requests":{"cpu":"100m","memory":"32Mi"}}}]}}`: "Pod QOS Class may not change as a result of resizing",
		`{"spec":{"containers":[{"name":"app","resources":{"limits":{"memory":null}}}]}}`:                  "resource limits cannot be removed",
	} {
		if out, err := tryKubectl(t.Context(), "patch", "pod", "sized", "--subresource", "resize", "-p", patch); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\n%s", patch, err, out)
		}
	}
}

func byFile(t *testing.T, c *cluster, kubectl func(...string) string, get func(context.Context, string) (*corev1.Pod, error)) {
	peers, err := lab.Peers()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(peers[2].DataDir(), "static-pods", "by-file.yaml")
	if err := os.WriteFile(file, []byte(staticPod), 0o600); err != nil {
		t.Fatal(err)
	}
	const name = "by-file-peer-3"
	is := func(what string) (p *corev1.Pod) {
		t.Helper()
		within(t, 20*time.Second, what, func(ctx context.Context) (err error) {
			if p, err = get(ctx, name); err == nil && !api.IsPodReady(p) {
				err = errNotYet
			}
			return err
		})
		return p
	}
	first := is("it runs")
	id := first.Status.ContainerStatuses[0].ContainerID
	same := func(what string) {
		t.Helper()
		if p := is(what); p.Status.ContainerStatuses[0].ContainerID != id {
			t.Errorf("%s: container %s, want %s", what, p.Status.ContainerStatuses[0].ContainerID, id)
		}
	}
	if out := kubectl("logs", name); !strings.Contains(out, "serving") {
		t.Errorf("its log: %q", out)
	}
	kubectl("delete", "pod", name, "--wait=false")
	within(t, 10*time.Second, "its mirror is another one", func(ctx context.Context) error {
		if p, err := get(ctx, name); err != nil || p.UID == first.UID {
			return errNotYet
		}
		return nil
	})
	same("its mirror is made again")
	shoal(t, "lab", "stop", "peer-3")
	shoal(t, "lab", "start", "peer-3")
	same("the peer was restarted")
	out := shoal(t, "drain", "peer-3", "--force", "--ignore-daemonsets", "--delete-emptydir-data")
	same("its machine was drained")
	shoal(t, "uncordon", "peer-3")
	t.Log(strings.TrimSpace(out))
	for _, other := range c.others("peer-3") {
		shoal(t, "lab", "kill", other)
	}
	shoal(t, "lab", "kill", "peer-3")
	alone, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	_, _ = tryShoal(alone, "lab", "start", "peer-3") // it cannot be ready
	cancel()
	within(t, 60*time.Second, "it runs without a cluster, after its machine had no power", func(ctx context.Context) error {
		procs, _ := filepath.Glob(filepath.Join(cgroupDir("pids", "peer-3", "pod"+first.Annotations[corev1.MirrorPodAnnotationKey]), "*/cgroup.procs"))
		for _, p := range procs {
			if b, err := os.ReadFile(p); err == nil && len(b) > 0 {
				return nil
			}
		}
		return errNotYet
	})
	for _, other := range c.others("peer-3") {
		shoal(t, "lab", "start", other)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	within(t, 60*time.Second, "it is gone", func(ctx context.Context) error {
		if p, err := get(ctx, name); err == nil {
			return fmt.Errorf("%s: %w", p.Status.Phase, errNotYet)
		}
		return nil
	})
}
