package node

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"shoal/internal/api"
	"shoal/node/pressure"
	"shoal/node/runtime"
)

// stock is what a machine says that it has. Safe for concurrent use.
type stock struct {
	mu  sync.Mutex
	all map[pressure.Resource]pressure.Level
}

func (s *stock) set(r pressure.Resource, available int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[r] = pressure.Level{Available: available, Capacity: 1000}
}

func (s *stock) now(string) map[pressure.Resource]pressure.Level {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.all)
}

// short makes the machine watch what it has, and say how much that is.
func (w *world) short() *stock {
	have := &stock{all: map[pressure.Resource]pressure.Level{}}
	for _, r := range pressure.All() {
		have.set(r, 500)
	}
	w.config = func(c *Config) {
		c.Thresholds = pressure.Thresholds{pressure.Memory: {Amount: 100}, pressure.Disk: {Share: 0.1}, pressure.Inodes: {Share: 0.1}, pressure.PIDs: {Share: 0.1}}
		c.Levels = have.now
	}
	w.halt()
	w.start()
	return have
}

// until lets time pass until is.
func (w *world) until(is func() bool) {
	w.t.Helper()
	for range 10 * int(lookEvery/time.Second) {
		if is() {
			return
		}
		w.pass(100 * time.Millisecond)
	}
	w.t.Fatal("it has not come to that")
}

func (w *world) condition(t corev1.NodeConditionType) corev1.ConditionStatus {
	for _, c := range w.theNode().Status.Conditions {
		if c.Type == t {
			return c.Status
		}
	}
	return ""
}

func guaranteed(memory string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		have := corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory), corev1.ResourceCPU: resource.MustParse("1m")}
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: have, Limits: have}
	}
}

// The one that uses more than it asked for goes; while memory is short nobody comes who asked for none; then all is as before.
func TestAMachineShortOfMemoryEndsOnePodAfterTheOther(t *testing.T) {
	inWorld(t, func(w *world) {
		have := w.short()
		modest := w.pod("modest", guaranteed("1Mi"))
		first, second := w.pod("first", nil), w.pod("second", nil)
		w.settle()
		w.runtime.SetStats(modest.UID, runtime.Stats{Memory: 900 << 10})
		w.runtime.SetStats(first.UID, runtime.Stats{Memory: 500})
		w.runtime.SetStats(second.UID, runtime.Stats{Memory: 400})
		w.pass(lookEvery)
		have.set(pressure.Memory, 50)
		w.until(func() bool { return w.get("first").Status.Phase == corev1.PodFailed })
		p := w.get("first")
		if p.Status.Phase != corev1.PodFailed || p.Status.Reason != "Evicted" || !strings.HasPrefix(p.Status.Message, "The node was low on resource: memory.") {
			t.Fatalf("status: %s %s", brief(p), p.Status.Message)
		}
		if c := api.PodCondition(p, corev1.DisruptionTarget); c == nil || c.Status != corev1.ConditionTrue || c.Reason != "TerminationByKubelet" {
			t.Errorf("condition: %+v", c)
		}
		w.wantRunning("modest")
		if got := w.condition(corev1.NodeMemoryPressure); got != corev1.ConditionTrue {
			t.Errorf("memory pressure: %s", got)
		}
		w.pod("late", nil)
		w.until(func() bool { return w.get("second").Status.Phase == corev1.PodFailed }) // the first was not enough
		have.set(pressure.Memory, 500)
		w.until(func() bool { return w.get("late").Status.Phase == corev1.PodFailed })
		if p := w.get("late"); p.Status.Reason != "Evicted" || !strings.Contains(p.Status.Message, "MemoryPressure") {
			t.Errorf("a pod that asks for no memory came: %s", brief(p))
		}
		if p := w.get("second"); p.Status.Reason != "Evicted" {
			t.Errorf("the second did not go when the first was not enough: %s", brief(p))
		}
		w.pass(pressureHolds - lookEvery)
		if got := w.condition(corev1.NodeMemoryPressure); got != corev1.ConditionTrue {
			t.Errorf("the condition went at once: %s", got)
		}
		w.pass(3 * lookEvery)
		if got := w.condition(corev1.NodeMemoryPressure); got != corev1.ConditionFalse {
			t.Errorf("the condition stayed: %s", got)
		}
		w.pod("later", nil)
		w.settle()
		w.wantRunning("later")
		w.wantRunning("modest")
	})
}

