// Package proc names, watches and signals processes that are not, or no longer, children of this one. A pid alone names
// nothing: it is used again. Everything here holds a process by a file descriptor and checks that it is the one meant.
package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ID names one run of a program. The zero value names none.
type ID struct {
	Pid   int    `json:"pid"`
	Start uint64 `json:"start"` // ticks since boot
	Boot  string `json:"boot"`
}

// Of names the process that has this pid now. One that has ended, reaped or not, is an error.
func Of(pid int) (ID, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ID{}, err
	}
	// The second field is the command in parentheses and may hold anything; start time is the 22nd.
	text := string(b)
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(f) < 20 {
		return ID{}, fmt.Errorf("unreadable stat of process %d", pid)
	}
	if f[0] == "Z" || f[0] == "X" {
		return ID{}, fmt.Errorf("process %d has ended", pid)
	}
	start, err := strconv.ParseUint(f[19], 10, 64)
	if err != nil {
		return ID{}, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return ID{Pid: pid, Start: start, Boot: strings.TrimSpace(string(boot))}, err
}

// Alive reports whether the process still runs.
func (p ID) Alive() bool {
	if p.Pid <= 0 {
		return false
	}
	now, err := Of(p.Pid)
	return err == nil && now == p
}

// Since returns when the process started, on the clock as it is set now. The zero time when that cannot be told.
func (p ID) Since() time.Time {
	var up unix.Timespec
	if p.Start == 0 || unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) != nil {
		return time.Time{}
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every architecture we run on
	return time.Now().Add(-time.Duration(up.Nano())).Add(time.Duration(p.Start) * tick)
}

// Wait returns when the process has ended, or with ctx's error. If it is a child of ours, it is reaped.
func (p ID) Wait(ctx context.Context) error {
	fd, err := unix.PidfdOpen(p.Pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("watch process %d: %w", p.Pid, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if !p.Alive() {
		if ended(p.Pid) {
			return conn.Control(reap)
		}
		return nil
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err = conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && n > 0
	})
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(err, conn.Control(reap))
}

// ended reports whether pid is a process that waits to be reaped.
func ended(pid int) bool {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, rest, ok := strings.Cut(string(b), ") ")
	return ok && strings.HasPrefix(rest, "Z")
}

// reap collects an ended child; others than children are left to their parents.
func reap(fd uintptr) { _ = unix.Waitid(unix.P_PIDFD, int(fd), nil, unix.WEXITED|unix.WNOHANG, nil) }

// Signal sends sig to the process that has this pid now, if ours says that it is the one meant; ours is asked while the
// pid cannot be used again. A process that has ended is no error.
func Signal(pid int, sig unix.Signal, ours func(pid int) bool) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if !ours(pid) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", pid, err)
	}
	return nil
}

// Signal sends sig to the process, if it still runs.
func (p ID) Signal(sig unix.Signal) error {
	return Signal(p.Pid, sig, func(int) bool { return p.Alive() })
}
