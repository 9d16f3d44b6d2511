package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// proc identifies a process for good: a pid may be used again, a pid with its start time is not.
type proc struct {
	Pid   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot, field 22 of /proc/PID/stat
}

func identify(pid int) (proc, error) {
	start, err := startTime(pid)
	return proc{Pid: pid, Start: start}, err
}

func (p proc) alive() bool {
	if p.Pid == 0 {
		return false
	}
	start, err := startTime(p.Pid)
	return err == nil && start == p.Start
}

// signal sends s unless the process has ended.
func (p proc) signal(s unix.Signal) error {
	if !p.alive() {
		return nil
	}
	if err := unix.Kill(p.Pid, s); err != nil && err != unix.ESRCH {
		return fmt.Errorf("signal process %d: %w", p.Pid, err)
	}
	return nil
}

// wait blocks until the process has ended or ctx does.
func (p proc) wait(ctx context.Context) error {
	fd, err := unix.PidfdOpen(p.Pid, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !p.alive() {
		return nil
	}
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 200)
		if n > 0 {
			return nil
		}
		if err != nil && err != unix.EINTR {
			return err
		}
	}
	return ctx.Err()
}

func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The command's name, in parentheses, may hold anything; what follows it does not.
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 20 {
		return 0, fmt.Errorf("unexpected /proc/%d/stat", pid)
	}
	if f[0][0] == 'Z' || f[0][0] == 'X' { // not reaped yet, and just being reaped
		return 0, os.ErrProcessDone
	}
	return strconv.ParseUint(string(f[19]), 10, 64)
}
