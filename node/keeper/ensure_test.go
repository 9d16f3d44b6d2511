package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"shoal/node/runtime/proc"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "keeper" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		err := Main(ctx, os.Args[2:])
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// config is for a keeper that is this test binary. Socket paths have to be short, so it does not use t.TempDir.
func config(t *testing.T) Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "keeper")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return Config{DataDir: filepath.Join(dir, "data"), RunDir: filepath.Join(dir, "run"), ContainerdSocket: "/nowhere"}
}

func ensure(t *testing.T, c Config) *Client {
	t.Helper()
	cl, err := Ensure(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cl.Shutdown(context.WithoutCancel(t.Context()), false); err != nil {
			t.Error(err)
		}
	})
	return cl
}

func ask(t *testing.T, cl *Client) Status {
	t.Helper()
	st, err := cl.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestEnsureFindsTheLivingKeeper(t *testing.T) {
	c := config(t)
	first := ensure(t, c)
	second, err := Ensure(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	a, b := ask(t, first), ask(t, second)
	if a.Pid != b.Pid || a.Pid == os.Getpid() {
		t.Errorf("pids %d and %d", a.Pid, b.Pid)
	}
	if sid, _ := unix.Getsid(a.Pid); sid != a.Pid {
		t.Errorf("session %d", sid)
	}
}

func TestStrangerIsRefused(t *testing.T) {
	c := config(t)
	if err := os.MkdirAll(c.RunDir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", c.socket())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Ensure(t.Context(), c); !errors.Is(err, ErrStranger) {
		t.Errorf("got %v", err)
	}
}

func TestRunStartsAnotherKeeper(t *testing.T) {
	c := config(t)
	cl := ensure(t, c)
	dir := t.TempDir()
	spec := pipes(t, dir, "a")
	if err := cl.Drain(t.Context(), "a", spec.Stdin, spec.Stdout, spec.Stderr, spec.Log); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- cl.Run(ctx) }()
	old, err := readIdentity(c.identity())
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(old.Pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// The pipe blocks its writer until a keeper reads it again.
	w, end := container(t, spec.Stdout)
	if _, err := w.Write([]byte(strings.Repeat("0123456789abcde\n", 20_000))); err != nil {
		t.Fatal(err)
	}
	end()
	if st := ask(t, cl); st.Pid == old.Pid || st.Drains != 1 {
		t.Errorf("got %+v", st)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := cl.Undrain(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if got := texts(t, spec.Log); len(got) != 20_000 {
		t.Errorf("%d lines", len(got))
	}
}

func TestContainerdIsHeldAndAdopted(t *testing.T) {
	if _, err := exec.LookPath("containerd"); err != nil || os.Getuid() != 0 {
		t.Skip("needs root and containerd")
	}
	c := config(t)
	c.ContainerdSocket = ""
	cl := ensure(t, c)
	wait := func() proc.ID {
		var d net.Dialer
		for { // connecting to a socket that appears: containerd has no other way to say that it is ready
			if conn, err := d.DialContext(t.Context(), "unix", cl.Socket()); err == nil {
				conn.Close()
				break
			} else if t.Context().Err() != nil {
				t.Fatal(err)
			}
		}
		p, err := readIdentity(filepath.Join(c.RunDir, "containerd.json"))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := wait()
	if err := cl.Shutdown(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if !first.Alive() {
		t.Fatal("containerd did not outlive the keeper that was to keep it")
	}
	if err := cl.ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	st := ask(t, cl)
	for st.Containerd == 0 && st.Failure == "" {
		st = ask(t, cl)
	}
	if st.Containerd != first.Pid || st.Failure != "" {
		t.Errorf("not adopted: %+v", st)
	}
	if err := unix.Kill(first.Pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := first.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := first
	for second == first {
		second = wait()
	}
	if err := cl.Shutdown(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if second.Alive() {
		t.Error("containerd outlives the keeper")
	}
}

func TestArgumentsAreReadBack(t *testing.T) {
	want := Config{
		DataDir: "/a b", RunDir: "/c=d", ContainerdSocket: "/e", CgroupParent: "/f", LogSize: 7, LogFiles: 8,
	}
	got, fd, err := parse(want.arguments(3))
	if d := cmp.Diff(want, got); err != nil || fd != 3 || d != "" {
		t.Error(err, fd, d)
	}
	for _, args := range [][]string{nil, {"data-dir=/x"}, {"data-dir=/x", "run-dir=/y", "more=1"}, {"log-size=x"}} {
		if _, _, err := parse(args); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
}
