package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"shoal/node/runtime"
	"shoal/node/runtime/pause"
)

type launchConfig struct {
	runtime.SandboxConfig
	root  string   // an empty directory, to be the root of the pause
	input *os.File // what the pause waits for before it stays
}

// nobody is the user and group of the pause, the same as in other runtimes' pause images.
const nobody = 65535

type kind struct {
	name string // as in /proc/PID/ns
	flag int
}

// kinds returns the namespaces that the pod has of its own, and that containers join by path.
func kinds(c runtime.SandboxConfig) []kind {
	var out []kind
	if !c.HostNetwork {
		out = append(out, kind{"net", unix.CLONE_NEWNET}, kind{"uts", unix.CLONE_NEWUTS})
	}
	if !c.HostIPC {
		out = append(out, kind{"ipc", unix.CLONE_NEWIPC})
	}
	if c.SharePID && !c.HostPID {
		out = append(out, kind{"pid", unix.CLONE_NEWPID})
	}
	return out
}

// launch starts the pause and returns its pid. A thread of this process takes on everything that the pause shall have,
// forks it, and is thrown away: what it changed of itself cannot be undone.
func launch(c launchConfig) (int, error) {
	type result struct {
		pid int
		err error
	}
	done := make(chan result, 1)
	go func() {
		goruntime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread cannot be thrown away, and /proc/self is about it: keep it busy while another is used.
			defer goruntime.UnlockOSThread()
			pid, err := launch(c)
			done <- result{pid, err}
			return
		}
		pid, err := become(c)
		done <- result{pid, err}
	}()
	r := <-done
	return r.pid, r.err
}

// become turns the calling thread into the pause's parent and starts it.
func become(c launchConfig) (int, error) {
	program, err := memory()
	if err != nil {
		return 0, fmt.Errorf("pause program: %w", err)
	}
	defer program.Close()
	flags := unix.CLONE_NEWNS
	attr := &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	for _, n := range kinds(c.SandboxConfig) {
		if n.flag == unix.CLONE_NEWPID {
			attr.Cloneflags = unix.CLONE_NEWPID // a thread cannot change its own
		} else {
			flags |= n.flag
		}
	}
	if err := unix.Unshare(flags); err != nil {
		return 0, fmt.Errorf("new namespaces: %w", err)
	}
	if err := furnish(c.SandboxConfig); err != nil {
		return 0, err
	}
	if err := isolate(c.root); err != nil {
		return 0, err
	}
	if err := renounce(); err != nil {
		return 0, err
	}
	path := "/proc/self/fd/" + strconv.Itoa(int(program.Fd()))
	pid, err := syscall.ForkExec(path, []string{"pause"}, &syscall.ProcAttr{
		Env: []string{}, Sys: attr, Files: []uintptr{c.input.Fd()},
	})
	if err != nil {
		return 0, fmt.Errorf("start pause: %w", err)
	}
	if err := leave(c.root); err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, 0, nil)
		return 0, err
	}
	return pid, nil
}

// memory returns the pause program as a file that is nowhere on disk: it can be run by any user from any root.
func memory() (*os.File, error) {
	elf, err := pause.ELF()
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("pause", unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("pause", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, err
	}
	rw := os.NewFile(uintptr(fd), "pause")
	defer rw.Close()
	if _, err := rw.Write(elf); err != nil {
		return nil, err
	}
	// What is open for writing cannot be executed.
	return os.OpenFile("/proc/thread-self/fd/"+strconv.Itoa(fd), os.O_RDONLY, 0)
}

// furnish sets up the new namespaces that the thread is in.
func furnish(c runtime.SandboxConfig) error {
	if c.Hostname != "" && !c.HostNetwork {
		if err := unix.Sethostname([]byte(c.Hostname)); err != nil {
			return fmt.Errorf("set host name: %w", err)
		}
	}
	if !c.HostNetwork {
		if err := loopback(); err != nil {
			return fmt.Errorf("bring up lo: %w", err)
		}
	}
	for name, value := range c.Sysctls {
		if err := setSysctl(c, name, value); err != nil {
			return fmt.Errorf("sysctl %s: %w", name, err)
		}
	}
	return nil
}

func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

// setSysctl writes one setting, if it is one that the pod's own namespaces hold: all others would be the machine's.
func setSysctl(c runtime.SandboxConfig, name, value string) error {
	// Kubernetes writes them with dots or slashes; with dots, a dot inside a part is a slash.
	path := name
	if !strings.Contains(name, "/") || (strings.Contains(name, ".") && strings.Index(name, ".") < strings.Index(name, "/")) {
		path = strings.NewReplacer(".", "/", "/", ".").Replace(name)
	}
	net := strings.HasPrefix(path, "net/")
	ipc := strings.HasPrefix(path, "kernel/shm") || strings.HasPrefix(path, "kernel/msg") ||
		path == "kernel/sem" || strings.HasPrefix(path, "fs/mqueue/")
	switch {
	case strings.Contains(path, ".."), !net && !ipc:
		return errors.New("not of the pod's own namespaces")
	case net && c.HostNetwork, ipc && c.HostIPC:
		return errors.New("the pod uses the host's")
	}
	f, err := os.OpenFile(filepath.Join("/proc/sys", path), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// isolate cuts the thread's mount namespace off from the machine's and makes root a mount, read-only.
func isolate(root string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount(root, root, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind the empty root: %w", err)
	}
	const flags = unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("", root, "", flags, ""); err != nil {
		return fmt.Errorf("make the empty root read-only: %w", err)
	}
	return unix.Chdir("/")
}

// leave makes root the root of everything in the thread's mount namespace, which is the thread and the pause, and
// drops all other mounts. It comes after the pause was started, which needs nothing of them any more.
func leave(root string) error {
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot into the empty root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("drop the old root: %w", err)
	}
	return unix.Chdir("/")
}

// renounce gives up what the pause may never get back; what it holds now goes with its change of user.
func renounce() error {
	for c := range uintptr(unix.CAP_LAST_CAP + 1) {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	return nil
}
