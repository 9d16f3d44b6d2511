package containerd

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"shoal/node/runtime"
)

func TestARunningPodIsResized(t *testing.T) {
	m := newMachine(t)
	sized := func(cpu, memory int64) runtime.Resources {
		return runtime.Resources{CPUShares: uint64(cpu * 1024), CPUQuota: cpu * 100_000, CPUPeriod: 100_000, MemoryBytes: memory << 20}
	}
	m.pod("a", func(c *runtime.SandboxConfig) { c.Resources = sized(1, 64) })
	c := m.containerConfig("a", "app")
	c.Resources = sized(1, 64)
	run := m.run(c)
	has := func(when string, cpu, memory int64) {
		t.Helper()
		s, err := m.sandboxes.Load("a")
		if err != nil {
			t.Fatal(err)
		}
		want := sized(cpu, memory)
		for _, path := range []string{s.Cgroup, filepath.Join(s.Cgroup, run.ID)} {
			files := map[string]int64{"cpu/cpu.shares": int64(want.CPUShares), "cpu/cpu.cfs_quota_us": want.CPUQuota, "memory/memory.limit_in_bytes": want.MemoryBytes}
			if m.tree.V2() {
				files = map[string]int64{"memory/memory.max": want.MemoryBytes}
			}
			for file, value := range files {
				controller, name, _ := strings.Cut(file, "/")
				b, err := os.ReadFile(filepath.Join(m.tree.Files(controller, path), name))
				if err != nil {
					t.Fatal(err)
				}
				if got := strings.TrimSpace(string(b)); got != strconv.FormatInt(value, 10) {
					t.Errorf("%s: %s of %s is %s, want %d", when, name, path, got, value)
				}
			}
		}
		p, err := m.Pod(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Containers[0]; got.Resources != want || got.State != runtime.Running || got.Pid != run.Pid {
			t.Errorf("%s: %+v, want %+v", when, got, want)
		}
	}
	resize := func(cpu, memory int64) error {
		return m.Resize(t.Context(), "a", sized(cpu, memory), map[string]runtime.Resources{run.ID: sized(cpu, memory)})
	}
	has("at first", 1, 64)
	for _, size := range [][2]int64{{2, 128}, {1, 32}, {1, 32}, {3, 64}} {
		if err := resize(size[0], size[1]); err != nil {
			t.Fatal(err)
		}
		has("resized", size[0], size[1])
	}
	if err := m.Resize(t.Context(), "a", runtime.Resources{CPUShares: 2}, map[string]runtime.Resources{run.ID: {CPUShares: 2, MemoryBytes: 4096}}); err == nil || !strings.Contains(err.Error(), "uses") {
		t.Errorf("a limit below what is used: %v", err)
	}
	has("after a limit that would kill", 3, 64)
	m.stop()
	m.boot()
	has("in the next peer's life", 3, 64)
	if err := m.Resize(t.Context(), "b", sized(1, 1), nil); err == nil {
		t.Error("a pod that is not there was resized")
	}
}
