package containerd

import (
	"cmp"
	"errors"
	"os"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"

	"shoal/node/runtime"
	"shoal/node/runtime/cgroup"
	"shoal/node/runtime/sandbox"
)

// terminationLog is where a container finds its termination message file unless its mounts say otherwise.
const terminationLog = "/dev/termination-log"

// mounts returns the container's mounts in the order in which they are made: parents before what lies in them.
func mounts(c runtime.ContainerConfig, s sandbox.Sandbox, cgroups []specs.Mount) ([]specs.Mount, error) {
	sys := "ro"
	if privileged(c) {
		sys = "rw"
	}
	all := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{
			"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5",
		}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", sys}},
		{Destination: "/dev/shm", Type: "bind", Source: s.Shm, Options: []string{"rbind", "rprivate", "rw"}},
	}
	all = append(all, cgroups...)
	asked := slices.Clone(c.Mounts)
	if c.TerminationPath != "" && !slices.ContainsFunc(asked, func(m runtime.Mount) bool { return m.HostPath == c.TerminationPath }) {
		asked = append(asked, runtime.Mount{HostPath: c.TerminationPath, ContainerPath: terminationLog})
	}
	slices.SortStableFunc(asked, func(a, b runtime.Mount) int { return cmp.Compare(depth(a), depth(b)) })
	for _, m := range asked {
		if !path.IsAbs(m.ContainerPath) || !path.IsAbs(m.HostPath) {
			return nil, errMount(m, errors.New("not an absolute path"))
		}
		if _, err := os.Stat(m.HostPath); err != nil {
			return nil, errMount(m, err)
		}
		at := path.Clean(m.ContainerPath)
		all = slices.DeleteFunc(all, func(d specs.Mount) bool { return d.Destination == at })
		mode := "rw"
		switch {
		case m.ReadOnly && m.Recursive:
			mode = "rro" // runc 1.1 and Linux 5.12, both Debian 12's
		case m.ReadOnly:
			mode = "ro"
		}
		options := []string{"rbind", propagation(m), mode}
		if m.Inert {
			options = append(options, "noexec", "nosuid", "nodev")
		}
		all = append(all, specs.Mount{Destination: at, Type: "bind", Source: m.HostPath, Options: options})
	}
	return all, nil
}

func depth(m runtime.Mount) int { return strings.Count(path.Clean(m.ContainerPath), "/") }

func propagation(m runtime.Mount) string {
	switch m.Propagation {
	case corev1.MountPropagationBidirectional:
		return "rshared"
	case corev1.MountPropagationHostToContainer:
		return "rslave"
	}
	return "rprivate"
}

// cgroupMounts shows a container its own limits, where language runtimes look for them. On version 1 those are the
// files of a few controllers: having runc mount every hierarchy takes a seventh of a container's start.
func cgroupMounts(t cgroup.Tree, path string, privileged bool) []specs.Mount {
	const at = "/sys/fs/cgroup"
	if t.V2() || privileged {
		mode := "ro"
		if privileged {
			mode = "rw"
		}
		return []specs.Mount{{Destination: at, Type: "cgroup", Source: "cgroup", Options: []string{
			"nosuid", "noexec", "nodev", "relatime", mode,
		}}}
	}
	out := []specs.Mount{{Destination: at, Type: "tmpfs", Source: "tmpfs", Options: []string{
		"nosuid", "noexec", "nodev", "mode=755", "size=64k",
	}}}
	for _, c := range []string{"memory", "cpu", "cpuacct"} {
		if dir := t.Files(c, path); dir != "" {
			out = append(out, specs.Mount{Destination: at + "/" + c, Type: "bind", Source: dir, Options: []string{
				"bind", "rprivate", "nosuid", "noexec", "nodev", "ro",
			}})
		}
	}
	return out
}
