//go:build e2e

package e2e

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"shoal/internal/lab"
)

// TestLossAndBusyCoresKillNobody has every machine lose 2 % of the packets that come in, and keeps all cores busy with other things. Nobody may be
// taken for dead, and the Master stays. LOSS_TIME says for how long, LOSS_PERCENT how much.
func TestLossAndBusyCoresKillNobody(t *testing.T) {
	span, err := time.ParseDuration(cmp.Or(os.Getenv("LOSS_TIME"), "20s"))
	if err != nil {
		t.Fatal("LOSS_TIME: ", err)
	}
	percent, err := strconv.ParseFloat(cmp.Or(os.Getenv("LOSS_PERCENT"), "2"), 64)
	if err != nil {
		t.Fatal("LOSS_PERCENT: ", err)
	}
	c := startLab(t, 3)
	apply(t, web(3))
	running(t, c.api, "web", 3, 60*time.Second)
	first := master(t)
	for _, name := range c.names {
		shoal(t, "lab", "exec", name, "--", "iptables", "-w", "-I", "INPUT", "-i", "eth0", "-m", "statistic", "--mode", "random", "--probability", fmt.Sprint(percent/100), "-j", "DROP")
	}
	keepBusy(t, 2*runtime.NumCPU())
	said := map[string]int{} // how long each peer's log was
	for _, name := range c.names {
		said[name] = len(peerLog(t, name))
	}
	w := startWriting(t, configMaps(clientFor(t, c.others(first)[0])), "loss")
	<-time.After(span) // the length of the measurement
	acked := w.stop()
	longest := time.Duration(0)
	for i := 1; i < len(w.times); i++ {
		longest = max(longest, w.times[i].Sub(w.times[i-1]))
	}
	states := map[string]int{}
	for _, name := range c.names {
		for _, m := range awayLine.FindAllStringSubmatch(peerLog(t, name)[said[name]:], -1) {
			states[m[1]]++
			t.Logf("%s: %s", name, m[0])
		}
	}
	t.Logf("FIGURES %v %% loss and %d busy processes for %v: %d times Silent, %d times Gone; the Master was %s and is %s; %d writes, the longest pause %v",
		percent, 2*runtime.NumCPU(), span, states["Silent"], states["Gone"], first, master(t), len(acked), longest)
	if states["Gone"] > 0 || states["Silent"] > 0 {
		t.Error("somebody was taken for dead")
	}
	if now := master(t); now != first {
		t.Errorf("%s is Master in the place of %s", now, first)
	}
	noneLost(t, c, acked)
	// A death that is one is seen, in the words that were looked for.
	victim, watcher := c.others(first)[0], c.others(first)[1]
	shoal(t, "lab", "kill", victim)
	within(t, 20*time.Second, watcher+" misses "+victim, func(context.Context) error {
		if !awayLine.MatchString(peerLog(t, watcher)[said[watcher]:]) {
			return errNotYet
		}
		return nil
	})
}

var awayLine = regexp.MustCompile(`msg="member does not answer" .*state=(Silent|Gone)`)

func peerLog(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(lab.Dir, name, "peer.log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// keepBusy runs so many processes that do nothing but count until the test ends, each in a session of its own, as programs of other people would be.
func keepBusy(t *testing.T, n int) {
	t.Helper()
	for range n {
		cmd := exec.Command("sh", "-c", "while :; do :; done")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			if err := cmd.Wait(); err != nil && !strings.Contains(err.Error(), "killed") {
				t.Error(fmt.Errorf("a busy process: %w", err))
			}
		})
	}
}
