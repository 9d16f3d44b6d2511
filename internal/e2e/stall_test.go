//go:build e2e

package e2e

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shoal/internal/lab"
)

// TestTheMastersDiskHangs freezes the filesystem under the Master's log, with a writer at another peer.
func TestTheMastersDiskHangs(t *testing.T) {
	c := startLab(t, 3)
	victim := c.names[0]
	disk := ownDisk(t, victim)
	for range 20 {
		m := master(t)
		if m == victim {
			break
		}
		shoal(t, "lab", "stop", m)
		shoal(t, "lab", "start", m)
		shoal(t, "wait", "node", m, "--for", "condition=Ready", "--timeout", "60s")
	}
	if m := master(t); m != victim {
		t.Fatalf("%s is Master and not %s, whose disk can be frozen", m, victim)
	}
	w := startWriting(t, clientFor(t, c.others(victim)[0]), "stall")
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

// ownDisk gives the log of a machine a filesystem of its own, and returns where that is mounted.
func ownDisk(t *testing.T, name string) string {
	t.Helper()
	shoal(t, "lab", "kill", name)
	dir := filepath.Join(lab.Dir, name, "data", "raft")
	tmp := t.TempDir()
	image, held := filepath.Join(tmp, "image"), filepath.Join(tmp, "log")
	command(t, "truncate", "-s", "256M", image)
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
