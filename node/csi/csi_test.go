package csi

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"

	"shoal/node/csi/csitest"
)

// machine is a directory with drivers, and one driver that can be there or not.
type machine struct {
	t       *testing.T
	dir     string
	drivers *Drivers
	driver  *csitest.Driver
	stop    func()
}

func newMachine(t *testing.T) *machine {
	m := &machine{t: t, dir: t.TempDir()}
	m.drivers = New(Config{Dir: filepath.Join(m.dir, "kubelet"), Records: filepath.Join(m.dir, "pods")})
	for _, sub := range []string{"kubelet/plugins_registry", "data/vol"} {
		if err := os.MkdirAll(filepath.Join(m.dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.driver = &csitest.Driver{Name: "csi.test", NodeID: "here", Data: filepath.Join(m.dir, "data"), Endpoint: m.socket()}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = m.drivers.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = unix.Unmount(filepath.Join(m.dir, "kubelet"), unix.MNT_DETACH)
	})
	return m
}

func (m *machine) socket() string {
	return filepath.Join(m.dir, "kubelet/plugins_registry/csi.test.sock")
}

// serve starts the driver.
func (m *machine) serve() {
	m.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.driver.Serve(ctx, m.socket()) }()
	m.stop = func() {
		cancel()
		<-done
		_ = os.Remove(m.socket())
	}
	m.t.Cleanup(func() { cancel() })
}

// wait waits until those are the drivers.
func (m *machine) wait(want ...string) {
	m.t.Helper()
	late := time.After(20 * time.Second)
	for {
		list, changed := m.drivers.List()
		var got []string
		for _, d := range list {
			got = append(got, d.Name)
		}
		if slices.Equal(got, want) {
			return
		}
		select {
		case <-changed:
		case <-late:
			m.t.Fatalf("drivers %v, want %v", got, want)
		}
	}
}

func (m *machine) volume() Volume {
	return Volume{Driver: "csi.test", Handle: "vol", Name: "data", AccessMode: corev1.ReadWriteOnce}
}

// mounted is a machine with a driver, whose volume pod a has.
func mounted(t *testing.T) (m *machine, at string) {
	t.Helper()
	m = newMachine(t)
	m.serve()
	m.wait("csi.test")
	at, _, err := m.drivers.Mount(t.Context(), "a", m.volume())
	if err != nil {
		t.Fatal(err)
	}
	return m, at
}

func (m *machine) called(want ...string) {
	m.t.Helper()
	if got := m.driver.Calls(); !slices.Equal(got, want) {
		m.t.Errorf("called %v, want %v", got, want)
	}
}

// nothingLeft demands that nothing is mounted, on record or in the drivers' directories.
func (m *machine) nothingLeft() {
	m.t.Helper()
	for _, pattern := range []string{"pods/*/csi", "kubelet/pods/*", "kubelet/plugins/kubernetes.io/csi/*/*"} {
		if left, _ := filepath.Glob(filepath.Join(m.dir, pattern)); len(left) > 0 {
			m.t.Errorf("left: %v", left)
		}
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		m.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); strings.HasPrefix(f[4], m.dir+"/kubelet/") {
			m.t.Errorf("still mounted: %s", f[4])
		}
	}
}

const (
	stages, publishes     = "NodeStageVolume", "NodePublishVolume"
	unstages, unpublishes = "NodeUnstageVolume", "NodeUnpublishVolume"
)

func TestDriversComeAndGo(t *testing.T) {
	m := newMachine(t)
	m.wait()
	m.serve()
	m.wait("csi.test")
	list, _ := m.drivers.List()
	if d := list[0]; d.NodeID != "here" || d.Most != 20 || d.Topology[csitest.TopologyKey] != "here" {
		t.Errorf("got %+v", d)
	}
	if told := m.driver.Told(); told == nil || !told.PluginRegistered {
		t.Errorf("it was told %v", told)
	}
	m.stop()
	m.wait()
	m.serve()
	m.wait("csi.test")
}

