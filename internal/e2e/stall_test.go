//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/lab"
)

// TestTheMastersDiskHangs freezes the filesystem under the Master's log, with a writer at another peer.
func TestTheMastersDiskHangs(t *testing.T) {
	c := startLab(t, 3)
	victim := c.names[0]
	disk := ownDisk(t, victim, "256M")
	makeMaster(t, victim)
	w := startWriting(t, configMaps(clientFor(t, c.others(victim)[0])), "stall")
	select {
	case <-w.wake: // without a write before the fault, no gap could be seen
	case <-time.After(10 * time.Second):
		t.Fatal("no write was acknowledged before the fault")
	}

	thaw := freeze(t, disk)
	gap := w.outage(t, time.Now(), 20*time.Second)
	if m := master(t); m == victim {
		t.Errorf("%s is still Master", m)
	}
	thaw()
	acked := w.stop()
	t.Logf("FIGURES Master's disk hangs: no write for %v", gap)
	if gap > 5*time.Second {
		t.Errorf("no write was acknowledged for %v", gap)
	}
	shoal(t, "wait", "node", victim, "--for", "condition=Ready", "--timeout", "60s")
	noneLost(t, c, acked)
}

// TestDisksAreFull fills the filesystem under the Master's log, and then those under all logs, while big objects are written; then it makes
// room again.
func TestDisksAreFull(t *testing.T) {
	c := startLab(t, 3)
	disks := map[string]string{}
	for _, name := range c.names {
		disks[name] = ownDisk(t, name, "96M")
	}
	victim := c.names[0]
	makeMaster(t, victim)
	fill(t, disks[victim])
	acked, err := bigWrites(t, clientFor(t, c.others(victim)...), "one-full", 24)
	if len(acked) < 22 {
		t.Errorf("only %d of 24 writes went through with one disk full: %v", len(acked), err)
	}
	if m := master(t); m == victim {
		t.Errorf("%s is still Master, whose disk is full", m)
	}
	within(t, 30*time.Second, "status names the disk", func(context.Context) error {
		if out := shoal(t, "--peer", c.others(victim)[0], "status"); !strings.Contains(lineOf(out, "Disks:"), victim+" (no space left on device)") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	for _, name := range c.others(victim) {
		fill(t, disks[name])
	}
	more, err := bigWrites(t, clientFor(t, c.names...), "all-full", 60)
	t.Logf("on full disks, after %d writes: %v", len(more), err)
	if len(more) == 60 || err == nil {
		t.Error("all writes went through, on disks that are full")
	}
	acked = append(acked, more...)
	for _, name := range c.names {
		out, err := tryShoal(t.Context(), "--peer", name, "get", "ns", "-o", "name")
		if err != nil || !strings.Contains(out, "namespace/default\n") {
			t.Errorf("%s does not read: %v", name, err)
		}
	}
	for _, dir := range disks {
		command(t, "rm", filepath.Join(dir, "filler"))
	}
	within(t, 60*time.Second, "writes go on", func(ctx context.Context) error {
		_, err := tryShoal(ctx, "create", "namespace", "room")
		return err
	})
	noneLost(t, c, acked)
	within(t, 30*time.Second, "status is quiet", func(context.Context) error {
		if out := shoal(t, "status"); lineOf(out, "Disks:") != "" {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}

// fill leaves no room on a filesystem.
func fill(t *testing.T, dir string) {
	t.Helper()
	command(t, "sh", "-c", "dd if=/dev/zero of="+filepath.Join(dir, "filler")+" bs=64k 2>/dev/null || true; sync -f "+dir)
}

// bigWrites makes n ConfigMaps of a megabyte, which fill the logs' files, and returns those that were acknowledged. It gives up when three
// in a row are not, with the last error.
func bigWrites(t *testing.T, at client.Interface, prefix string, n int) (acked []string, last error) {
	t.Helper()
	for i, failed := 0, 0; i < n && failed < 3; i++ {
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("%s-%d", prefix, i)}}
		cm.Data = map[string]string{"big": strings.Repeat(cm.Name, 900_000/len(cm.Name))}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		_, err := at.Create(ctx, api.ConfigMaps, cm, client.CreateOptions{})
		cancel()
		if failed++; err == nil {
			acked, failed = append(acked, cm.Name), 0
		} else {
			last = err
		}
	}
	return acked, last
}

// makeMaster stops whoever is Master until it is the one.
func makeMaster(t *testing.T, victim string) {
	t.Helper()
	for range 20 {
		m := master(t)
		if m == victim {
			return
		}
		shoal(t, "lab", "stop", m)
		shoal(t, "lab", "start", m)
		shoal(t, "wait", "node", m, "--for", "condition=Ready", "--timeout", "60s")
	}
	t.Fatalf("%s does not become Master", victim)
}

// ownDisk gives the log of a machine a filesystem of its own, and returns where that is mounted.
func ownDisk(t *testing.T, name, size string) string {
	t.Helper()
	shoal(t, "lab", "kill", name)
	dir := filepath.Join(lab.Dir, name, "data", "raft")
	tmp := t.TempDir()
	image, held := filepath.Join(tmp, "image"), filepath.Join(tmp, "log")
	command(t, "truncate", "-s", size, image)
	command(t, "mkfs.ext4", "-q", image)
	command(t, "cp", "-a", dir, held)
	command(t, "mount", "-o", "loop", image, dir)
	t.Cleanup(func() { command(t, "umount", dir) }) // the machine has a mount of its own
	command(t, "cp", "-a", held+"/.", dir)
	shoal(t, "lab", "start", name)
	shoal(t, "wait", "node", name, "--for", "condition=Ready", "--timeout", "60s")
	return dir
}

// freeze lets writes to a filesystem wait. Nothing that waits can be killed, so it ends with the test, whatever happens.
func freeze(t *testing.T, dir string) (thaw func()) {
	t.Helper()
	command(t, "fsfreeze", "--freeze", dir)
	frozen := true
	thaw = func() {
		if frozen {
			command(t, "fsfreeze", "--unfreeze", dir)
			frozen = false
		}
	}
	t.Cleanup(thaw)
	return thaw
}

// command runs a program of the machine, even when the test is over.
func command(t *testing.T, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
