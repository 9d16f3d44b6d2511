package containerd

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/node/keeper"
	"shoal/node/runtime"
	"shoal/node/runtime/cgroup"
	"shoal/node/runtime/proc"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "keeper" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		err := keeper.Main(ctx, os.Args[2:])
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// machine is one host: a keeper with a containerd of its own, and the runtime under test.
type machine struct {
	t      testing.TB
	dir    string
	keeper *keeper.Client
	config Config
	*Runtime
	cancel context.CancelFunc
	done   chan error
	mu     sync.Mutex
	wake   chan struct{} // closed and replaced at every event
}

const imageName = "docker.io/library/probe:latest"

func newMachine(t testing.TB) *machine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for _, p := range []string{"containerd", "runc"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
	dir, err := os.MkdirTemp("", "shoal") // paths of sockets have to be short
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context())
	parent := "/" + filepath.Base(dir)
	kc := keeper.Config{DataDir: dir + "/data", RunDir: dir + "/run", CgroupParent: parent}
	m := &machine{t: t, dir: dir, wake: make(chan struct{})}
	if m.keeper, err = keeper.Ensure(ctx, kc); err != nil {
		t.Fatal(err)
	}
	level := slog.LevelWarn
	if testing.Verbose() {
		level = slog.LevelDebug
	}
	m.config = Config{
		Socket: m.keeper.Socket(), RunDir: dir + "/run", CgroupParent: parent, Keeper: m.keeper,
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: level})),
	}
	t.Cleanup(func() { m.finish(ctx, parent) })
	m.boot()
	if _, err := m.Import(ctx, bytes.NewReader(archive(t, imageName))); err != nil {
		t.Fatal(err)
	}
	return m
}

// boot starts a runtime, as a peer's start does.
func (m *machine) boot() {
	m.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(m.t.Context()))
	m.Runtime, m.cancel, m.done = New(m.config), cancel, make(chan error, 1)
	r := m.Runtime
	go func() { m.done <- r.Run(ctx) }()
	go func() { _ = r.Events(ctx, m.changed) }()
	select {
	case <-r.Ready():
	case err := <-m.done:
		m.t.Fatalf("runtime ended: %v", err)
	case <-time.After(20 * time.Second):
		m.t.Error("not ready")
	}
}

func (m *machine) stop() {
	m.t.Helper()
	m.cancel()
	m.cancel = nil
	if err := <-m.done; err != nil {
		m.t.Errorf("runtime: %v", err)
	}
}

func (m *machine) changed(types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.wake)
	m.wake = make(chan struct{})
}

// await looks at a pod at every event until ok.
func (m *machine) await(uid types.UID, what string, ok func(runtime.Pod) bool) runtime.Pod {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 30*time.Second)
	defer cancel()
	for {
		m.mu.Lock()
		wake := m.wake
		m.mu.Unlock()
		p, err := m.Pod(ctx, uid)
		if err == nil && ok(p) {
			return p
		}
		select {
		case <-wake:
		case <-ctx.Done():
			m.t.Fatalf("%s: it never came to this: %+v, %v", what, p, err)
		}
	}
}

func (m *machine) ended(uid types.UID, name string) runtime.Container {
	m.t.Helper()
	var c runtime.Container
	m.await(uid, name+" ends", func(p runtime.Pod) bool {
		for _, c = range p.Containers {
			if c.Name == name {
				return c.State == runtime.Exited
			}
		}
		return false
	})
	return c
}

// pod starts a sandbox.
func (m *machine) pod(uid types.UID, change ...func(*runtime.SandboxConfig)) runtime.Sandbox {
	m.t.Helper()
	c := runtime.SandboxConfig{UID: uid, Namespace: "ns", Name: "pod-" + string(uid), Hostname: string(uid)}
	for _, f := range change {
		f(&c)
	}
	s, err := m.StartSandbox(m.t.Context(), c)
	if err != nil {
		m.t.Fatal(err)
	}
	return s
}

func (m *machine) containerConfig(uid types.UID, name string, args ...string) runtime.ContainerConfig {
	m.t.Helper()
	img, err := m.Image(m.t.Context(), "probe", runtime.Pull{Policy: corev1.PullIfNotPresent})
	if err != nil {
		m.t.Fatal(err)
	}
	return runtime.ContainerConfig{
		UID: uid, Namespace: "ns", Pod: "pod-" + string(uid), Name: name, Image: img, Args: args,
		LogPath: filepath.Join(m.dir, "logs", string(uid), name, "0.log"),
	}
}

