package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"shoal/node/runtime"
	"shoal/node/runtime/cgroup"
)

// sandboxes returns sandboxes of a machine of their own, and checks at the end that nothing of them is left.
func sandboxes(t testing.TB) *Sandboxes {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	parent := fmt.Sprintf("/shoal-test-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-"))
	s := New(Config{RunDir: t.TempDir(), CgroupParent: parent})
	before := mounts(t)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		uids, err := s.List()
		if err != nil {
			t.Error(err)
		}
		for _, uid := range uids {
			if err := s.Remove(ctx, uid); err != nil {
				t.Error(err)
			}
		}
		tree, err := cgroup.Mounted()
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.Remove(parent); err != nil || tree.Exists(parent) {
			t.Errorf("cgroups are left: %v", err)
		}
		if after := mounts(t); !slices.Equal(before, after) {
			t.Errorf("mounts before %d, after %d", len(before), len(after))
		}
	})
	return s
}

func mounts(t testing.TB) []string {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); strings.Contains(f[4], "TestSandbox") || strings.Contains(f[4], "Benchmark") {
			out = append(out, f[4])
		}
	}
	return out
}

func config(uid types.UID) runtime.SandboxConfig {
	return runtime.SandboxConfig{UID: uid, Namespace: "ns", Name: "pod", Hostname: "box"}
}

func start(t testing.TB, s *Sandboxes, c runtime.SandboxConfig) Sandbox {
	t.Helper()
	x, err := s.Start(context.WithoutCancel(t.Context()), c)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// attribute returns a field of /proc/PID/status.
func attribute(t *testing.T, pid int, name string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.Join(strings.Fields(v), " ")
		}
	}
	return ""
}

func TestSandboxPauseIsConfined(t *testing.T) {
	s := sandboxes(t)
	x := start(t, s, config("a"))
	pid := x.Pause.Pid
	asleep := fmt.Sprint(unix.SYS_RT_SIGTIMEDWAIT, " ")
	for b := []byte{}; !strings.HasPrefix(string(b), asleep) && t.Context().Err() == nil; {
		b, _ = os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
	}
	for name, want := range map[string]string{
		"CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapBnd": "0000000000000000",
		"CapInh": "0000000000000000", "NoNewPrivs": "1", "Threads": "1", "Groups": "",
		"Uid": "65535 65535 65535 65535", "Gid": "65535 65535 65535 65535",
	} {
		if got := attribute(t, pid, name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	root := fmt.Sprintf("/proc/%d/root", pid)
	if entries, err := os.ReadDir(root); err != nil || len(entries) != 0 {
		t.Errorf("its root holds %v, %v", entries, err)
	}
	if err := os.WriteFile(root+"/x", nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("its root can be written: %v", err)
	}
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if strings.Count(string(b), "\n") != 1 {
		t.Errorf("its mounts:\n%s", b)
	}
	if files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); err != nil || len(files) != 0 {
		t.Errorf("its files: %v, %v", files, err)
	}
	if link, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); link != "/" {
		t.Errorf("its directory: %s", link)
	}
	if !cgroup.Holds(pid, x.Cgroup) {
		t.Error("it is not in the pod's cgroup")
	}
}

func TestSandboxNamespacesAreThePods(t *testing.T) {
	s := sandboxes(t)
	c := config("a")
	c.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "80", "kernel.shmmni": "111"}
	x := start(t, s, c)
	sh := exec.Command("nsenter", "--net="+x.Namespaces["net"], "--uts="+x.Namespaces["uts"], "--ipc="+x.Namespaces["ipc"],
		"sh", "-c", "hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmni; ip -o link show up")
	out, err := sh.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 4 || lines[0] != "box" || lines[1] != "80" || lines[2] != "111" || !strings.Contains(lines[3], "lo:") {
		t.Errorf("got %q", lines)
	}
	host, _ := os.Hostname()
	if host == "box" {
		t.Error("the machine's name was changed")
	}
	if _, ok := x.Namespaces["pid"]; ok {
		t.Error("the process namespace is shared unasked")
	}
}