func TestAFullDiskIsFreedOfImagesBeforeOfPods(t *testing.T) {
	inWorld(t, func(w *world) {
		have := w.short()
		w.runtime.AddImage(runtime.Image{Name: "unused", Size: 100})
		w.runtime.AddImage(runtime.Image{Name: "by hand", Size: 100, Imported: true})
		p := w.pod("a", nil)
		w.settle()
		w.runtime.Wrote(p.UID, "c", runtime.Disk{Bytes: 10})
		names := func() string {
			all, _, err := w.runtime.Images(w.t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var out []string
			for _, i := range all {
				out = append(out, i.Name)
			}
			return strings.Join(out, ",")
		}
		have.set(pressure.Disk, 140) // 86 % used: images go, pods do not
		w.pass(imagesMinAge - lookEvery)
		if names() != "app,by hand,unused" {
			t.Errorf("images at first: %s", names())
		}
		w.pass(3 * lookEvery)
		if names() != "app,by hand" {
			t.Errorf("images then: %s", names())
		}
		w.wantRunning("a")
		have.set(pressure.Disk, 90)
		w.pass(lookEvery)
		if p := w.get("a"); p.Status.Reason != "Evicted" || w.condition(corev1.NodeDiskPressure) != corev1.ConditionTrue {
			t.Errorf("status: %s", brief(p))
		}
		critical := w.pod("critical", func(p *corev1.Pod) { p.Spec.Priority = new(int32); *p.Spec.Priority = lowestCritical })
		w.settle()
		w.runtime.Wrote(critical.UID, "c", runtime.Disk{Bytes: 10})
		w.pass(3 * lookEvery)
		w.wantRunning("critical")
	})
}

func TestWhoWritesMoreThanItsLimitGoes(t *testing.T) {
	inWorld(t, func(w *world) {
		w.short()
		limit := func(s string) func(*corev1.Pod) {
			return func(p *corev1.Pod) {
				p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse(s)}
			}
		}
		size := resource.MustParse("1Mi")
		fine, big := w.pod("fine", limit("1Mi")), w.pod("big", limit("1Mi"))
		vol := w.pod("vol", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &size}}}}
		})
		w.settle()
		w.runtime.Wrote(fine.UID, "c", runtime.Disk{Bytes: 500 << 10})
		w.runtime.Wrote(big.UID, "c", runtime.Disk{Bytes: 2 << 20})
		if err := os.WriteFile(filepath.Join(w.dir, "pods", string(vol.UID), "volumes", "scratch", "file"), make([]byte, 2<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		w.pass(lookEvery + time.Second)
		w.wantRunning("fine")
		for name, want := range map[string]string{
			"big": `Container c exceeded its local ephemeral storage limit "1Mi".`, "vol": `Usage of EmptyDir volume "scratch" exceeds the limit "1Mi".`,
		} {
			if p := w.get(name); p.Status.Phase != corev1.PodFailed || p.Status.Message != want {
				t.Errorf("%s: %s %q", name, brief(p), p.Status.Message)
			}
		}
		if len(w.held()) != 1 {
			t.Errorf("%d pods are still held", len(w.held()))
		}
	})
}

func TestDiskUsageCountsAFileOnce(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	before := diskUsage(dir)
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if after := diskUsage(dir); after != before || before.Bytes < 64<<10 || before.Inodes != 2 {
		t.Errorf("%+v, then %+v", before, after)
	}
	if got := diskUsage(filepath.Join(dir, "not there")); got != (runtime.Disk{}) {
		t.Errorf("of nothing: %+v", got)
	}
}

func TestLevelsOfThisMachine(t *testing.T) {
	got := levels(t.TempDir())
	for _, r := range []pressure.Resource{pressure.Memory, pressure.Disk, pressure.PIDs} {
		if l := got[r]; l.Capacity <= 0 || l.Available <= 0 || l.Available > l.Capacity {
			t.Errorf("%s: %+v", r, l)
		}
	}
}

// What images give back is enough: no pod goes for a disk that is no longer short.
func TestNoPodGoesWhereImagesAreEnough(t *testing.T) {
	inWorld(t, func(w *world) {
		have := w.short()
		w.runtime.AddImage(runtime.Image{Name: "unused", Size: 500})
		inner := w.config
		w.config = func(c *Config) {
			inner(c)
			levels := c.Levels
			c.Levels = func(dir string) map[pressure.Resource]pressure.Level {
				out := levels(dir)
				all, _, err := w.runtime.Images(w.t.Context())
				if err != nil {
					w.t.Error(err)
				}
				if len(all) == 1 {
					out[pressure.Disk] = pressure.Level{Available: 590, Capacity: 1000}
				}
				return out
			}
		}
		w.halt()
		w.start()
		p := w.pod("a", nil)
		w.settle()
		w.runtime.Wrote(p.UID, "c", runtime.Disk{Bytes: 10})
		have.set(pressure.Disk, 190)
		w.pass(lookEvery)
		have.set(pressure.Disk, 90)
		w.pass(2 * lookEvery)
		w.wantRunning("a")
		if got := w.condition(corev1.NodeDiskPressure); got != corev1.ConditionFalse {
			t.Errorf("disk pressure: %s", got)
		}
	})
}
