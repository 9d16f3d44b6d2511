//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"shoal/internal/e2e/swarm"
)

// TestFaultsOfSwarm lets the machine of a swarm's leader lose its power, as TestFaults does with the Master's: six replicas, a client on another
// machine asking for them 50 times a second, and a writer at another manager. It counts only beside TestFaults on the same machine.
func TestFaultsOfSwarm(t *testing.T) {
	runs, err := strconv.Atoi(os.Getenv("SHOAL_FAULT_RUNS"))
	dockerd := filepath.Join(repo(), "build/tools/dockerd")
	if _, missing := os.Stat(dockerd); err != nil || missing != nil {
		t.Skip("only a comparison: make faults-of-swarm runs it")
	}
	dir, err := os.MkdirTemp("/var/lib", "shoal-swarm-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	s, err := swarm.Start(ctx, dockerd, dir, 3)
	if s != nil {
		t.Cleanup(s.Stop)
	}
	if err != nil {
		t.Fatal(err)
	}
	const image = "shoal.local/probe:1"
	if err := s.Load(ctx, filepath.Join(repo(), "build/images/probe.tar")); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(ctx, "web", image, 6, "serve"); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitRunning(ctx, s.Machines[0], "web", 6, nil); err != nil {
		t.Fatal(err)
	}
	var all []cost
	for run := range runs {
		all = append(all, sufferSwarm(t, s, image, run))
	}
	report(t, "swarm machine killed", all)
}

func sufferSwarm(t *testing.T, s *swarm.Swarm, image string, run int) (x cost) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	victim, living, err := s.Leader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	asked, err := living[1].Run(ctx, image, "ask", "http://web:8080", fmt.Sprint(asksPerSecond), "60")
	if err != nil {
		t.Fatal(err)
	}
	w := startWriting(t, func(ctx context.Context, name string) error { return living[0].Write(ctx, name) }, fmt.Sprint("run-", run))
	<-w.wake
	<-time.After(time.Second) // the client has begun by then
	hurt := time.Now()
	if err := s.Kill(victim); err != nil {
		t.Fatal(err)
	}
	x.write = w.outage(t, time.Now(), time.Minute)
	if err := s.AwaitRunning(ctx, living[0], "web", 6, victim); err != nil {
		t.Fatal(err)
	}
	x.moved = time.Since(hurt)
	said, err := asked(ctx)
	m := summary.FindStringSubmatch(said)
	if err != nil || m == nil {
		t.Fatalf("the client: %v: %s", err, said)
	}
	x.failed, _ = strconv.Atoi(m[2])
	span, _ := strconv.Atoi(m[3])
	x.span = time.Duration(span) * time.Millisecond
	w.stop()
	if err := s.Boot(ctx, victim); err != nil {
		t.Fatal(err)
	}
	if err := s.Whole(ctx); err != nil {
		t.Fatal(err)
	}
	return x
}
