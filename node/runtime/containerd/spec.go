package containerd

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"shoal/node/runtime"
	"shoal/node/runtime/sandbox"
)

// annotationGroup makes all containers with the same value share one shim.
const annotationGroup = "io.containerd.runc.v2.group"

// spec writes down, for runc, what a container's configuration means on this machine.
func (r *Runtime) spec(
	x *record, c runtime.ContainerConfig, s sandbox.Sandbox, img *image, rootfs []mount.Mount,
) (*specs.Spec, error) {
	if img.users == nil {
		img.users = readUsers(rootfs)
	}
	a, err := who(c, img.config.User, img.users)
	if err != nil {
		return nil, err
	}
	args := command(c, img)
	if len(args) == 0 {
		return nil, errors.New("no command specified")
	}
	mounts, err := mounts(c, s, cgroupMounts(r.tree, x.cgroup, privileged(c)))
	if err != nil {
		return nil, err
	}
	readOnly := c.Security != nil && c.Security.ReadOnlyRootFilesystem != nil && *c.Security.ReadOnlyRootFilesystem
	spec := &specs.Spec{
		Version:  "1.0.2", // every runc and crun that is still around takes it
		Hostname: "",      // the sandbox has set it
		Root:     &specs.Root{Path: "rootfs", Readonly: readOnly},
		Mounts:   mounts,
		Process: &specs.Process{
			Terminal: c.TTY,
			Args:     args,
			Env:      environment(c, img, s),
			Cwd:      workingDir(c, img),
			User:     specs.User{UID: a.uid, GID: a.gid, AdditionalGids: a.groups},
		},
		Annotations: map[string]string{annotationGroup: string(x.uid)},
		Linux: &specs.Linux{
			CgroupsPath: x.cgroup,
			Namespaces:  namespaces(c, s),
			Resources:   r.resources(c),
		},
	}
	spec.Process.OOMScoreAdj = r.limits.oomScoreAdj(c.Resources.OOMScoreAdj)
	propagate(spec, c)
	if err := r.armour.confine(spec, c); err != nil {
		return nil, err
	}
	return spec, r.secure(spec, c)
}

func command(c runtime.ContainerConfig, img *image) []string {
	entrypoint, cmd := img.config.Entrypoint, img.config.Cmd
	if c.Command != nil {
		entrypoint, cmd = c.Command, nil // the image's arguments are for its own entrypoint
	}
	if c.Args != nil {
		cmd = c.Args
	}
	return slices.Concat(entrypoint, cmd)
}

func workingDir(c runtime.ContainerConfig, img *image) string {
	dir := c.WorkingDir
	if dir == "" {
		dir = img.config.WorkingDir
	}
	return path.Join("/", dir)
}

// environment layers variables: defaults, the image's, the container's. Later ones win, in the place of the earlier.
func environment(c runtime.ContainerConfig, img *image, s sandbox.Sandbox) []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	if c.TTY {
		env = append(env, "TERM=xterm")
	}
	host := s.Hostname
	if s.HostNetwork || host == "" {
		host, _ = os.Hostname()
	}
	env = append(env, "HOSTNAME="+host)
	at := map[string]int{}
	var out []string
	for _, kv := range slices.Concat(env, img.config.Env, c.Env) {
		k, _, _ := strings.Cut(kv, "=")
		if i, ok := at[k]; ok {
			out[i] = kv
			continue
		}
		at[k] = len(out)
		out = append(out, kv)
	}
	return out
}

// namespaces joins those that the sandbox holds; those of the host are simply not listed.
func namespaces(c runtime.ContainerConfig, s sandbox.Sandbox) []specs.LinuxNamespace {
	out := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	for _, n := range []struct {
		kind specs.LinuxNamespaceType
		name string
	}{{specs.NetworkNamespace, "net"}, {specs.UTSNamespace, "uts"}, {specs.IPCNamespace, "ipc"}} {
		if p := s.Namespaces[n.name]; p != "" {
			out = append(out, specs.LinuxNamespace{Type: n.kind, Path: p})
		}
	}
	switch {
	case c.HostPID:
	case c.BesidePid > 0:
		out = append(out, specs.LinuxNamespace{Type: specs.PIDNamespace, Path: fmt.Sprintf("/proc/%d/ns/pid", c.BesidePid)})
	case s.Namespaces["pid"] != "":
		out = append(out, specs.LinuxNamespace{Type: specs.PIDNamespace, Path: s.Namespaces["pid"]})
	default:
		out = append(out, specs.LinuxNamespace{Type: specs.PIDNamespace})
	}
	return out
}

func (r *Runtime) resources(c runtime.ContainerConfig) *specs.LinuxResources {
	l := c.Resources
	out := &specs.LinuxResources{
		Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
		CPU:     &specs.LinuxCPU{},
	}
	if l.CPUShares > 0 {
		out.CPU.Shares = &l.CPUShares
	}
	if l.CPUQuota > 0 {
		period := l.CPUPeriod
		if period == 0 {
			period = 100_000
		}
		out.CPU.Quota, out.CPU.Period = &l.CPUQuota, &period
	}
	if l.MemoryBytes > 0 {
		out.Memory = &specs.LinuxMemory{Limit: &l.MemoryBytes}
		if r.limits.swap {
			out.Memory.Swap = &l.MemoryBytes // memory and swap together: none of it is swap
		}
	}
	if l.PidsLimit > 0 {
		out.Pids = &specs.LinuxPids{Limit: &l.PidsLimit}
	}
	return out
}

// propagate lets the root carry mounts as the container's own mounts ask.
func propagate(spec *specs.Spec, c runtime.ContainerConfig) {
	for _, m := range c.Mounts {
		switch propagation(m) {
		case "rshared":
			spec.Linux.RootfsPropagation = "rshared"
		case "rslave":
			if spec.Linux.RootfsPropagation == "" {
				spec.Linux.RootfsPropagation = "rslave"
			}
		}
	}
}

// errMount names the mount that cannot be made.
func errMount(m runtime.Mount, err error) error {
	return fmt.Errorf("mount %s at %s: %w", m.HostPath, m.ContainerPath, err)
}