func (m *machine) run(c runtime.ContainerConfig) runtime.Container {
	m.t.Helper()
	x, err := m.StartContainer(m.t.Context(), c)
	if err != nil {
		m.t.Fatal(err)
	}
	return x
}

// says waits until a container has written text.
func (m *machine) says(c runtime.Container, text string) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 30*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if b, _ := os.ReadFile(c.LogPath); bytes.Contains(b, []byte(text)) {
			return
		}
		goruntime.Gosched()
	}
	m.t.Fatalf("%s never said %q", c.Name, text)
}

// log returns a container's output, without times.
func (m *machine) log(c runtime.Container) string {
	m.t.Helper()
	b, err := os.ReadFile(c.LogPath)
	if err != nil {
		m.t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(b)) {
		out.WriteString(strings.SplitN(line, " ", 4)[1][3:] + " " + strings.SplitN(line, " ", 4)[3])
	}
	return out.String()
}

// finish removes every pod, ends everything and checks that nothing is left on the machine.
func (m *machine) finish(ctx context.Context, parent string) {
	if m.cancel == nil {
		m.boot()
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	pods, err := m.Pods(ctx)
	if err != nil {
		m.t.Error(err)
	}
	for _, p := range pods {
		if err := m.RemovePod(ctx, p.UID); err != nil {
			m.t.Error(err)
		}
	}
	m.nothingLeft(ctx)
	m.stop()
	if err := m.keeper.Shutdown(ctx, false); err != nil {
		m.t.Error(err)
	}
	tree, err := cgroup.Mounted()
	if err != nil {
		m.t.Fatal(err)
	}
	// Shims, and what containerd starts to clean up after them, end a moment after the last container was removed.
	for err = tree.Remove(parent); err != nil && ctx.Err() == nil; err = tree.Remove(parent) {
		for _, pid := range tree.Processes(parent) {
			if p, err := proc.Of(pid); err == nil {
				_ = p.Wait(ctx)
			}
		}
		select {
		case <-time.After(20 * time.Millisecond): // a cgroup tells nobody that it is empty
		case <-ctx.Done():
		}
	}
	if err != nil {
		m.t.Errorf("processes are left: %v", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), m.dir) {
		m.t.Errorf("mounts are left: %v\n%s", err, mounts)
		return
	}
	os.RemoveAll(m.dir)
}

func (m *machine) nothingLeft(ctx context.Context) {
	if left, err := m.client.Containers(ctx); err != nil || len(left) != 0 {
		m.t.Errorf("containers are left: %v, %v", left, err)
	}
	for _, dir := range []string{"/run/pods", "/run/runc/shoal", "/run/containerd/io.containerd.runtime.v2.task/shoal"} {
		if left, err := os.ReadDir(m.dir + dir); err == nil && len(left) != 0 {
			m.t.Errorf("%s holds %v", dir, left)
		}
	}
	if st, err := m.keeper.Status(ctx); err != nil || st.Drains != 0 {
		m.t.Errorf("drains are left: %+v, %v", st, err)
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		b, _ := os.ReadFile(p)
		if bytes.Contains(b, []byte("containerd-shim")) && bytes.Contains(b, []byte(m.dir+"/")) {
			m.t.Errorf("a shim is left: %s %q", p, b)
		}
	}
}

var buildProbe = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "probe")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", dir+"/probe", "./testdata/probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(dir + "/probe")
})

// image returns an image with the probe and a few users.
func probeImage(t testing.TB) v1.Image {
	t.Helper()
	probe, err := buildProbe()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range []struct {
		name string
		mode int64
		data []byte
	}{
		{"probe", 0o755, probe},
		{"etc/passwd", 0o644, []byte("root:x:0:0::/:/probe\napp:x:1000:2000::/:/probe\n")},
		{"etc/group", 0o644, []byte("root:x:0:\napp:x:2000:\nextra:x:3000:app\n")},
	} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", goruntime.GOARCH
	file.Config = v1.Config{Entrypoint: []string{"/probe"}, Cmd: []string{"serve"}, Env: []string{"FROM=image", "KEEP=1"}}
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}

func archive(t testing.TB, ref string) []byte {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tarball.Write(tag, probeImage(t), &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
