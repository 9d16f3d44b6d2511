package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process names one run of a program for as long as the machine is up: pids are used again, start times are not.
type process struct {
	Pid   int    `json:"pid"`
	Start uint64 `json:"start"` // ticks since boot
	Boot  string `json:"boot"`
}

func identify(pid int) (process, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, err
	}
	// The second field is the command in parentheses and may hold anything; start time is the 22nd.
	text := string(b)
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(f) < 20 {
		return process{}, fmt.Errorf("unreadable stat of process %d", pid)
	}
	if f[0] == "Z" || f[0] == "X" {
		return process{}, fmt.Errorf("process %d has ended", pid)
	}
	start, err := strconv.ParseUint(f[19], 10, 64)
	if err != nil {
		return process{}, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return process{Pid: pid, Start: start, Boot: strings.TrimSpace(string(boot))}, err
}

func (p process) alive() bool {
	now, err := identify(p.Pid)
	return err == nil && now == p
}

// wait returns when the process has ended, or with ctx's error.
func (p process) wait(ctx context.Context) error {
	fd, err := unix.PidfdOpen(p.Pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("watch process %d: %w", p.Pid, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	if !p.alive() {
		return nil
	}
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	err = conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && n > 0
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func writeIdentity(path string) error {
	p, err := identify(os.Getpid())
	if err != nil {
		return err
	}
	return writeFile(path, p)
}

func readIdentity(path string) (process, error) {
	var p process
	b, err := os.ReadFile(path)
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(b, &p)
}

// waitFor is wait with a bound of its own, for a keeper that is ending and has no context any more.
func (p process) waitFor(d time.Duration) error {
	fd, err := unix.PidfdOpen(p.Pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for end := time.Now().Add(d); p.alive(); {
		left := time.Until(end)
		if left <= 0 {
			return context.DeadlineExceeded
		}
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	return nil
}
