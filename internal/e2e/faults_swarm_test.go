//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"shoal/internal/e2e/swarm"
)

// swarmFault is what one of faults is to a swarm.
type swarmFault struct {
	name  string
	hurt  func(m *swarm.Machine) error
	mend  func(ctx context.Context, s *swarm.Swarm, m *swarm.Machine) error
	moves bool // the machine's replicas must come up elsewhere
}

var swarmFaults = []swarmFault{
	{
		name: "process killed",
		hurt: func(m *swarm.Machine) error { return m.Signal(syscall.SIGKILL) },
		mend: func(ctx context.Context, _ *swarm.Swarm, m *swarm.Machine) error { return m.StartProcess(ctx) },
	},
	{
		name: "process frozen",
		hurt: func(m *swarm.Machine) error { return m.Signal(syscall.SIGSTOP) },
		mend: func(_ context.Context, _ *swarm.Swarm, m *swarm.Machine) error { return m.Signal(syscall.SIGCONT) },
	},
	{
		name: "machine killed", moves: true,
		hurt: (*swarm.Machine).Kill,
		mend: func(ctx context.Context, s *swarm.Swarm, m *swarm.Machine) error { return s.Boot(ctx, m) },
	},
	{
		name: "machine frozen", moves: true,
		hurt: (*swarm.Machine).Freeze,
		mend: func(_ context.Context, _ *swarm.Swarm, m *swarm.Machine) error { return m.Thaw() },
	},
	{
		name: "link cut", moves: true,
		hurt: func(m *swarm.Machine) error { return m.Link(false) },
		mend: func(_ context.Context, _ *swarm.Swarm, m *swarm.Machine) error { return m.Link(true) },
	},
	{
		name: "graceful stop",
		hurt: func(m *swarm.Machine) error { return m.Signal(syscall.SIGTERM) },
		mend: func(ctx context.Context, _ *swarm.Swarm, m *swarm.Machine) error { return m.StartProcess(ctx) },
	},
}

// swarmImage holds the probe.
const swarmImage = "shoal.local/probe:1"

// TestFaultsOfSwarm hurts the machine of a swarm's leader as TestFaults does the Master's: six replicas, a client on another
// machine asking for them 50 times a second, and a writer at another manager. It counts only beside TestFaults on the same machine.
func TestFaultsOfSwarm(t *testing.T) {
	runs, err := strconv.Atoi(os.Getenv("SHOAL_FAULT_RUNS"))
	dockerd := filepath.Join(repo(), "build/tools/dockerd")
	if _, missing := os.Stat(dockerd); err != nil || missing != nil {
		t.Skip("only a comparison: make faults-of-swarm runs it")
	}
	s := startSwarm(t, dockerd)
	for _, f := range swarmFaults {
		t.Run(f.name, func(t *testing.T) {
			var all []cost
			for run := range runs {
				all = append(all, f.suffer(t, s, run))
			}
			report(t, "swarm "+f.name, all)
		})
	}
}

// startSwarm runs a swarm of three machines that have the probe's image, until the test ends.
func startSwarm(t *testing.T, dockerd string) *swarm.Swarm {
	dir, err := os.MkdirTemp("/var/lib", "shoal-swarm-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	s, err := swarm.Start(ctx, dockerd, dir, 3)
	if s != nil {
		t.Cleanup(s.Stop)
	}
	must(t, err)
	must(t, s.Load(ctx, filepath.Join(repo(), "build/images/probe.tar")))
	return s
}

// suffer runs one fault against the leader's machine.
func (f swarmFault) suffer(t *testing.T, s *swarm.Swarm, run int) (x cost) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	must(t, s.Serve(ctx, "web", swarmImage, 6, "serve")) // anew each time: a swarm does not move replicas back
	must(t, s.AwaitRunning(ctx, s.Machines[0], "web", 6, nil))
	victim, living, err := s.Leader(ctx)
	must(t, err)
	asked, err := living[1].Run(ctx, swarm.Shared, swarmImage, "ask", "http://web:8080", fmt.Sprint(asksPerSecond), "60")
	must(t, err)
	w := startWriting(t, func(ctx context.Context, name string) error { return living[0].Write(ctx, name) }, fmt.Sprint(victim.Name, "-", time.Now().Unix()))
	<-w.wake
	<-time.After(time.Second) // the client has begun by then
	hurt := time.Now()
	must(t, f.hurt(victim))
	x.write, _ = w.silence(t, time.Now(), time.Minute) // or longer: it is not for us to judge
	if f.moves {
		must(t, s.AwaitRunning(ctx, living[0], "web", 6, victim))
		x.moved = time.Since(hurt)
	}
	said, err := asked(ctx)
	m := summary.FindStringSubmatch(said)
	if err != nil || m == nil {
		t.Fatalf("the client: %v: %s", err, said)
	}
	x.failed, _ = strconv.Atoi(m[2])
	span, _ := strconv.Atoi(m[3])
	x.span = time.Duration(span) * time.Millisecond
	w.stop()
	t.Logf("run %d: %+v", run, x)
	must(t, f.mend(ctx, s, victim))
	must(t, s.Whole(ctx))
	must(t, s.Remove(ctx, "web"))
	return x
}
