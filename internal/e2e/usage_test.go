//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"shoal/internal/lab"
)

// usage is what a peer and its machine take.
type usage struct {
	cpu        time.Duration // of all processes of the machine since they started
	rss        int64         // of the shoal process, bytes
	pss        int64         // of all processes of the machine
	goroutines int           // of the shoal process
	files      int           // open in the shoal process
	mounts     int
	cgroups    int
	chains     int
	links      int
}

// usageOf looks at a machine of the lab from outside.
func usageOf(t *testing.T, p lab.Peer) usage {
	t.Helper()
	var u usage
	b, err := os.ReadFile("/sys/fs/cgroup/cpuacct/shoal-lab/" + p.Name + "/cpuacct.usage")
	if err != nil {
		t.Fatal(err)
	}
	ns, _ := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	u.cpu = time.Duration(ns)
	u.goroutines = goroutines(t, p)
	u.rss = field(t, fmt.Sprintf("/proc/%d/status", p.Shoal.Pid), "VmRSS:") << 10
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Shoal.Pid))
	if err != nil {
		t.Fatal(err)
	}
	u.files = len(fds)
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", p.Shoal.Pid))
	if err != nil {
		t.Fatal(err)
	}
	u.mounts = bytes.Count(mounts, []byte("\n"))
	_ = filepath.WalkDir("/sys/fs/cgroup/pids/shoal-lab/"+p.Name, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if d.IsDir() {
			u.cgroups++
		}
		if d.Name() == "cgroup.procs" {
			procs, _ := os.ReadFile(path)
			for _, pid := range strings.Fields(string(procs)) {
				if b, err := os.ReadFile("/proc/" + pid + "/smaps_rollup"); err == nil {
					u.pss += value(b, "Pss:") << 10
				}
			}
		}
		return nil
	})
	u.chains = strings.Count(shoal(t, "lab", "exec", p.Name, "--", "iptables-save"), "\n:")
	u.links = strings.Count(shoal(t, "lab", "exec", p.Name, "--", "ip", "-o", "link"), "\n")
	return u
}

// goroutines asks the peer for its profile, whose first line counts them.
func goroutines(t *testing.T, p lab.Peer) int {
	t.Helper()
	resp, err := clientFor(t, p.Name).Do(t.Context(), "GET", "/shoal/v1/pprof/goroutine", url.Values{"debug": {"1"}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if _, err := fmt.Sscanf(line, "goroutine profile: total %d", &n); err != nil {
		t.Fatalf("profile begins with %q", line)
	}
	return n
}

// collect has the peer collect its garbage.
func collect(t *testing.T, p lab.Peer) {
	t.Helper()
	resp, err := clientFor(t, p.Name).Do(t.Context(), "GET", "/shoal/v1/pprof/heap", url.Values{"gc": {"1"}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}

func field(t *testing.T, file, name string) int64 {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return value(b, name)
}

func value(b []byte, name string) int64 {
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n
		}
	}
	return 0
}
