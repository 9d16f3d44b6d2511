//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"shoal/internal/lab"
)

// snapshot is all of the machine that a lab could leave something in.
type snapshot map[string][]string

func look(t *testing.T) snapshot {
	t.Helper()
	s := snapshot{}
	lines := func(what string, out []byte) {
		for line := range bytes.Lines(out) {
			s[what] = append(s[what], strings.TrimSpace(string(line)))
		}
		slices.Sort(s[what])
	}
	run := func(what, name string, args ...string) {
		out, err := exec.Command(name, args...).Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		lines(what, out)
	}
	run("links", "ip", "-o", "-br", "link")
	run("routes", "ip", "route")
	run("rules", "iptables-save", "-t", "filter")
	run("nat", "iptables-save", "-t", "nat")
	for i, r := range s["rules"] { // comments hold times, policies hold counters
		if strings.HasPrefix(r, "#") || strings.HasPrefix(r, ":") {
			s["rules"][i] = ""
		}
	}
	for i, r := range s["nat"] {
		if strings.HasPrefix(r, "#") || strings.HasPrefix(r, ":") {
			s["nat"][i] = ""
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	lines("mounts", mounts)
	s["processes"] = ours(t)
	s["namespaces"] = globs(t, "/run/netns/*")
	s["cgroups"] = globs(t, "/sys/fs/cgroup/*/shoal*", "/sys/fs/cgroup/shoal*")
	s["files"] = globs(t, lab.Dir, "/run/shoal*")
	return s
}

func globs(t *testing.T, patterns ...string) []string {
	t.Helper()
	var all []string
	for _, p := range patterns {
		found, err := filepath.Glob(p)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

// ours lists the processes that a lab starts, by what they run.
func ours(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, exe := range globs(t, "/proc/[0-9]*/cmdline") {
		b, err := os.ReadFile(exe)
		if err != nil {
			continue
		}
		cmd := strings.ReplaceAll(string(b), "\x00", " ")
		for _, word := range []string{"shoal-lab", "containerd", "bin/shoal"} {
			if strings.Contains(cmd, word) {
				all = append(all, cmd)
				break
			}
		}
	}
	slices.Sort(all)
	return all
}

func (s snapshot) compare(t *testing.T, after snapshot) {
	t.Helper()
	for what, before := range s {
		if !slices.Equal(before, after[what]) {
			t.Errorf("%s changed:\nbefore: %q\nafter:  %q", what, before, after[what])
		}
	}
}

// TestLabLeavesNothing compares the machine before a lab with pods and after it.
func TestLabLeavesNothing(t *testing.T) {
	if _, err := tryShoal(t.Context(), "lab", "down"); err != nil && !strings.Contains(err.Error(), "no lab") {
		t.Fatal(err)
	}
	before := look(t)
	t.Run("with a lab", func(t *testing.T) {
		c := startLab(t, 3)
		apply(t, web(6))
		running(t, c.api, "web", 6, 60*time.Second)
		if slices.Equal(before["processes"], look(t)["processes"]) {
			t.Error("the comparison does not see a running lab")
		}
	})
	before.compare(t, look(t))
}

// TestLabUpKilledInTheMiddle kills lab up as it works; the next lab up must clean up and succeed.
func TestLabUpKilledInTheMiddle(t *testing.T) {
	if _, err := tryShoal(t.Context(), "lab", "down"); err != nil && !strings.Contains(err.Error(), "no lab") {
		t.Fatal(err)
	}
	before := look(t)
	for _, after := range []time.Duration{20 * time.Millisecond, 150 * time.Millisecond, 500 * time.Millisecond} {
		cmd := exec.Command(binary(), "lab", "up")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-time.After(after)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Run("the next one works", func(t *testing.T) { startLab(t, 3) })
	before.compare(t, look(t))
}

// TestSecondLabIsRefused names the remedy and leaves the first alone.
func TestSecondLabIsRefused(t *testing.T) {
	startLab(t, 1)
	_, err := tryShoal(t.Context(), "lab", "up")
	if err == nil || !strings.Contains(err.Error(), "shoal lab down") {
		t.Errorf("second lab up: %v", err)
	}
	shoal(t, "get", "nodes")
}