func TestPluginsThatAreNoDriversHere(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*csitest.Driver)
		want   string // that it is told; empty when it is no driver at all
	}{
		"a device plugin": {func(d *csitest.Driver) { d.Type = "DevicePlugin" }, ""},
		"of tomorrow":     {func(d *csitest.Driver) { d.Versions = []string{"2.0.0"} }, "speaks CSI"},
		"without a name":  {func(d *csitest.Driver) { d.Name = "" }, "is none"},
		"a way out":       {func(d *csitest.Driver) { d.Name = "../x" }, "is none"},
		"nowhere":         {func(d *csitest.Driver) { d.Endpoint = "csi.sock" }, "no absolute path"},
		"not there":       {func(d *csitest.Driver) { d.Endpoint = "/nowhere/csi.sock" }, "NodeGetInfo"},
		"nobody here":     {func(d *csitest.Driver) { d.NodeID = "" }, "no name"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			c.change(m.driver)
			m.serve()
			x, err := m.drivers.meet(t.Context(), socket{path: m.socket()})
			for range 100 { // until it listens
				if err == nil || !strings.Contains(err.Error(), "ask who it is") {
					break
				}
				x, err = m.drivers.meet(t.Context(), socket{path: m.socket()})
			}
			if x != nil {
				t.Fatalf("got %+v", x.Driver)
			}
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || m.driver.Told().PluginRegistered || !strings.Contains(m.driver.Told().Error, c.want) {
				t.Errorf("%v, told %v, want %q", err, m.driver.Told(), c.want)
			}
		})
	}
}

func TestAVolumeIsStagedOnceForAllItsPods(t *testing.T) {
	m := newMachine(t)
	if _, _, err := m.drivers.Mount(t.Context(), "a", m.volume()); !errors.Is(err, ErrNoDriver) {
		t.Errorf("without a driver: %v", err)
	}
	m.serve()
	m.wait("csi.test")
	at, _, err := m.drivers.Mount(t.Context(), "a", m.volume())
	if err != nil {
		t.Fatal(err)
	}
	m.called(stages, publishes)
	if err := os.WriteFile(filepath.Join(at, "x"), []byte("y"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(m.dir, "data/vol/x")); err != nil || string(b) != "y" {
		t.Errorf("the volume has %q, %v", b, err)
	}
	if again, _, err := m.drivers.Mount(t.Context(), "a", m.volume()); err != nil || again != at {
		t.Errorf("again: %s, %v", again, err)
	}
	m.called()
	reads := m.volume()
	reads.ReadOnly = true
	other, _, err := m.drivers.Mount(t.Context(), "b", reads)
	if err != nil {
		t.Fatal(err)
	}
	m.called(stages, publishes)
	if err := os.WriteFile(filepath.Join(other, "z"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("written where it may only be read: %v", err)
	}
	for i := range 2 {
		if err := m.drivers.Unmount(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		m.called([][]string{{unpublishes}, nil}[i]...)
	}
	if err := m.drivers.Unmount(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	m.called(unpublishes, unstages)
	m.nothingLeft()
}

func TestWhatFailsHalfWayIsUndone(t *testing.T) {
	for _, method := range []string{stages, publishes} {
		m := newMachine(t)
		m.serve()
		m.wait("csi.test")
		m.driver.Fail(method, status.Error(codes.Internal, "no luck"))
		if _, _, err := m.drivers.Mount(t.Context(), "a", m.volume()); err == nil || !strings.Contains(err.Error(), "no luck") {
			t.Fatalf("%s: %v", method, err)
		}
		t.Log("the next life of the peer ends it")
		next := New(m.drivers.cfg)
		next.byName = m.drivers.byName
		for _, undo := range []string{unpublishes, unstages} {
			m.driver.Fail(undo, status.Error(codes.Internal, "not now"))
			if err := next.Unmount(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "not now") {
				t.Errorf("%s: %v", undo, err)
			}
		}
		if err := next.Unmount(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		m.nothingLeft()
	}
}

func TestADriverThatIsAway(t *testing.T) {
	m, at := mounted(t)
	m.stop()
	m.wait()
	if again, ok := m.drivers.Mounted("a", "data"); !ok || again != at {
		t.Errorf("what is mounted: %s, %v", again, ok)
	}
	if _, ok := m.drivers.Mounted("b", "data"); ok {
		t.Error("it is mounted for another pod, too")
	}
	if err := m.drivers.Unmount(t.Context(), "a"); !errors.Is(err, ErrNoDriver) {
		t.Errorf("unmounted without a driver: %v", err)
	}
	t.Log("the machine is restarted, and the driver never comes back")
	list, _ := filepath.Glob(filepath.Join(m.dir, "kubelet/plugins/kubernetes.io/csi/csi.test/*/globalmount"))
	for _, path := range append(list, at) {
		if err := unix.Unmount(path, 0); err != nil {
			t.Fatal(path, err)
		}
	}
	if err := m.drivers.Unmount(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	m.nothingLeft()
}

func TestDataIsNeverRemoved(t *testing.T) {
	m, at := mounted(t)
	m.driver.Fail(unpublishes, status.Error(codes.NotFound, "I know of nothing")) // although it is mounted
	if err := os.WriteFile(filepath.Join(at, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.drivers.Unmount(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "still mounted") {
		t.Errorf("%v", err)
	}
	if err := m.drivers.Unmount(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(m.dir, "data/vol/precious")); err != nil {
		t.Error(err)
	}
	m.nothingLeft()
}
