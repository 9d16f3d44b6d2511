package swarm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Kill is a machine that loses its power: first its link, then all its processes. Boot starts it again.
func (m *Machine) Kill() error {
	if err := m.Link(false); err != nil {
		return err
	}
	return m.end()
}

// Link plugs a machine's cable in or out.
func (m *Machine) Link(up bool) error {
	state := map[bool]string{true: "up", false: "down"}[up]
	return ip("link set swarm-port"+strings.TrimPrefix(m.Name, bridge+"-"), state)
}

// Signal sends a signal to the machine's dockerd alone.
func (m *Machine) Signal(sig syscall.Signal) error {
	first, err := m.first()
	if err != nil {
		return err
	}
	all, err := children(first)
	if err != nil {
		return err
	}
	for _, pid := range all {
		if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil && strings.TrimSpace(string(name)) == "dockerd" {
			return syscall.Kill(pid, sig)
		}
	}
	return fmt.Errorf("%s runs no dockerd", m.Name)
}

// Freeze stops everything on a machine, its containers too, until Thaw.
func (m *Machine) Freeze() error { return m.freezer("FROZEN") }

// Thaw ends Freeze.
func (m *Machine) Thaw() error { return m.freezer("THAWED") }

func (m *Machine) freezer(state string) error {
	return os.WriteFile(filepath.Join(m.cgroup(), "freezer.state"), []byte(state), 0)
}

// cgroup is where all of a machine's processes are, or below: dockerd makes those of its containers under the same name.
func (m *Machine) cgroup() string { return filepath.Join("/sys/fs/cgroup/freezer", m.Name) }

// confine puts a machine that has just been started into its cgroup.
func (m *Machine) confine(ctx context.Context) error {
	if err := os.MkdirAll(m.cgroup(), 0o755); err != nil {
		return fmt.Errorf("a machine needs the freezer of cgroup v1: %w", err)
	}
	return until(ctx, time.Millisecond, func(context.Context) error {
		first, err := m.first()
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(m.cgroup(), "cgroup.procs"), []byte(strconv.Itoa(first)), 0)
	})
}

// first is the first process in the machine's PID namespace.
func (m *Machine) first() (pid int, err error) {
	all, err := children(m.init.Process.Pid)
	if err != nil {
		return 0, err
	}
	if len(all) != 1 {
		return 0, fmt.Errorf("%s has %d first processes", m.Name, len(all))
	}
	return all[0], nil
}

func children(pid int) (all []int, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, f := range strings.Fields(string(b)) {
		if n, err := strconv.Atoi(f); err == nil {
			all = append(all, n)
		}
	}
	return all, err
}
