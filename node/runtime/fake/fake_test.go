package fake

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/node/runtime"
)

func started(t *testing.T, r *Runtime) runtime.Container {
	t.Helper()
	if _, err := r.StartSandbox(t.Context(), runtime.SandboxConfig{UID: "u", Namespace: "ns", Name: "p"}); err != nil {
		t.Fatal(err)
	}
	c, err := r.StartContainer(t.Context(), runtime.ContainerConfig{UID: "u", Name: "app"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestContainerRunsUntilTold(t *testing.T) {
	r := New(nil)
	c := started(t, r)
	if again, _ := r.StartContainer(t.Context(), runtime.ContainerConfig{UID: "u", Name: "app"}); again.Pid != c.Pid {
		t.Fatal("the same attempt was started twice")
	}
	if !r.OOM("u", "app") || r.Exit("u", "app", 0) {
		t.Fatal("a container must end exactly once")
	}
	p, err := r.Pod(t.Context(), "u")
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Containers[0]; got.State != runtime.Exited || got.Reason != "OOMKilled" || got.ExitCode != 137 {
		t.Fatalf("got %+v", got)
	}
}

func TestCallsFailOnceAndBlock(t *testing.T) {
	r := New(nil)
	boom := errors.New("boom")
	r.Fail(StartSandbox, boom)
	if _, err := r.StartSandbox(t.Context(), runtime.SandboxConfig{UID: "u"}); !errors.Is(err, boom) {
		t.Fatalf("got %v", err)
	}
	started(t, r)
	release := r.Block(RemovePod)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.RemovePod(ctx, "u"); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	release()
	if err := r.RemovePod(t.Context(), "u"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Pod(t.Context(), "u"); !errors.Is(err, runtime.ErrNotFound) {
		t.Fatalf("got %v", err)
	}
}

func TestStubbornContainerIsKilledAfterGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(nil)
		c := started(t, r)
		r.IgnoreStop("u", "app")
		begin := time.Now()
		if err := r.StopContainer(t.Context(), "u", c.ID, 30*time.Second); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != 30*time.Second {
			t.Fatalf("took %v", took)
		}
	})
}

func TestEventsNameThePod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(nil)
		ctx, cancel := context.WithCancel(t.Context())
		var got []types.UID
		done := make(chan error)
		go func() { done <- r.Events(ctx, func(u types.UID) { got = append(got, u) }) }()
		synctest.Wait()
		started(t, r)
		r.Exit("u", "app", 1)
		cancel()
		<-done
		if len(got) != 3 || got[0] != "" || got[1] != "u" || got[2] != "u" {
			t.Fatalf("got %q", got)
		}
	})
}

func TestImagePolicies(t *testing.T) {
	r := New(nil)
	for ref, want := range map[string]string{"": runtime.ReasonInvalidImage, "a": runtime.ReasonImagePull} {
		if _, err := r.Image(t.Context(), ref, runtime.Pull{Policy: corev1.PullIfNotPresent}); runtime.Reason(err) != want {
			t.Errorf("%q: got %v", ref, err)
		}
	}
	r.Publish(runtime.Image{Name: "a"})
	if _, err := r.Image(t.Context(), "a", runtime.Pull{Policy: corev1.PullNever}); runtime.Reason(err) != runtime.ReasonImageNeverPull {
		t.Errorf("got %v", err)
	}
	if _, err := r.Image(t.Context(), "a", runtime.Pull{Policy: corev1.PullIfNotPresent}); err != nil {
		t.Error(err)
	}
	names, err := r.Import(t.Context(), strings.NewReader("b\nc\n"))
	if err != nil || len(names) != 2 {
		t.Fatal(names, err)
	}
}
