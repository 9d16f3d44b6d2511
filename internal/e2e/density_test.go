//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"shoal/internal/e2e/swarm"
)

// TestPodsOfOneMachine measures one machine's pods, beside containers of the same image that ctr and Docker start on the same cores: how soon one
// runs, how soon a hundred run and are gone, and what 250 cost that do nothing. It runs when SHOAL_PODS says how often each is started (make pods).
func TestPodsOfOneMachine(t *testing.T) {
	runs, err := strconv.Atoi(os.Getenv("SHOAL_PODS"))
	if err != nil || runs < 1 {
		t.Skip("set SHOAL_PODS: make pods")
	}
	c := startLab(t, 1)
	peer := labPeers(t)[0]
	report := func(what string, all []time.Duration) {
		t.Helper()
		slices.Sort(all)
		t.Logf("FIGURES %-44s median %v, worst %v of %d", what, all[len(all)/2].Round(time.Millisecond), all[len(all)-1].Round(time.Millisecond), len(all))
	}
	report("ctr run", bareStarts(t, runs))
	var all []time.Duration
	for i := range runs {
		all = append(all, c.podStart(t, c.api, fmt.Sprintf("start-%d", i)))
	}
	report("a pod, from its creation until a watch says it runs", all)
	report("a container of Docker, by its API", dockerStarts(t, runs))

	apply(t, strings.Replace(web(0), "        readinessProbe: {tcpSocket: {port: http}, periodSeconds: 1}\n", "", 1)) // nor asked anything
	before := field(t, fmt.Sprintf("/proc/%d/status", peer.Shoal.Pid), "VmRSS:") << 10
	for _, n := range []int{100, 250} {
		began := time.Now()
		shoal(t, "scale", "rc", "web", "--replicas", fmt.Sprint(n))
		running(t, c.api, "web", n, 5*time.Minute)
		up := time.Since(began)
		const length = 20 * time.Second
		collect(t, peer)
		was := processorTime(t, peer.Shoal.Pid)
		<-time.After(length)
		idle := processorTime(t, peer.Shoal.Pid) - was
		rss := field(t, fmt.Sprintf("/proc/%d/status", peer.Shoal.Pid), "VmRSS:")<<10 - before
		began = time.Now()
		shoal(t, "scale", "rc", "web", "--replicas", "0")
		gone(t, c.api, "web", 5*time.Minute)
		t.Logf("FIGURES 0 → %d pods run after %v; doing nothing they cost the agent %.2f %% of a core and %d KiB each; gone after %v", n,
			up.Round(time.Millisecond), 100*idle.Seconds()/length.Seconds(), rss/int64(n)>>10, time.Since(began).Round(time.Millisecond))
	}
}

// bareStarts has ctr run a container of the tests' image so many times, on the lab's machine and its containerd.
func bareStarts(t *testing.T, runs int) (all []time.Duration) {
	t.Helper()
	script := fmt.Sprintf(`set -e
ctr="ctr -a /run/shoal/containerd.sock -n bare"
$ctr images import %s >/dev/null
for i in $(seq %d); do
	s=$(date +%%s%%N)
	$ctr run -d shoal.local/probe:1 bare-$i /app sleep
	echo $(($(date +%%s%%N) - s))
	$ctr task kill -s 9 bare-$i
	until $ctr container rm bare-$i 2>/dev/null; do :; done
done
$ctr images rm shoal.local/probe:1 >/dev/null`, filepath.Join(repo(), "build/images/probe.tar"), runs)
	for line := range strings.Lines(shoal(t, "lab", "exec", "peer-1", "--", "sh", "-c", script)) {
		n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		if err != nil {
			t.Fatalf("ctr says %q", line)
		}
		all = append(all, time.Duration(n))
	}
	return all
}

// dockerStarts has Docker run one so many times.
func dockerStarts(t *testing.T, runs int) (all []time.Duration) {
	t.Helper()
	ctx := t.Context()
	s, err := swarm.Start(ctx, filepath.Join(repo(), "build/tools/dockerd"), t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	if err := s.Load(ctx, filepath.Join(repo(), "build/images/probe.tar")); err != nil {
		t.Fatal(err)
	}
	for range runs {
		began := time.Now()
		wait, err := s.Machines[0].Run(ctx, swarm.Own, "shoal.local/probe:1", "exit", "0")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, time.Since(began))
		bounded, cancel := context.WithTimeout(ctx, time.Minute)
		_, err = wait(bounded)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// processorTime is what a process has used of the cores: fields 14 and 15 of its stat, in hundredths of a second.
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	var ticks int64
	for _, i := range []int{11, 12} {
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
