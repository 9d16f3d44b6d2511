//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shoal/internal/api"
	"shoal/internal/lab"
	"shoal/internal/testcluster/linear"
)

// innards are the processes of a machine, by what they are.
type innards map[string][]int

const (
	theKeeper     = "keeper"
	theContainerd = "containerd"
	aShim         = "shim"
	aPause        = "pause"
	aContainer    = "container"
)

// innardsOf lists what runs on a machine of the lab, seen from outside.
func innardsOf(name string) innards {
	out := innards{}
	_ = filepath.WalkDir("/sys/fs/cgroup/pids/shoal-lab/"+name, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "cgroup.procs" {
			return nil
		}
		procs, _ := os.ReadFile(path)
		for f := range strings.FieldsSeq(string(procs)) {
			pid, err := strconv.Atoi(f)
			if err != nil {
				continue
			}
			b, err := os.ReadFile("/proc/" + f + "/cmdline")
			if err != nil {
				continue
			}
			cmd := strings.ReplaceAll(string(b), "\x00", " ")
			switch {
			case strings.Contains(cmd, "shoal keeper"):
				out[theKeeper] = append(out[theKeeper], pid)
			case strings.HasPrefix(filepath.Base(strings.Fields(cmd + " x")[0]), "containerd-shim"):
				out[aShim] = append(out[aShim], pid)
			case filepath.Base(strings.Fields(cmd + " x")[0]) == "containerd":
				out[theContainerd] = append(out[theContainerd], pid)
			case strings.HasPrefix(cmd, "/app serve"):
				out[aContainer] = append(out[aContainer], pid)
			case strings.Contains(path, "/pod") && strings.Contains(cmd, "pause"):
				out[aPause] = append(out[aPause], pid)
			}
		}
		return nil
	})
	return out
}

// whole is what a machine holds for its pods, beyond processes.
func whole(t *testing.T, p lab.Peer) map[string]int {
	t.Helper()
	u := usageOf(t, p)
	count := func(command string) int {
		n, err := strconv.Atoi(strings.TrimSpace(shoal(t, "lab", "exec", p.Name, "--", "sh", "-c", command+" | wc -l")))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return map[string]int{
		"mounts": u.mounts, "cgroups": u.cgroups, "links": u.links,
		"snapshots": count("ctr -a /run/shoal/containerd.sock -n shoal snapshots ls"),
		"tasks":     count("ctr -a /run/shoal/containerd.sock -n shoal tasks ls"),
		"pods":      count("ls " + p.DataDir() + "/pods"),
	}
}

// TestTheInnardsOfAMachineDie ends, for a minute and in an order that a seed gives, what runs sixty pods of one machine: the peer, its keeper, containerd,
// shims, pauses and containers. CHAOS_TIME and CHAOS_SEED as for the histories. Afterwards every pod serves, and when they are deleted nothing of them is left.
func TestTheInnardsOfAMachineDie(t *testing.T) {
	const many, name = 60, "peer-2"
	seed, span := linear.Chaos(t, 0.17)
	rng := rand.New(rand.NewSource(seed))
	c := startLab(t, 3)
	apply(t, strings.Replace(web(3), "    spec:\n", "    spec:\n      nodeSelector: {kubernetes.io/hostname: "+name+"}\n", 1))
	running(t, c.api, "web", 3, time.Minute)
	peer := func() lab.Peer {
		for _, p := range labPeers(t) {
			if p.Name == name {
				return p
			}
		}
		t.Fatal("no such peer")
		return lab.Peer{}
	}
	shoal(t, "scale", "rc", "web", "--replicas", "0")
	gone(t, c.api, "web", time.Minute)
	before := whole(t, peer())
	shoal(t, "scale", "rc", "web", "--replicas", fmt.Sprint(many))
	running(t, c.api, "web", many, 2*time.Minute)
	if with := whole(t, peer()); with["snapshots"] < before["snapshots"]+many || with["tasks"] < before["tasks"]+many || with["pods"] < many {
		t.Fatalf("the comparison does not see the pods: %v, before %v", with, before)
	}
	is := innardsOf(name)
	for what, n := range map[string]int{theKeeper: 1, theContainerd: 1, aShim: many, aPause: many, aContainer: many} {
		if len(is[what]) != n {
			t.Fatalf("%d processes are taken for a %s, not %d", len(is[what]), what, n)
		}
	}
	deeds := []string{"peer", theKeeper, theContainerd, aShim, aShim, aPause, aPause, aContainer, aContainer, aContainer}
	for end := time.Now().Add(max(span, time.Minute)); time.Now().Before(end); {
		deed := deeds[rng.Intn(len(deeds))]
		if deed == "peer" {
			t.Log("the peer is killed")
			shoal(t, "lab", "kill", name, "--process")
			<-time.After(time.Duration(rng.Intn(500)) * time.Millisecond)
			shoal(t, "lab", "start", name)
			continue
		}
		if all := innardsOf(name)[deed]; len(all) > 0 {
			pid := all[rng.Intn(len(all))]
			t.Logf("%s %d is killed", deed, pid)
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		<-time.After(time.Duration(rng.Intn(1000)) * time.Millisecond)
	}
	took := within(t, 6*time.Minute, "every pod serves", func(ctx context.Context) error {
		all, err := pods(ctx, c.api, "web")
		if err != nil {
			return err
		}
		ready := 0
		for _, p := range all {
			if p.DeletionTimestamp == nil && api.IsPodReady(p) {
				ready++
			}
		}
		is := innardsOf(name)
		if len(all) != many || ready != many || len(is[aShim]) != many || len(is[aPause]) != many || len(is[aContainer]) != many {
			return fmt.Errorf("%d of %d pods are ready; %d shims, %d pauses, %d containers", ready, len(all), len(is[aShim]), len(is[aPause]), len(is[aContainer]))
		}
		return nil
	})
	t.Logf("FIGURES every pod serves %v after the last deed", took.Round(time.Millisecond))
	shoal(t, "scale", "rc", "web", "--replicas", "0")
	gone(t, c.api, "web", 2*time.Minute)
	within(t, 20*time.Second, "nothing is left", func(context.Context) error {
		after := whole(t, peer())
		for what, n := range before {
			if after[what] > n {
				return fmt.Errorf("%s: %d before, %d after; all: %v", what, n, after[what], after)
			}
		}
		if is := innardsOf(name); len(is[aShim])+len(is[aPause])+len(is[aContainer]) > 0 {
			return fmt.Errorf("processes %v", is)
		}
		return nil
	})
}
