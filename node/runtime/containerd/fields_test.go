package containerd

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"shoal/node/runtime"
)

func TestStopSignals(t *testing.T) {
	m := newMachine(t)
	m.pod("a")
	for name, c := range map[string]struct{ signal, want string }{
		"usual": {"", "terminated"}, "asked": {"SIGQUIT", "quit"},
	} {
		cfg := m.containerConfig("a", name, "signals")
		cfg.StopSignal = c.signal
		x := m.run(cfg)
		m.says(x, "waiting")
		if err := m.StopContainer(t.Context(), "a", x.ID, 20*time.Second); err != nil {
			t.Fatal(err)
		}
		if got := m.log(m.ended("a", name)); got != "out waiting\nout got "+c.want+"\n" {
			t.Errorf("%s: log %q", name, got)
		}
	}
}

func TestWorkingDirectoryAndEntrypoint(t *testing.T) {
	m := newMachine(t)
	m.pod("a")
	c := m.containerConfig("a", "relative", "read", "passwd")
	c.WorkingDir = "/etc"
	m.run(c)
	whole := m.containerConfig("a", "absolute")
	whole.Command, whole.Args = []string{"/probe", "read"}, []string{"/etc/passwd"}
	m.run(whole)
	got, want := m.log(m.ended("a", "relative")), m.log(m.ended("a", "absolute"))
	if got != want || got == "" {
		t.Errorf("%q and %q", got, want)
	}
}

// What /proc hides unless a container asks to see all of it.
// Who says nothing has the profile of RuntimeDefault, and so has who says nothing in a pod that says something else.
func TestSeccompProfiles(t *testing.T) {
	m := newMachine(t)
	m.pod("a")
	profile := func(kind corev1.SeccompProfileType) *corev1.SeccompProfile {
		if kind == "" {
			return nil
		}
		return &corev1.SeccompProfile{Type: kind}
	}
	const runtimeDefault, unconfined = corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined
	for name, x := range map[string]struct {
		pod, own   corev1.SeccompProfileType
		privileged bool
		want       string
	}{
		"nothing":       {want: "2"},
		"unconfined":    {own: unconfined, want: "0"},
		"pod":           {pod: unconfined, want: "0"},
		"both":          {pod: unconfined, own: runtimeDefault, want: "2"},
		"the-other-way": {pod: runtimeDefault, own: unconfined, want: "0"},
		"privileged":    {privileged: true, want: "0"},
	} {
		c := m.containerConfig("a", name, "who")
		c.Security = &corev1.SecurityContext{SeccompProfile: profile(x.own), Privileged: &x.privileged}
		c.PodSecurity = &corev1.PodSecurityContext{SeccompProfile: profile(x.pod)}
		m.run(c)
		if got := m.log(m.ended("a", name)); !strings.Contains(got, "Seccomp:\t"+x.want+"\n") {
			t.Errorf("%s: not %s in\n%s", name, x.want, got)
		}
	}
}

func TestProcMount(t *testing.T) {
	m := newMachine(t)
	m.pod("a")
	size := map[string]int{}
	for name, mount := range map[string]corev1.ProcMountType{"masked": corev1.DefaultProcMount, "unmasked": corev1.UnmaskedProcMount} {
		c := m.containerConfig("a", name, "read", "/proc/interrupts")
		c.Security = &corev1.SecurityContext{ProcMount: &mount}
		m.run(c)
		if b, err := os.ReadFile(m.ended("a", name).LogPath); err == nil { // who says nothing has no log
			size[name] = len(b)
		}
	}
	if size["masked"] != 0 || size["unmasked"] == 0 {
		t.Errorf("bytes of /proc/interrupts: %v", size)
	}
}

// What is mounted later below a volume is seen by a container that asked for it.
func TestPropagationOfMounts(t *testing.T) {
	m := newMachine(t)
	m.pod("a")
	dir := t.TempDir()
	if err := syscall.Mount(dir, dir, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	if err := syscall.Mount("", dir, "", syscall.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	run := map[corev1.MountPropagationMode]runtime.Container{}
	for _, mode := range []corev1.MountPropagationMode{corev1.MountPropagationNone, corev1.MountPropagationHostToContainer} {
		c := m.containerConfig("a", string(mode))
		c.Mounts = []runtime.Mount{{HostPath: dir, ContainerPath: "/tree", Propagation: mode}}
		run[mode] = m.run(c)
	}
	below := filepath.Join(dir, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("none", below, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(below, syscall.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(below, "x"), []byte("here"), 0o644); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[corev1.MountPropagationMode]string{corev1.MountPropagationNone: "", corev1.MountPropagationHostToContainer: "here"} {
		var out bytes.Buffer
		if _, err := m.Exec(t.Context(), "a", run[mode].ID, runtime.ExecConfig{Command: []string{"/probe", "read", "/tree/below/x"}, Stdout: &out}); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("%s: it sees %q, want %q", mode, out.String(), want)
		}
	}
}
