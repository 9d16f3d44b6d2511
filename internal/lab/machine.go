package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"shoal/node/runtime/pause"
)

// boot is run by a machine's first process. It waits until the machine is in its cgroup and has its link, makes what a
// machine has to itself, says so, and becomes the program that holds the namespaces and reaps orphans.
const boot = `read go || exit 1
mount --make-rprivate / && mount -t proc proc /proc && mount -t tmpfs tmpfs /run && mkdir -p /run/lock || exit 1
hostname "$1" && echo up && exec "$2" >/dev/null 2>&1`

// spaces are the namespaces of a machine, by their names in /proc/PID/ns. The mount namespace comes last: after it the
// paths of the others are gone.
var spaces = []string{"ipc", "uts", "net", "pid", "mnt"}

// The main goroutine keeps the main thread to itself. Otherwise Start's goroutine might get it, change its namespaces for
// good, and with it what /proc/self shows to everyone.
func init() { runtime.LockOSThread() }

func (p *Peer) cgroup() string { return cgroupName + "/" + p.Name }

// powerOn boots the machine, without starting its peer.
func (l *Lab) powerOn(p *Peer) error {
	if p.Init.alive() {
		return nil
	}
	if err := removeCgroups(p.cgroup()); err != nil {
		return err
	}
	if err := makeCgroups(p.cgroup()); err != nil {
		return err
	}
	hold := filepath.Join(Dir, "init")
	if err := writeHolder(hold); err != nil {
		return err
	}
	cmd := exec.Command("/bin/sh", "-c", boot, "boot", p.Name, hold)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWNS,
	}
	start, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	booted, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	said, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer said.Close()
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("boot %s: %w", p.Name, err)
	}
	if p.Init, err = identify(cmd.Process.Pid); err == nil {
		err = l.save()
	}
	if err == nil {
		err = enterCgroups(p.cgroup(), cmd.Process.Pid)
	}
	if err == nil {
		err = p.plug(cmd.Process.Pid)
	}
	if err == nil {
		_, err = io.WriteString(start, "go\n+") // the shell reads the line, the program it becomes the byte
	}
	if err == nil {
		_, err = io.ReadFull(booted, make([]byte, len("up\n")))
	}
	_ = start.Close()
	if err != nil {
		_ = cmd.Process.Kill()
		return fmt.Errorf("boot %s: %w", p.Name, err)
	}
	go func() { _ = cmd.Wait() }() // reaps it if it ends while we run
	return nil
}

// powerOff ends every process of the machine at once. The kernel then removes its namespaces, mounts and links. The cable goes first: a machine
// without power does not tell others that its connections end.
func (p *Peer) powerOff(ctx context.Context) error {
	if err := unplug(p.link()); err != nil {
		return err
	}
	if err := p.setFrozenMachine(false); err != nil && p.Init.alive() {
		return err
	}
	if err := p.Init.signal(unix.SIGKILL); err != nil {
		return err
	}
	if err := p.Init.wait(ctx); err != nil {
		return fmt.Errorf("wait for %s to be off: %w", p.Name, err)
	}
	p.Shoal, p.Frozen, p.Halted = proc{}, false, false
	return removeCgroups(p.cgroup())
}

func (p *Peer) setFrozenMachine(frozen bool) error {
	if !exists(p.dir()) {
		return nil
	}
	return setFrozen(p.cgroup(), frozen)
}

// daemon starts cmd on the machine and lets go of it.
func (p *Peer) daemon(cmd *exec.Cmd) (proc, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return proc{}, err
	}
	defer r.Close()
	cmd.ExtraFiles = []*os.File{w}
	err = p.start(cmd, enterAndLeave)
	_ = w.Close()
	if err != nil {
		return proc{}, err
	}
	told, err := io.ReadAll(r)
	if err := errors.Join(err, cmd.Wait()); err != nil {
		return proc{}, err
	}
	return p.find(strings.TrimSpace(string(told)))
}

// find returns the process that has a pid in the machine's numbers.
func (p *Peer) find(pid string) (proc, error) {
	pids, err := processes(p.cgroup())
	if err != nil {
		return proc{}, err
	}
	for _, host := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", host))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			// NSpid: the pid here, then in each namespace below.
			if f := strings.Fields(line); len(f) == 3 && f[0] == "NSpid:" && f[2] == pid {
				return identify(host)
			}
		}
	}
	return proc{}, os.ErrProcessDone
}

// Exec runs a command on the machine with cmd's standard streams, and returns when it ended. The program's path must be
// absolute or on the PATH.
func (p *Peer) Exec(cmd *exec.Cmd) error {
	if err := p.start(cmd, enterAndRun); err != nil {
		return err
	}
	return cmd.Wait()
}

// start starts cmd, by way of a shell script, in the machine's namespaces and cgroup.
func (p *Peer) start(cmd *exec.Cmd, script string) error {
	if !p.Init.alive() {
		return fmt.Errorf("%s is off: start it with: shoal lab start %s", p.Name, p.Name)
	}
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	result := make(chan error, 1)
	go func() {
		// The thread changes its namespaces for good, so it is never given back: it ends with this goroutine.
		runtime.LockOSThread()
		result <- p.startInside(cmd, script)
	}()
	return <-result
}

// enterAndRun moves itself, while it has no children yet, into the cgroups given as files up to "--", and becomes the
// command.
const enterAndRun = `while [ "$1" != -- ]; do echo 0 >"$1" || exit 126; shift; done; shift; exec "$@"`

// enterAndLeave starts the command in the background instead, tells its pid (in the machine's numbers) on file 3 and ends, so
// that the machine's own first process adopts the command: one adopted outside would keep a dead machine's namespace alive
// until somebody there reaps it.
const enterAndLeave = `while [ "$1" != -- ]; do echo 0 >"$1" || exit 126; shift; done; shift; "$@" 3>&- & echo $! >&3`

func (p *Peer) startInside(cmd *exec.Cmd, script string) error {
	files, err := cgroupFiles(p.cgroup())
	if err != nil {
		return err
	}
	cmd.Args = slices.Concat([]string{"sh", "-c", script, "sh"}, files, []string{"--", cmd.Path}, cmd.Args[1:])
	cmd.Path = "/bin/sh"
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	for _, name := range spaces {
		if err := enterSpace(p.Init.Pid, name); err != nil {
			return fmt.Errorf("enter the %s namespace of %s: %w", name, p.Name, err)
		}
	}
	return cmd.Start()
}

func enterSpace(pid int, name string) error {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Setns(fd, 0)
}

// writeHolder writes the program that a machine's first process becomes, unless another machine runs it already.
func writeHolder(path string) error {
	if exists(path) {
		return nil
	}
	program, err := pause.ELF()
	if err != nil {
		return err
	}
	return os.WriteFile(path, program, 0o755)
}
