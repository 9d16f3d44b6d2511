// Package swarm runs Docker Swarm beside Shoal, to compare them: some machines, each a few namespaces with a dockerd of its own, as managers and
// workers of one swarm.
package swarm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Machine is one dockerd and all that it runs.
type Machine struct {
	Name   string // its host name
	Addr   string
	dir    string
	init   *exec.Cmd // makes the machine's namespaces: with it, everything there ends
	orders *os.File  // a line for each dockerd that should be started
	log    *os.File
	api
}

// Swarm is some machines on one bridge.
type Swarm struct {
	Machines []*Machine
	bin      string
}

const (
	bridge = "shoal-swarm" // network namespaces and links are named after it
	subnet = "10.132.0."
)

// Start runs n machines of the dockerd bin, with their data in dir, and makes one swarm of them. Stop ends them. It needs root.
func Start(ctx context.Context, bin, dir string, n int) (*Swarm, error) {
	s := &Swarm{bin: bin}
	if err := ip("link add", bridge, "type bridge forward_delay 0"); err != nil {
		return nil, err
	}
	if err := ip("link set", bridge, "up"); err != nil {
		return s, err
	}
	for i := range n {
		m := &Machine{Name: fmt.Sprintf("%s-%d", bridge, i+1), Addr: fmt.Sprintf("%s%d", subnet, i+1), dir: filepath.Join(dir, fmt.Sprint(i+1))}
		m.api = newAPI(filepath.Join(m.dir, "docker.sock"))
		s.Machines = append(s.Machines, m)
		if err := m.plugIn(i + 1); err != nil {
			return s, err
		}
		if err := s.Boot(ctx, m); err != nil {
			said, _ := os.ReadFile(filepath.Join(m.dir, "log"))
			return s, fmt.Errorf("%w; %s said:\n%s", err, m.Name, said[max(0, len(said)-4096):])
		}
	}
	return s, s.form(ctx)
}

// plugIn makes the machine's network.
func (m *Machine) plugIn(i int) error {
	port, inside := fmt.Sprintf("swarm-port%d", i), fmt.Sprintf("swarm-eth%d", i)
	for _, args := range []string{
		"netns add " + m.Name,
		"-n " + m.Name + " link set lo up",
		"link add " + port + " type veth peer name " + inside + " netns " + m.Name,
		"link set " + port + " master " + bridge + " up",
		"-n " + m.Name + " addr add " + m.Addr + "/24 dev " + inside,
		"-n " + m.Name + " link set " + inside + " up",
		"-n " + m.Name + " route add default via " + subnet + "254", // docker wants one
	} {
		if err := ip(args); err != nil {
			return err
		}
	}
	return nil
}

// machine is what runs first in a machine: it hides what the host has in /run, keeps what dockerd writes into /etc from it, and starts a dockerd for each line that it reads.
const machine = `set -e
hostname "$1"
mkdir -p "$2/data" "$2/exec"
mount -t tmpfs tmpfs /run
mkdir /run/etc /run/etc-work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/etc-work /etc
rm -rf "$2/exec"
set +e
while read -r _; do
	rm -f "$2/docker.pid" "$2/docker.sock"
	"$3" --data-root "$2/data" --exec-root "$2/exec" --pidfile "$2/docker.pid" --userland-proxy=false \
		-H "unix://$2/docker.sock" --cgroup-parent "/$1" </dev/null &
done`

// Boot starts a machine, or starts it again, and returns when its dockerd answers.
func (s *Swarm) Boot(ctx context.Context, m *Machine) (err error) {
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return err
	}
	if m.log, err = os.OpenFile(filepath.Join(m.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	m.orders = write
	m.init = exec.Command("nsenter", "--net=/run/netns/"+m.Name, "unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc",
		"bash", "-c", machine, "bash", m.Name, m.dir, s.bin)
	m.init.Stdin, m.init.Stdout, m.init.Stderr = read, m.log, m.log
	m.init.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = m.init.Start()
	_ = read.Close()
	if err != nil {
		return err
	}
	if err := m.confine(ctx); err != nil {
		return err
	}
	if err := m.Link(true); err != nil {
		return err
	}
	return m.StartProcess(ctx)
}

// StartProcess starts dockerd, and returns when it answers.
func (m *Machine) StartProcess(ctx context.Context) error {
	if _, err := fmt.Fprintln(m.orders, "start"); err != nil {
		return err
	}
	return until(ctx, 50*time.Millisecond, func(ctx context.Context) error { return m.call(ctx, "GET", "/_ping", nil, nil) })
}

func (m *Machine) end() error {
	if m.init == nil {
		return nil
	}
	_ = m.Thaw()              // what is frozen cannot end
	_ = m.init.Process.Kill() // unshare takes its child with it, and the namespace ends with that
	_ = m.init.Wait()
	m.init = nil
	return errors.Join(m.orders.Close(), m.log.Close())
}

// Stop ends everything and takes the network away.
func (s *Swarm) Stop() {
	for _, m := range s.Machines {
		_ = m.end()
		_ = ip("link del swarm-port" + strings.TrimPrefix(m.Name, bridge+"-")) // the kernel takes its time with what is in a namespace
		_ = ip("netns del", m.Name)
		for _, mount := range mounts(m.dir) {
			_ = syscall.Unmount(mount, syscall.MNT_DETACH)
		}
		groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + m.Name)
		for _, g := range append(groups, "/sys/fs/cgroup/"+m.Name) {
			removeCgroup(g)
		}
	}
	_ = ip("link del", bridge)
}

// removeCgroup removes a cgroup whose processes have ended, with those in it.
func removeCgroup(dir string) {
	inside, _ := os.ReadDir(dir)
	for _, e := range inside {
		if e.IsDir() {
			removeCgroup(filepath.Join(dir, e.Name()))
		}
	}
	_ = os.Remove(dir)
}

// mounts lists what is mounted below dir, the innermost first.
func mounts(dir string) (all []string) {
	b, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir) {
			all = append([]string{f[1]}, all...)
		}
	}
	return all
}

func ip(args ...string) error {
	line := strings.Join(args, " ")
	if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", line, err, out)
	}
	return nil
}

// until asks again and again: Swarm has nothing to wait on.
func until(ctx context.Context, every time.Duration, ask func(context.Context) error) error {
	for {
		one, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := ask(one)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}
