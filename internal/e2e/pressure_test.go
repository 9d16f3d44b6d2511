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

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/lab"
)

// scribe is a pod that writes so many MiB to a file, and then sleeps.
func scribe(name, node, file string, mib int, limits, volume string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: %[1]s}}
spec:
  nodeName: %s
  terminationGracePeriodSeconds: 30
  containers:
  - name: app
    image: shoal.local/busybox:1
    command: [sh, -c, "dd if=/dev/zero of=%s bs=1M count=%d && exec sleep 3600"]
    resources: {limits: {%s}}
    volumeMounts: [{name: scratch, mountPath: /scratch}]
  volumes: [{name: scratch, emptyDir: {%s}}]
`, name, node, file, mib, limits, volume)
}

// TestMachinesEndWhoTakesTooMuch is about disks: who writes more than its limit goes, and when a disk fills up, who fills it; the others stay, no new ones
// come, and the pod's place is free at once.
func TestMachinesEndWhoTakesTooMuch(t *testing.T) {
	c := startLab(t, 3)
	shoal(t, "image", "import", filepath.Join(repo(), "build/images/busybox.tar"))
	var disk unix.Statfs_t
	if err := unix.Statfs(lab.Dir, &disk); err != nil {
		t.Fatal(err)
	}
	const wrote, spare = 400, 200 // MiB
	left := int64(disk.Bavail)*disk.Bsize - spare<<20
	config := filepath.Join(lab.Dir, "peer-2", "config.toml")
	f, err := os.OpenFile(config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(f, "\n[eviction]\ndisk = \"%d\"\n", left); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	shoal(t, "lab", "stop", "peer-2")
	shoal(t, "lab", "start", "peer-2")

	apply(t, scribe("modest", "peer-2", "/scratch/file", 1, "ephemeral-storage: 20Mi", "sizeLimit: 10Mi"))
	apply(t, scribe("root", "peer-1", "/file", 8, "ephemeral-storage: 2Mi", ""))
	apply(t, scribe("volume", "peer-1", "/scratch/file", 8, "", "sizeLimit: 2Mi"))
	apply(t, scribe("hog", "peer-2", "/scratch/file", wrote, "", ""))
	evicted := func(pod, why string) {
		t.Helper()
		took := within(t, time.Minute, pod+" is ended", func(ctx context.Context) error {
			o, err := c.api.Get(ctx, api.Pods, client.Key{Namespace: "default", Name: pod}, client.GetOptions{})
			if err != nil {
				return err
			}
			s := o.(*corev1.Pod).Status
			if s.Phase != corev1.PodFailed || s.Reason != "Evicted" || !strings.Contains(s.Message, why) {
				return fmt.Errorf("%s %s: %s", s.Phase, s.Reason, s.Message)
			}
			return nil
		})
		t.Logf("%s: ended after %v", pod, took.Round(time.Millisecond))
	}
	evicted("hog", "The node was low on resource: ephemeral-storage.")
	evicted("root", `Container app exceeded its local ephemeral storage limit "2Mi".`)
	evicted("volume", `Usage of EmptyDir volume "scratch" exceeds the limit "2Mi".`)
	running(t, c.api, "modest", 1, 5*time.Second)
	within(t, 10*time.Second, "its machine says that its disk is full", func(ctx context.Context) error {
		out, err := tryShoal(ctx, "get", "node", "peer-2", "-o", "jsonpath={.status.conditions[?(@.type==\"DiskPressure\")].status} {.spec.taints[*].key}")
		if err == nil && out != "True node.kubernetes.io/disk-pressure" {
			err = fmt.Errorf("it says %q", out)
		}
		return err
	})
	within(t, 10*time.Second, "what it wrote is gone", func(context.Context) error {
		var now unix.Statfs_t
		if err := unix.Statfs(lab.Dir, &now); err != nil {
			return err
		}
		if free := int64(now.Bavail) * now.Bsize; free < left {
			return fmt.Errorf("%d MiB are free", free>>20)
		}
		return nil
	})
	within(t, 10*time.Second, "events say so", func(ctx context.Context) error {
		out, err := tryShoal(ctx, "events")
		if err == nil && strings.Count(out, "Evicted") != 3 {
			err = fmt.Errorf("events:\n%s", out)
		}
		return err
	})
	apply(t, strings.Replace(scribe("late", "", "/scratch/file", 1, "", ""), "nodeName: ", "#", 1))
	running(t, c.api, "late", 1, 20*time.Second, "peer-2")
}