func TestSandboxUsesTheHostsNamespacesWhenAsked(t *testing.T) {
	s := sandboxes(t)
	c := config("a")
	c.HostNetwork, c.HostIPC, c.SharePID = true, true, true
	x := start(t, s, c)
	if len(x.Namespaces) != 1 || x.Namespaces["pid"] == "" || x.View().NetNS != "" || x.Shm != "/dev/shm" {
		t.Errorf("got %+v", x)
	}
	for _, n := range []string{"net", "ipc", "uts"} {
		mine, _ := os.Readlink("/proc/self/ns/" + n)
		its, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", x.Pause.Pid, n))
		if mine != its {
			t.Errorf("%s: %s and %s", n, mine, its)
		}
	}
	if got := attribute(t, x.Pause.Pid, "NSpid"); got != strconv.Itoa(x.Pause.Pid)+" 1" {
		t.Errorf("pids %s", got)
	}
}

func TestSandboxRefusesTheMachinesSysctls(t *testing.T) {
	s := sandboxes(t)
	for _, name := range []string{"vm.swappiness", "kernel.panic", "net/../kernel/panic", "kernel/hostname"} {
		c := config("a")
		c.Sysctls = map[string]string{name: "1"}
		if _, err := s.Start(t.Context(), c); err == nil {
			t.Errorf("%s was set", name)
		}
	}
	c := config("a")
	c.HostNetwork, c.Sysctls = true, map[string]string{"net.ipv4.ip_forward": "1"}
	if _, err := s.Start(t.Context(), c); err == nil {
		t.Error("the machine's network was changed")
	}
	if _, err := s.Start(t.Context(), config("../a")); err == nil {
		t.Error("a uid that leaves the directory was taken")
	}
}

func TestSandboxIsAdopted(t *testing.T) {
	s := sandboxes(t)
	x := start(t, s, config("a"))
	if _, err := s.RecordIP("a", "10.244.0.7"); err != nil {
		t.Fatal(err)
	}
	next := New(s.config)
	again := start(t, next, config("a"))
	if again.Pause != x.Pause || again.IP != "10.244.0.7" || !again.View().Running {
		t.Errorf("got %+v", again)
	}
	if err := x.Pause.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := next.Watch(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if dead, err := next.Load("a"); err != nil || dead.View().Running {
		t.Errorf("still runs: %v", err)
	}
	third := start(t, next, config("a"))
	if third.Pause == x.Pause || third.IP != "" || !third.Running() {
		t.Errorf("got %+v", third)
	}
}

func TestSandboxRemovalIsWholeAndRepeatable(t *testing.T) {
	s := sandboxes(t)
	x := start(t, s, config("a"))
	tree, err := cgroup.Mounted()
	if err != nil {
		t.Fatal(err)
	}
	stray := exec.Command("sleep", "1000")
	if err := stray.Start(); err != nil {
		t.Fatal(err)
	}
	if err := tree.Make(x.Cgroup + "/stray"); err != nil {
		t.Fatal(err)
	}
	if err := tree.Enter(x.Cgroup+"/stray", stray.Process.Pid); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Remove(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	if x.Pause.Alive() || tree.Exists(x.Cgroup) {
		t.Error("pause or cgroup is left")
	}
	if _, err := os.Stat(s.Dir("a")); err == nil {
		t.Error("the directory is left")
	}
	if _, err := s.Load("a"); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestSandboxWithoutFileIsRemoved(t *testing.T) {
	s := sandboxes(t)
	x := start(t, s, config("a"))
	if err := os.Remove(filepath.Join(s.Dir("a"), "sandbox.json")); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), "a"); err != nil || x.Pause.Alive() {
		t.Errorf("pause is left: %v", err)
	}
}

func BenchmarkStart(b *testing.B) {
	s := sandboxes(b)
	var took []time.Duration
	i := 0
	for b.Loop() {
		begin := time.Now()
		start(b, s, config(types.UID("bench-"+strconv.Itoa(i))))
		took = append(took, time.Since(begin))
		i++
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-median")
}
