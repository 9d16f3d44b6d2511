package containerd

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"shoal/node/runtime"
)

// TestAnotherProgramMakesContainers changes from runc to another program under a container that runs: that one stays runc's, and both are handled to their
// ends. The other one is runc by another name, because crun does not run where some cgroups are of version 1 and others of version 2.
func TestAnotherProgramMakesContainers(t *testing.T) {
	m := newMachine(t)
	m.pod("a")
	old := m.run(m.containerConfig("a", "old"))
	m.says(old, "serving")
	m.stop()
	m.config.OCIRuntime = filepath.Join(m.dir, "other")
	if err := os.WriteFile(m.config.OCIRuntime, []byte("#!/bin/sh\nexec runc \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.boot()
	for name, want := range map[string]string{"old": "runc", "new": "other"} {
		c := m.run(m.containerConfig("a", name))
		if c.State != runtime.Running {
			t.Fatalf("%s does not run: %+v", name, c)
		}
		m.says(c, "serving")
		if name == "old" && c.Pid != old.Pid {
			t.Errorf("the container of runc was started again: %+v", c)
		}
		if _, err := os.Stat(m.dir + "/run/" + want + "/shoal/" + c.ID); err != nil {
			t.Errorf("%s is not %s's: %v", name, want, err)
		}
		var out bytes.Buffer
		code, err := m.Exec(t.Context(), "a", c.ID, runtime.ExecConfig{Command: []string{"/probe", "exit", "3"}, Stdout: &out})
		if err != nil || code != 3 {
			t.Errorf("exec in %s: %d, %v, %q", name, code, err, out.String())
		}
		size := runtime.Resources{CPUShares: 512, CPUQuota: 50_000, CPUPeriod: 100_000, MemoryBytes: 64 << 20}
		if err := m.Resize(t.Context(), "a", size, map[string]runtime.Resources{c.ID: size}); err != nil {
			t.Errorf("resize %s: %v", name, err)
		}
		if err := m.StopContainer(t.Context(), "a", c.ID, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		if e := m.ended("a", name); e.ExitCode != 0 || e.Reason != completed {
			t.Errorf("%s ended: %+v", name, e)
		}
	}
	missing := m.containerConfig("a", "missing")
	missing.Command = []string{"/nowhere"}
	if c := m.run(missing); c.Reason != startError {
		t.Errorf("got %+v", c)
	}
}
