package crash

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// changes are the system calls that change files.
var changes = map[uint64]bool{
	unix.SYS_WRITE: true, unix.SYS_PWRITE64: true, unix.SYS_WRITEV: true, unix.SYS_PWRITEV: true, unix.SYS_COPY_FILE_RANGE: true,
	unix.SYS_FSYNC: true, unix.SYS_FDATASYNC: true, unix.SYS_FTRUNCATE: true, unix.SYS_FALLOCATE: true,
	unix.SYS_RENAME: true, unix.SYS_RENAMEAT: true, unix.SYS_RENAMEAT2: true, unix.SYS_LINKAT: true,
	unix.SYS_UNLINK: true, unix.SYS_UNLINKAT: true, unix.SYS_RMDIR: true, unix.SYS_MKDIR: true, unix.SYS_MKDIRAT: true,
	unix.SYS_FCHMOD: true, unix.SYS_FCHMODAT: true,
}

// trace runs cmd and kills it before its at-th change of a file. Ended: it came to its end before that, without an error.
func trace(cmd *exec.Cmd, at int) (ended bool, err error) {
	// The kernel lets only the thread that started a process trace it. It is not given back: its state is no other goroutine's concern.
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		ended, err = traceHere(cmd, at)
	}()
	<-done
	return ended, err
}

func traceHere(cmd *exec.Cmd, at int) (ended bool, err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	pid := cmd.Process.Pid
	defer func() { _ = cmd.Wait() }() // gathers what it said; the process itself has been waited for below
	defer func() { _ = unix.Kill(pid, unix.SIGKILL) }()
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, unix.WALL, nil); err != nil {
		return false, fmt.Errorf("wait for the start: %w", err)
	}
	if err := unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL); err != nil {
		return false, fmt.Errorf("trace: %w", err)
	}
	if err := unix.PtraceSyscall(pid, 0); err != nil {
		return false, fmt.Errorf("trace: %w", err)
	}
	for seen := 0; ; {
		tid, err := unix.Wait4(-1, &ws, unix.WALL|unix.WNOTHREAD, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return false, fmt.Errorf("trace: %w", err)
		case ws.Exited() || ws.Signaled():
			if tid != pid {
				continue
			}
			if ws.Exited() && ws.ExitStatus() != 0 {
				return false, fmt.Errorf("it failed with status %d", ws.ExitStatus())
			}
			return ws.Exited(), nil
		}
		pass := 0
		switch sig := ws.StopSignal(); sig {
		case unix.SIGTRAP | 0x80:
			if changesFile(tid) {
				if seen++; seen == at {
					_ = unix.Kill(pid, unix.SIGKILL)
					continue
				}
			}
		case unix.SIGTRAP, unix.SIGSTOP: // a thread was made, or begins
		default:
			pass = int(sig)
		}
		_ = unix.PtraceSyscall(tid, pass) // it may just have ended
	}
}

// changesFile reports whether a stopped thread is about to change a file.
func changesFile(tid int) bool {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil || !changes[regs.Orig_rax] {
		return false
	}
	if entering := int64(regs.Rax) == -int64(unix.ENOSYS); !entering {
		return false
	}
	write := regs.Orig_rax == unix.SYS_WRITE || regs.Orig_rax == unix.SYS_WRITEV
	return !write || regs.Rdi > ackFile
}
