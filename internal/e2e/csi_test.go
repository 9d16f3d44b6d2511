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

	storagev1 "k8s.io/api/storage/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/lab"
)

// TestVolumesOfACSIDriver runs a CSI driver as every Kubernetes does: found through its socket, with Kubernetes' own provisioner and attacher beside it. Its
// volumes follow their pods through all that happens to pods, peers and the driver itself, and nothing of them is left in the end.
func TestVolumesOfACSIDriver(t *testing.T) {
	c := startLab(t, 3)
	for _, name := range []string{"busybox", "csi", "csi-provisioner", "csi-attacher"} {
		shoal(t, "image", "import", filepath.Join(repo(), "build/images", name+".tar"))
	}
	apply(t, manifest(t, "csi/driver.yaml"))
	took := within(t, 90*time.Second, "the driver is on every machine", func(ctx context.Context) error { return driversAre(ctx, c, "csi.test") })
	t.Logf("registered after %s", took.Round(time.Millisecond))
	apply(t, manifest(t, "csi/pods.yaml"))
	running(t, c.api, "keeps", 2, 2*time.Minute)
	running(t, c.api, "inline", 1, time.Minute)
	prints(t, "default inline world", "inline", "cat", "/v/note")
	same := func(what string) {
		t.Helper()
		for _, pod := range []string{"keeps-0", "keeps-1"} {
			within(t, time.Minute, what, func(ctx context.Context) error {
				out, err := tryShoal(ctx, "exec", pod, "--", "sh", "-c", "cat /data/name; test -d /data/below && touch /sub/x")
				if err == nil && strings.TrimSpace(out) != pod {
					err = fmt.Errorf("%s has %q", pod, out)
				}
				return err
			})
		}
	}
	same("each pod has its volume")
	for _, pod := range []string{"keeps-0", "keeps-1"} {
		if out := shoal(t, "exec", pod, "--", "ls", "-nd", "/data"); !strings.Contains(out, "4711") {
			t.Errorf("%s: the volume is not the group's: %s", pod, out)
		}
	}
	if n := attached(t, c); n != 2 {
		t.Errorf("%d volumes are attached, want 2", n)
	}

	shoal(t, "delete", "pod", "keeps-0", "keeps-1")
	running(t, c.api, "keeps", 2, time.Minute)
	same("the pods were replaced")
	for _, name := range c.names {
		shoal(t, "lab", "stop", name)
		shoal(t, "lab", "start", name)
	}
	same("the peers were restarted")
	shoal(t, "delete", "pods", "-n", "csi", "-l", "app=driver")
	same("the driver went away")
	shoal(t, "delete", "pod", "keeps-0")
	within(t, time.Minute, "the driver is back", func(ctx context.Context) error { return driversAre(ctx, c, "csi.test") })
	same("the driver came back")

	shoal(t, "delete", "pod", "inline")
	shoal(t, "delete", "statefulset", "keeps")
	within(t, time.Minute, "no volume is left", func(ctx context.Context) error {
		l, err := c.api.List(ctx, api.PersistentVolumes, client.ListOptions{})
		if err == nil && len(l.Items) > 0 {
			err = fmt.Errorf("%d volumes", len(l.Items))
		}
		return err
	})
	within(t, 30*time.Second, "nothing of them is left", func(context.Context) error { return csiLeft(t, c) })
	shoal(t, "delete", "daemonset", "driver", "-n", "csi")
	within(t, 30*time.Second, "the driver is nowhere", func(ctx context.Context) error { return driversAre(ctx, c) })
}

func manifest(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// driversAre reports whether every machine's CSINode names exactly these drivers.
func driversAre(ctx context.Context, c *cluster, want ...string) error {
	for _, name := range c.names {
		o, err := c.api.Get(ctx, api.CSINodes, client.Key{Name: name}, client.GetOptions{})
		if err != nil {
			return err
		}
		var got []string
		for _, d := range o.(*storagev1.CSINode).Spec.Drivers {
			got = append(got, d.Name)
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			return fmt.Errorf("%s has %v", name, got)
		}
	}
	return nil
}

// attached returns how many volumes are attached, each to where its pod is.
func attached(t *testing.T, c *cluster) int {
	t.Helper()
	l, err := c.api.List(t.Context(), api.VolumeAttachments, client.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found, err := pods(t.Context(), c.api, "keeps")
	if err != nil {
		t.Fatal(err)
	}
	nodes := map[string]bool{}
	for _, p := range found {
		nodes[p.Spec.NodeName] = true
	}
	for _, o := range l.Items {
		if a := o.(*storagev1.VolumeAttachment); !a.Status.Attached || !nodes[a.Spec.NodeName] {
			t.Errorf("%s at %s: %+v", a.Name, a.Spec.NodeName, a.Status)
		}
	}
	return len(l.Items)
}

// csiLeft looks for what volumes may leave behind.
func csiLeft(t *testing.T, c *cluster) error {
	t.Helper()
	l, err := c.api.List(t.Context(), api.VolumeAttachments, client.ListOptions{})
	if err != nil {
		return err
	}
	if len(l.Items) > 0 {
		return fmt.Errorf("%d volumes are attached", len(l.Items))
	}
	peers, err := lab.Peers()
	if err != nil {
		return err
	}
	for _, p := range peers {
		mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", p.Shoal.Pid))
		if err != nil {
			return err
		}
		for _, part := range []string{"kubernetes.io~csi", "globalmount"} {
			if strings.Contains(string(mounts), part) {
				return fmt.Errorf("%s: something is mounted at a %s", p.Name, part)
			}
		}
		if records, _ := filepath.Glob(filepath.Join(p.DataDir(), "pods/*/csi/*")); len(records) > 0 {
			return fmt.Errorf("records: %v", records)
		}
		out, err := tryShoal(t.Context(), "lab", "exec", p.Name, "--", "sh", "-c", "ls -A /run/csi-data /run/kubelet/plugins/kubernetes.io/csi/csi.test 2>/dev/null; find /run/kubelet/pods -mindepth 1")
		if err == nil && strings.Trim(strings.ReplaceAll(strings.ReplaceAll(out, "/run/csi-data:", ""), "/run/kubelet/plugins/kubernetes.io/csi/csi.test:", ""), "\n ") != "" {
			return fmt.Errorf("%s has %s", p.Name, out)
		}
	}
	return nil
}
