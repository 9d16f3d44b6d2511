//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// up is a running "shoal up". Its standard output and error are kept.
type up struct {
	m     *bare
	cmd   *exec.Cmd
	ended chan struct{}

	mu      sync.Mutex
	spoken  bytes.Buffer
	changed chan struct{} // closed at the next output
}

// up starts the machine's peer.
func (m *bare) up(args ...string) *up {
	m.t.Helper()
	u := &up{m: m, ended: make(chan struct{}), changed: make(chan struct{})}
	u.cmd = m.command(context.Background(), append([]string{"shoal", "up"}, args...)...)
	u.cmd.Stdout, u.cmd.Stderr = u, u
	must(m.t, m.start(u.cmd))
	m.daemon = u
	go func() {
		_ = u.cmd.Wait()
		close(u.ended)
	}()
	return u
}

// Write keeps what the peer says.
func (u *up) Write(b []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	close(u.changed)
	u.changed = make(chan struct{})
	return u.spoken.Write(b)
}

func (u *up) text() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.spoken.String()
}

// says waits until the peer has said a text.
func (u *up) says(text string, limit time.Duration) {
	u.m.t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		u.mu.Lock()
		changed, spoken := u.changed, u.spoken.String()
		u.mu.Unlock()
		if strings.Contains(spoken, text) {
			return
		}
		select {
		case <-changed:
		case <-u.ended:
			u.m.t.Fatalf("%s ended (%v) and never said %q:\n%s", u.m.name, u.cmd.ProcessState, text, u.text())
		case <-timer.C:
			u.m.t.Fatalf("%s did not say %q within %v:\n%s", u.m.name, text, limit, spoken)
		}
	}
}

func (u *up) ready() {
	u.m.t.Helper()
	u.says("msg=ready", 30*time.Second)
}

// ends waits for the peer to end by itself and returns its last words and exit code.
func (u *up) ends(limit time.Duration) said {
	u.m.t.Helper()
	select {
	case <-u.ended:
	case <-time.After(limit):
		u.m.t.Fatalf("%s still runs after %v:\n%s", u.m.name, limit, u.text())
	}
	return said{err: u.text(), code: u.cmd.ProcessState.ExitCode()}
}

// stop asks the peer to end and waits for it.
func (u *up) stop() {
	u.m.t.Helper()
	must(u.m.t, u.cmd.Process.Signal(syscall.SIGTERM))
	if got := u.ends(20 * time.Second); got.code != 0 {
		u.m.t.Errorf("%s ends with code %d:\n%s", u.m.name, got.code, got.err)
	}
}

// kill ends the peer's process as a crash would.
func (u *up) kill() {
	u.m.t.Helper()
	must(u.m.t, u.cmd.Process.Kill())
	u.ends(10 * time.Second)
}

// cgroups lists the mounted hierarchies.
func cgroups(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	var all []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[2] == "cgroup" || f[2] == "cgroup2" {
			all = append(all, f[1])
		}
	}
	return all
}

// makeCgroup makes a cgroup with what a version 1 cpuset needs before it takes a process.
func makeCgroup(t *testing.T, hierarchy, name string) {
	t.Helper()
	for part := range strings.SplitSeq(name, "/") {
		parent := hierarchy
		hierarchy = filepath.Join(hierarchy, part)
		must(t, os.MkdirAll(hierarchy, 0o755))
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if b, err := os.ReadFile(filepath.Join(parent, file)); err == nil && len(bytes.TrimSpace(b)) > 0 {
				must(t, os.WriteFile(filepath.Join(hierarchy, file), b, 0o644))
			}
		}
	}
}

// removeCgroup removes a cgroup whose processes are ending, and those below it.
func removeCgroup(t *testing.T, path string) {
	t.Helper()
	var dirs []string
	_ = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, p)
		}
		return nil
	})
	for i := len(dirs) - 1; i >= 0; i-- {
		deadline := time.Now().Add(5 * time.Second)
		for err := syscall.Rmdir(dirs[i]); err != nil && !errors.Is(err, fs.ErrNotExist); err = syscall.Rmdir(dirs[i]) {
			if time.Now().After(deadline) {
				t.Errorf("remove cgroup %s: %v", dirs[i], err)
				break
			}
			<-time.After(20 * time.Millisecond)
		}
	}
}
