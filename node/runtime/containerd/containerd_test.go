package containerd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/node/runtime"
	"shoal/node/runtime/proc"
)

func TestContainerLife(t *testing.T) {
	m := newMachine(t)
	m.pod("a")
	c := m.run(m.containerConfig("a", "app"))
	if c.State != runtime.Running || c.Pid == 0 || c.Started.IsZero() {
		t.Fatalf("got %+v", c)
	}
	if again := m.run(m.containerConfig("a", "app")); again != c {
		t.Errorf("the same attempt was started twice: %+v", again)
	}
	m.says(c, "serving")
	if err := m.RemoveContainer(t.Context(), "a", c.ID); err == nil {
		t.Error("a running container was removed")
	}
	if err := m.StopContainer(t.Context(), "a", c.ID, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	e := m.ended("a", "app")
	if e.ExitCode != 0 || e.Reason != completed || e.Finished.Before(e.Started) || e.OOM {
		t.Errorf("got %+v", e)
	}
	if got := m.log(e); got != "out serving\nout stopped\n" {
		t.Errorf("log %q", got)
	}
	for range 2 {
		if err := m.RemoveContainer(t.Context(), "a", c.ID); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := m.Pod(t.Context(), "a"); err != nil || len(p.Containers) != 0 || !p.Sandbox.Running {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestEndsAreTold(t *testing.T) {
	m := newMachine(t)
	m.pod("a")
	m.run(m.containerConfig("a", "fails", "exit", "3"))
	if e := m.ended("a", "fails"); e.ExitCode != 3 || e.Reason != failed || len(m.log(e)) != len("out leaving\nerr code 3\n") {
		t.Errorf("got %+v, %q", e, m.log(e))
	}
	eats := m.containerConfig("a", "eats", "eat")
	eats.Resources.MemoryBytes = 32 << 20
	m.run(eats)
	if e := m.ended("a", "eats"); !e.OOM || e.ExitCode != 137 || e.Reason != oomKilled {
		t.Errorf("got %+v", e)
	}
	stubborn := m.run(m.containerConfig("a", "stubborn", "stubborn"))
	m.says(stubborn, "stubborn")
	if err := m.StopContainer(t.Context(), "a", stubborn.ID, 200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if e := m.ended("a", "stubborn"); e.OOM || e.ExitCode != 137 || e.Reason != failed {
		t.Errorf("got %+v", e)
	}
	missing := m.containerConfig("a", "missing")
	missing.Command = []string{"/nowhere"}
	c := m.run(missing)
	if c.State != runtime.Exited || c.Reason != startError || c.ExitCode != 128 || !strings.Contains(c.Message, "/nowhere") {
		t.Errorf("got %+v", c)
	}
	if err := m.KillPause("a"); err != nil {
		t.Fatal(err)
	}
	m.await("a", "the pause ends", func(p runtime.Pod) bool { return !p.Sandbox.Running })
}

// KillPause ends a pod's pause from outside.
func (m *machine) KillPause(uid types.UID) error {
	s, err := m.sandboxes.Load(uid)
	if err != nil {
		return err
	}
	return s.Pause.Signal(unix.SIGKILL)
}

func TestPodIsAdoptedByTheNextPeer(t *testing.T) {
	m := newMachine(t)
	m.pod("a")
	runs := m.run(m.containerConfig("a", "runs"))
	m.says(runs, "serving")
	counts := m.containerConfig("a", "counts", "stubborn")
	dies := m.run(counts)
	m.run(m.containerConfig("a", "before", "exit", "4"))
	m.ended("a", "before")
	if err := m.RecordIP(t.Context(), "a", "10.244.0.9"); err != nil {
		t.Fatal(err)
	}
	m.stop()
	died, err := proc.Of(dies.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(dies.Pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := died.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.boot()
	m.ended("a", "counts") // which containerd may hear later than we
	p, err := m.Pod(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if !p.Sandbox.Running || p.Sandbox.IP != "10.244.0.9" || p.Namespace != "ns" || p.Name != "pod-a" || len(p.Containers) != 3 {
		t.Fatalf("got %+v", p)
	}
	// Sorted by name: before, counts, runs.
	if c := p.Containers[0]; c.State != runtime.Exited || c.ExitCode != 4 {
		t.Errorf("got %+v", c)
	}
	if c := p.Containers[1]; c.State != runtime.Exited || c.ExitCode != 137 || c.Finished.Before(dies.Started) {
		t.Errorf("got %+v", c)
	}
	c := p.Containers[2]
	if c.State != runtime.Running || c.Pid != runs.Pid || c.Started.Sub(runs.Started).Abs() > time.Second {
		t.Errorf("got %+v, want %+v", c, runs)
	}
	c.Started, c.Created = runs.Started, runs.Created
	if c != runs {
		t.Errorf("got %+v, want %+v", c, runs)
	}
	if err := m.StopContainer(t.Context(), "a", runs.ID, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if e := m.ended("a", "runs"); m.log(e) != "out serving\nout stopped\n" {
		t.Errorf("log %q", m.log(e))
	}
}

func TestContainersOutliveContainerd(t *testing.T) {
	m := newMachine(t)
	m.pod("a")
	c := m.run(m.containerConfig("a", "app"))
	dies := m.run(m.containerConfig("a", "dies", "stubborn"))
	st, err := m.keeper.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(st.Containerd, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// It ends while containerd is away.
	if err := unix.Kill(dies.Pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if e := m.ended("a", "dies"); e.ExitCode != 137 {
		t.Errorf("got %+v", e)
	}
	if p, err := m.Pod(t.Context(), "a"); err != nil || p.Containers[0].Pid != c.Pid || p.Containers[0].State != runtime.Running {
		t.Errorf("got %+v, %v", p, err)
	}
	m.run(m.containerConfig("a", "after", "exit", "0"))
	if e := m.ended("a", "after"); e.ExitCode != 0 {
		t.Errorf("got %+v", e)
	}
}

func TestOutputOutlivesTheKeeper(t *testing.T) {
	m := newMachine(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.keeper.Run(ctx) }()
	m.pod("a")
	st, err := m.keeper.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const lines = 200_000
	c := m.run(m.containerConfig("a", "counts", "count", fmt.Sprint(lines)))
	if err := unix.Kill(st.Pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	m.ended("a", "counts")
	b, err := os.ReadFile(c.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, "stdout") {
			n++
		}
	}
	// A keeper that is killed loses at most what it had read and not yet written.
	if n < lines-10_000 || n > lines+1 {
		t.Errorf("%d of %d lines", n, lines)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestPodsContainersShareNamespacesAndAShim(t *testing.T) {
	m := newMachine(t)
	m.pod("a", func(c *runtime.SandboxConfig) { c.SharePID = true })
	one := m.containerConfig("a", "one", "listen")
	one.SharePID = true
	first := m.run(one)
	m.says(first, "listening")
	two := m.containerConfig("a", "two", "call")
	two.SharePID = true
	m.run(two)
	if e := m.ended("a", "two"); m.log(e) != "out hello\n" {
		t.Errorf("log %q", m.log(e))
	}
	who := m.containerConfig("a", "who", "who")
	who.SharePID = true
	m.run(who)
	if e := m.ended("a", "who"); strings.Contains(m.log(e), " pid 1\n") || !strings.Contains(m.log(e), "host a ") {
		t.Errorf("log %q", m.log(e))
	}
	shims := map[string]bool{}
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		if b, _ := os.ReadFile(p); bytes.Contains(b, []byte("containerd-shim")) && bytes.Contains(b, []byte(m.dir+"/")) {
			shims[p] = true
		}
	}
	if len(shims) != 1 {
		t.Errorf("shims: %v", shims)
	}
}

func TestSecurityContext(t *testing.T) {
	m := newMachine(t)
	m.pod("a")
	c := m.containerConfig("a", "app", "who")
	c.Env = []string{"FROM=pod", "MORE=1"}
	c.Security = &corev1.SecurityContext{
		RunAsUser: new(int64(1000)), RunAsNonRoot: new(true), AllowPrivilegeEscalation: new(false),
		ReadOnlyRootFilesystem: new(true),
		Capabilities:           &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_BIND_SERVICE"}},
		SeccompProfile:         &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	c.PodSecurity = &corev1.PodSecurityContext{FSGroup: new(int64(4000)), SupplementalGroups: []int64{5000}}
	m.run(c)
	got := m.log(m.ended("a", "app"))
	for _, want := range []string{
		"uid 1000 gid 2000 groups [2000 3000 4000 5000] host a pid 1\n", "FROM=pod", "KEEP=1", "MORE=1", "HOSTNAME=a",
		"CapBnd:\t0000000000000400\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	strict := corev1.SupplementalGroupsPolicyStrict
	c.Name, c.PodSecurity.SupplementalGroupsPolicy = "strict", &strict
	m.run(c)
	if got := m.log(m.ended("a", "strict")); !strings.Contains(got, "gid 2000 groups [2000 4000 5000]") {
		t.Errorf("with the policy Strict:\n%s", got)
	}
	c.Name, c.Args = "writes", []string{"write", "/x", "y"}
	m.run(c)
	if e := m.ended("a", "writes"); e.ExitCode != 3 || !strings.Contains(m.log(e), "read-only file system") {
		t.Errorf("got %+v", e)
	}
	c.Name, c.Security.RunAsUser = "root", nil
	if _, err := m.StartContainer(t.Context(), c); runtime.Reason(err) != runtime.ReasonConfig {
		t.Errorf("got %v", err)
	}
	if p, _ := m.Pod(t.Context(), "a"); len(p.Containers) != 3 {
		t.Errorf("what could not be started is left: %+v", p)
	}
	c = m.containerConfig("a", "privileged", "who")
	c.Security = &corev1.SecurityContext{Privileged: new(true)}
	m.run(c)
	if e := m.ended("a", "privileged"); e.ExitCode != 0 {
		t.Errorf("got %+v", e)
	}
}

func TestMountsAndSharedMemory(t *testing.T) {
	m := newMachine(t)
	m.pod("a")
	dir := t.TempDir()
	for _, f := range []string{"hosts", "message"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("127.0.0.1 localhost\n"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	c := m.containerConfig("a", "reads", "read", "/etc/hosts")
	c.Mounts = []runtime.Mount{{HostPath: filepath.Join(dir, "hosts"), ContainerPath: "/etc/hosts", ReadOnly: true}}
	m.run(c)
	if e := m.ended("a", "reads"); m.log(e) != "out 127.0.0.1 localhost\n" {
		t.Errorf("log %q", m.log(e))
	}
	c = m.containerConfig("a", "tells", "write", "/dev/termination-log", "so long")
	c.TerminationPath = filepath.Join(dir, "message")
	m.run(c)
	m.ended("a", "tells")
	if b, _ := os.ReadFile(c.TerminationPath); !strings.HasPrefix(string(b), "so long") {
		t.Errorf("message %q", b)
	}
	m.run(m.containerConfig("a", "shares", "write", "/dev/shm/x", "shared"))
	m.ended("a", "shares")
	m.run(m.containerConfig("a", "finds", "read", "/dev/shm/x"))
	if e := m.ended("a", "finds"); m.log(e) != "out shared\n" {
		t.Errorf("log %q", m.log(e))
	}
	c = m.containerConfig("a", "limited", "read", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
	if m.tree.V2() {
		c.Args[1] = "/sys/fs/cgroup/memory.max"
	}
	c.Resources.MemoryBytes = 64 << 20
	m.run(c)
	if e := m.ended("a", "limited"); m.log(e) != "out 67108864\n" {
		t.Errorf("log %q", m.log(e))
	}
	below := filepath.Join(dir, "tree", "below")
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("none", below, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(below, syscall.MNT_DETACH) })
	for _, recursive := range []bool{false, true} {
		c = m.containerConfig("a", fmt.Sprintf("below-%v", recursive), "write", "/tree/below/x", "y")
		c.Mounts = []runtime.Mount{{HostPath: filepath.Dir(below), ContainerPath: "/tree", ReadOnly: true, Recursive: recursive}}
		m.run(c)
		if e := m.ended("a", c.Name); (e.ExitCode != 0) != recursive {
			t.Errorf("written below a read-only mount, recursive %v: %+v %s", recursive, e, m.log(e))
		}
	}
	c = m.containerConfig("a", "lacks")
	c.Mounts = []runtime.Mount{{HostPath: filepath.Join(dir, "nothing"), ContainerPath: "/x"}}
	if _, err := m.StartContainer(t.Context(), c); runtime.Reason(err) != runtime.ReasonConfig {
		t.Errorf("got %v", err)
	}
}

func TestExecStreamsAndCodes(t *testing.T) {
	m := newMachine(t)
	m.pod("a")
	c := m.run(m.containerConfig("a", "app"))
	var out, errs bytes.Buffer
	code, err := m.Exec(t.Context(), "a", c.ID, runtime.ExecConfig{
		Command: []string{"/probe", "exit", "7"}, Stdout: &out, Stderr: &errs,
	})
	if err != nil || code != 7 || out.String() != "leaving\n" || errs.String() != "code 7\n" {
		t.Errorf("%d, %v, %q, %q", code, err, out.String(), errs.String())
	}
	out.Reset()
	text := strings.Repeat("to and fro\n", 20_000)
	code, err = m.Exec(t.Context(), "a", c.ID, runtime.ExecConfig{
		Command: []string{"/probe", "cat"}, Stdin: strings.NewReader(text), Stdout: &out,
	})
	if err != nil || code != 0 || out.String() != text {
		t.Errorf("%d, %v, %d bytes", code, err, out.Len())
	}
	out.Reset()
	sizes := make(chan runtime.TerminalSize, 1)
	sizes <- runtime.TerminalSize{Width: 80, Height: 25}
	code, err = m.Exec(t.Context(), "a", c.ID, runtime.ExecConfig{
		Command: []string{"/probe", "exit", "0"}, TTY: true, Stdout: &out, Resize: sizes,
	})
	if err != nil || code != 0 || out.String() != "leaving\r\ncode 0\r\n" {
		t.Errorf("%d, %v, %q", code, err, out.String())
	}
	if _, err := m.Exec(t.Context(), "a", c.ID, runtime.ExecConfig{Command: []string{"/nowhere"}}); err == nil {
		t.Error("a command that is not there ran")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := m.Exec(ctx, "a", c.ID, runtime.ExecConfig{Command: []string{"/probe", "stubborn"}}); err == nil {
		t.Error("a command outlived its call")
	}
	if _, err := m.Exec(t.Context(), "a", "nothing", runtime.ExecConfig{}); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestAttach(t *testing.T) {
	m := newMachine(t)
	m.pod("a")
	cfg := m.containerConfig("a", "app", "cat")
	cfg.Stdin, cfg.StdinOnce = true, true
	c := m.run(cfg)
	var out bytes.Buffer
	if _, err := m.Exec(t.Context(), "a", c.ID, runtime.ExecConfig{
		Attach: true, Stdin: strings.NewReader("spoken\n"), Stdout: &out,
	}); err != nil {
		t.Error(err)
	}
	e := m.ended("a", "app")
	if e.ExitCode != 0 || m.log(e) != "out spoken\n" || out.String() != "spoken\n" {
		t.Errorf("%+v, log %q, output %q", e, m.log(e), out.String())
	}
}

func TestStats(t *testing.T) {
	m := newMachine(t)
	m.pod("a")
	m.run(m.containerConfig("a", "app"))
	s, err := m.Stats(t.Context(), "a")
	if err != nil || s.CPU == 0 || s.Memory == 0 || s.Containers["app"].Memory == 0 || s.Memory < s.Containers["app"].Memory {
		t.Errorf("got %+v, %v", s, err)
	}
	if s.PIDs < 2 { // the pause and the container
		t.Errorf("%d processes", s.PIDs)
	}
	if l, err := m.Layers(t.Context(), "a"); err != nil || l["app"].Inodes == 0 {
		t.Errorf("layers %+v, %v", l, err)
	}
	if l, err := m.Layers(t.Context(), "b"); err != nil || len(l) > 0 {
		t.Errorf("of no pod: %+v, %v", l, err)
	}
	if _, err := m.Stats(t.Context(), "b"); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// BenchmarkPodStart is a sandbox and one container, from nothing to running, and its removal.
func BenchmarkPodStart(b *testing.B) {
	for _, parallel := range []int{1, 4} {
		b.Run(fmt.Sprintf("parallel-%d", parallel), func(b *testing.B) {
			m := newMachine(b)
			var sandbox, container, remove []time.Duration
			n := 0
			for b.Loop() {
				uids := make([]types.UID, parallel)
				var g errgroup.Group
				mu := &m.mu
				for i := range uids {
					uids[i] = types.UID(fmt.Sprintf("bench-%d-%d", n, i))
					g.Go(func() error {
						begin := time.Now()
						m.pod(uids[i])
						middle := time.Now()
						m.run(m.containerConfig(uids[i], "app"))
						end := time.Now()
						mu.Lock()
						defer mu.Unlock()
						sandbox = append(sandbox, middle.Sub(begin))
						container = append(container, end.Sub(middle))
						return nil
					})
				}
				_ = g.Wait()
				for _, uid := range uids {
					g.Go(func() error {
						begin := time.Now()
						err := m.RemovePod(b.Context(), uid)
						mu.Lock()
						defer mu.Unlock()
						remove = append(remove, time.Since(begin))
						return err
					})
				}
				if err := g.Wait(); err != nil {
					b.Fatal(err)
				}
				n++
			}
			for name, took := range map[string][]time.Duration{"sandbox": sandbox, "container": container, "remove": remove} {
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, name+"-ms-median")
			}
		})
	}
}

// A pod's shim leaves with its last container; one that starts just then finds it still there, and gone a moment later.
func TestContainersStartWhileTheShimLeaves(t *testing.T) {
	m := newMachine(t)
	m.pod("a")
	for i := range 20 {
		names := []string{fmt.Sprintf("first-%d", i), fmt.Sprintf("second-%d", i)}
		for _, name := range names {
			m.run(m.containerConfig("a", name, "exit", "0"))
		}
		for _, name := range names {
			if e := m.ended("a", name); e.ExitCode != 0 || !strings.Contains(m.log(e), "leaving") {
				t.Fatalf("%+v", e)
			}
		}
	}
}
