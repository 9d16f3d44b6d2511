package containerd

import (
	"bytes"
	"strings"
	"testing"

	"shoal/node/runtime"
)

func TestContainerLife(t *testing.T) {
	m := newMachine(t)
	m.pod("a")
	c := m.run(m.containerConfig("a", "app"))
	if c.State != runtime.Running || c.Pid == 0 || c.Started.IsZero() {
		t.Fatalf("got %+v", c)
	}
	if again := m.run(m.containerConfig("a", "app")); again != c {
		t.Errorf("the same attempt was started twice: %+v", again)
	}
	if err := m.StopContainer(t.Context(), "a", c.ID, 1e10); err != nil {
		t.Fatal(err)
	}
	e := m.ended("a", "app")
	if e.ExitCode != 0 || e.Reason != completed || e.Finished.Before(e.Started) || e.OOM {
		t.Errorf("got %+v", e)
	}
	if got := m.log(e); got != "out serving\nout stopped\n" {
		t.Errorf("log %q", got)
	}
	if err := m.RemoveContainer(t.Context(), "a", c.ID); err != nil {
		t.Fatal(err)
	}
	if p, err := m.Pod(t.Context(), "a"); err != nil || len(p.Containers) != 0 || !p.Sandbox.Running {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestExecStreamsAndCodes(t *testing.T) {
	m := newMachine(t)
	m.pod("a")
	c := m.run(m.containerConfig("a", "app"))
	var out, errs bytes.Buffer
	code, err := m.Exec(t.Context(), "a", c.ID, runtime.ExecConfig{
		Command: []string{"/probe", "exit", "7"}, Stdout: &out, Stderr: &errs,
	})
	if err != nil || code != 7 || out.String() != "leaving\n" || errs.String() != "code 7\n" {
		t.Errorf("%d, %v, %q, %q", code, err, out.String(), errs.String())
	}
	out.Reset()
	text := strings.Repeat("to and fro\n", 20_000)
	code, err = m.Exec(t.Context(), "a", c.ID, runtime.ExecConfig{
		Command: []string{"/probe", "cat"}, Stdin: strings.NewReader(text), Stdout: &out,
	})
	if err != nil || code != 0 || out.String() != text {
		t.Errorf("%d, %v, %d bytes", code, err, out.Len())
	}
}
