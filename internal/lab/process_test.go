package lab

import (
	"os/exec"
	"testing"
)

// A process that has ended stays in the table until its parent asks how; it does not live by that.
func TestAnEndedProcessIsNotAlive(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	start, err := startTime(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	p := proc{Pid: cmd.Process.Pid, Start: start}
	if !p.alive() {
		t.Error("a running process is not alive")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p.alive() {
		t.Error("an ended process is alive")
	}
	_ = cmd.Wait()
}
