package cgroup

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const hybrid = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`

func TestHierarchiesAreFoundInMountinfo(t *testing.T) {
	got, err := parse(strings.NewReader(hybrid))
	if err != nil {
		t.Fatal(err)
	}
	if got.V2() {
		t.Error("version 1 beside version 2 is limited by version 1")
	}
	want := []string{
		"/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified",
	}
	if d := cmp.Diff(want, got.homes()); d != "" {
		t.Error(d)
	}
	two, _ := parse(strings.NewReader("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"))
	if !two.V2() || two.unified != "/sys/fs/cgroup" {
		t.Errorf("got %+v", two)
	}
}

func TestLimitsInBothVersions(t *testing.T) {
	l := Limits{CPUShares: 1024, CPUQuota: 50_000, Memory: 1 << 20, Pids: 7}
	one, _ := parse(strings.NewReader(hybrid))
	two := Tree{unified: "/u"}
	type row struct{ File, Value string }
	rows := func(s []setting) (out []row) {
		for _, x := range s {
			out = append(out, row{x.file, x.value})
		}
		return out
	}
	if d := cmp.Diff([]row{
		{"cpu.shares", "1024"},
		{"cpu.cfs_period_us", "100000"},
		{"cpu.cfs_quota_us", "50000"},
		{"memory.limit_in_bytes", "1048576"},
	}, rows(one.settings(l))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]row{
		{"cpu.weight", "39"}, {"cpu.max", "50000 100000"}, {"memory.max", "1048576"}, {"pids.max", "7"},
	}, rows(two.settings(l))); d != "" {
		t.Error(d)
	}
}

func TestLimitsAreLiftedInBothVersions(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{"cpu/cpu.cfs_quota_us": "-1", "memory/memory.limit_in_bytes": "-1", "two/cpu.max": "max", "two/memory.max": "max"}
	for name := range files {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("1000"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tree := range []Tree{{v1: map[string]string{"cpu": filepath.Join(dir, "cpu"), "memory": filepath.Join(dir, "memory")}}, {unified: filepath.Join(dir, "two")}} {
		if err := tree.Lift("."); err != nil {
			t.Error(err)
		}
	}
	for name, want := range files {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if got, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n"); err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("%s is %q, %v, want %s", name, got, err, want)
		}
	}
}

func TestUsageOfVersion2(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"cpu.stat": "usage_usec 1500\nuser_usec 1\n", "memory.current": "5000\n",
		"memory.stat": "anon 1\ninactive_file 2000\n", "memory.events": "oom 3\noom_kill 2\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tree := Tree{unified: dir}
	if u := tree.Usage("."); u.CPU.Microseconds() != 1500 || u.Memory != 3000 {
		t.Errorf("got %+v", u)
	}
	if n := tree.OOMKills("."); n != 2 {
		t.Errorf("got %d kills", n)
	}
}

func TestCgroupsOfThisMachine(t *testing.T) {
	all, err := Mounted()
	if err != nil || os.Getuid() != 0 {
		t.Skip("needs root and cgroups")
	}
	trees := map[string]Tree{"mounted": all}
	if !all.V2() && all.unified != "" {
		trees["unified"] = Tree{unified: all.unified, all: []string{all.unified}}
	}
	for name, tree := range trees {
		t.Run(name, func(t *testing.T) {
			path := "/shoal-test-" + filepath.Base(t.TempDir()) + name
			if err := tree.Make(path + "/a"); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("cat")
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if err := tree.Enter(path+"/a", cmd.Process.Pid); err != nil {
				t.Error(err)
			}
			if d := cmp.Diff([]int{cmd.Process.Pid}, tree.Processes(path)); d != "" {
				t.Error(d)
			}
			if !Holds(cmd.Process.Pid, path+"/a") {
				t.Error("the process is not seen in its cgroup")
			}
			if err := tree.Remove(path); err == nil {
				t.Error("a cgroup with a process was removed")
			}
			in.Close()
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			if err := tree.Remove(path); err != nil || tree.Exists(path) {
				t.Errorf("still there: %v", err)
			}
			if err := tree.Remove(path); err != nil {
				t.Errorf("removing twice: %v", err)
			}
		})
	}
	if err := all.Remove("/"); err == nil {
		t.Error("the root was removed")
	}
}
