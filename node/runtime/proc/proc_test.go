package proc

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func start(t *testing.T) (*exec.Cmd, ID) {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	id, err := Of(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return cmd, id
}

func TestWaitReturnsAndReaps(t *testing.T) {
	_, id := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := id.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := id.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := id.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(id.Pid, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("not reaped: %v", err)
	}
	if err := id.Wait(t.Context()); err != nil {
		t.Errorf("waiting for what is gone: %v", err)
	}
}

func TestWaitReapsWhatHasEnded(t *testing.T) {
	_, id := start(t)
	if err := id.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for !ended(id.Pid) && t.Context().Err() == nil {
	}
	if err := id.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(id.Pid, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("not reaped: %v", err)
	}
}

func TestOtherRunOfThePidIsNotTouched(t *testing.T) {
	cmd, id := start(t)
	other := id
	other.Start--
	if other.Alive() {
		t.Error("another run is taken for this one")
	}
	if err := other.Signal(unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if err := other.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if !id.Alive() {
		t.Error("the wrong process was killed")
	}
	_ = cmd.Process.Kill()
}

func TestSince(t *testing.T) {
	id, err := Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Since(id.Since()); d < -2*time.Second || d > time.Minute {
		t.Errorf("started %v ago", d)
	}
	if !(ID{}).Since().IsZero() || (ID{}).Alive() {
		t.Error("no process")
	}
}
