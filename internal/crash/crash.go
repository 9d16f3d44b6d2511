// Package crash kills a program at every change it makes to files, one after the other: it runs a part of a test as a process of its own,
// stops that before its n-th system call that changes a file, and ends it there. What was written stays, as after kill -9. Tests alone use
// it.
package crash

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

const (
	childDir = "SHOAL_CRASH_DIR"
	ackFile  = 3 // the child's end of the pipe
)

// Each runs do in a process of its own with an empty directory, again and again: killed at its first change of a file, at its second, and so on,
// until it comes to its end; then check. It gets what do had acknowledged by then, in order. In step with every stride-th change only, if
// stride is more than one. Call it first in a test; it does not return in the child.
func Each(t *testing.T, stride int, do func(dir string, ack func(string)) error, check func(t *testing.T, dir string, acked []string)) {
	t.Helper()
	if dir := os.Getenv(childDir); dir != "" {
		child(dir, do)
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("system calls are read from registers as amd64 has them")
	}
	for at := 1; ; at += stride {
		dir := t.TempDir()
		acked, ended := run(t, dir, at)
		check(t, dir, acked)
		if t.Failed() {
			t.Fatalf("killed before change %d of a file, with %d things acknowledged", at, len(acked))
		}
		if ended {
			t.Logf("it makes fewer than %d changes", at)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}

func child(dir string, do func(string, func(string)) error) {
	acks := os.NewFile(ackFile, "acks")
	if err := do(dir, func(what string) { _, _ = io.WriteString(acks, what+"\n") }); err != nil {
		_, _ = io.WriteString(os.Stderr, err.Error()+"\n")
		os.Exit(1)
	}
	os.Exit(0)
}

// run runs the child until it is killed or ends.
func run(t *testing.T, dir string, at int) (acked []string, ended bool) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var said strings.Builder
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.ExtraFiles = []*os.File{w}
	cmd.Stdout, cmd.Stderr = &said, &said
	lines := make(chan []string)
	go func() {
		var all []string
		for s := bufio.NewScanner(r); s.Scan(); {
			all = append(all, s.Text())
		}
		lines <- all
	}()
	ended, err = trace(cmd, at)
	_ = w.Close()
	acked = <-lines
	if err != nil {
		t.Fatalf("change %d: %v\n%s", at, err, said.String())
	}
	return acked, ended
}
