package containerd

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/pkg/cap"
	"github.com/containerd/containerd/v2/pkg/oci"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"

	"shoal/node/runtime"
)

func privileged(c runtime.ContainerConfig) bool {
	return c.Security != nil && c.Security.Privileged != nil && *c.Security.Privileged
}

// secure applies the security context: capabilities, privileges, hidden paths, devices and system call filter.
func (r *Runtime) secure(spec *specs.Spec, c runtime.ContainerConfig) error {
	own := c.Security
	if own == nil {
		own = &corev1.SecurityContext{}
	}
	spec.Process.NoNewPrivileges = own.AllowPrivilegeEscalation != nil && !*own.AllowPrivilegeEscalation
	if privileged(c) {
		return r.allow(spec)
	}
	caps, err := capabilities(own.Capabilities, r.limits.capabilities)
	if err != nil {
		return err
	}
	setCapabilities(spec, caps)
	if own.ProcMount == nil || *own.ProcMount == corev1.DefaultProcMount {
		spec.Linux.MaskedPaths = []string{
			"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
			"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
			"/sys/devices/virtual/powercap",
		}
		spec.Linux.ReadonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
	}
	return filter(spec, c)
}

// allow gives a privileged container what this process itself may do, and every device.
func (r *Runtime) allow(spec *specs.Spec) error {
	setCapabilities(spec, r.limits.capabilities)
	spec.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	devices, err := oci.HostDevices()
	if err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	spec.Linux.Devices = devices
	return nil
}

func setCapabilities(spec *specs.Spec, caps []string) {
	spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
}

// capabilities returns the default set with the context's changes, and without what this machine cannot give.
func capabilities(change *corev1.Capabilities, possible []string) ([]string, error) {
	caps := []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
	known := cap.Known()
	if change != nil {
		// ALL comes first, whichever list it is in, so that what is named alone still counts.
		if slices.ContainsFunc(change.Add, all) {
			caps = slices.Clone(known)
		}
		if slices.ContainsFunc(change.Drop, all) {
			caps = nil
		}
		for _, c := range change.Add {
			name := "CAP_" + strings.TrimPrefix(strings.ToUpper(string(c)), "CAP_")
			switch {
			case all(c):
			case !slices.Contains(known, name):
				return nil, fmt.Errorf("unknown capability %q", c)
			case !slices.Contains(caps, name):
				caps = append(caps, name)
			}
		}
		for _, c := range change.Drop {
			name := "CAP_" + strings.TrimPrefix(strings.ToUpper(string(c)), "CAP_")
			caps = slices.DeleteFunc(caps, func(have string) bool { return have == name })
		}
	}
	return slices.DeleteFunc(caps, func(c string) bool { return !slices.Contains(possible, c) }), nil
}

func all(c corev1.Capability) bool { return strings.EqualFold(string(c), "ALL") }

// seccompDir is where Localhost profiles are, as on other Kubernetes nodes.
const seccompDir = "/var/lib/kubelet/seccomp"

// filter lets a container make the system calls that its profile allows: those of RuntimeDefault unless it says otherwise.
func filter(spec *specs.Spec, c runtime.ContainerConfig) error {
	p := &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
	if c.PodSecurity != nil && c.PodSecurity.SeccompProfile != nil {
		p = c.PodSecurity.SeccompProfile
	}
	if c.Security != nil && c.Security.SeccompProfile != nil {
		p = c.Security.SeccompProfile
	}
	switch p.Type {
	case corev1.SeccompProfileTypeUnconfined:
	case corev1.SeccompProfileTypeRuntimeDefault:
		spec.Linux.Seccomp = seccomp.DefaultProfile(spec)
	case corev1.SeccompProfileTypeLocalhost:
		if p.LocalhostProfile == nil {
			return fmt.Errorf("seccomp profile of type Localhost without a file")
		}
		root, err := os.OpenRoot(seccompDir)
		if err != nil {
			return fmt.Errorf("seccomp profile: %w", err)
		}
		defer root.Close()
		b, err := root.ReadFile(*p.LocalhostProfile)
		if err != nil {
			return fmt.Errorf("seccomp profile: %w", err)
		}
		spec.Linux.Seccomp = &specs.LinuxSeccomp{}
		if err := json.Unmarshal(b, spec.Linux.Seccomp); err != nil {
			return fmt.Errorf("seccomp profile %s: %w", *p.LocalhostProfile, err)
		}
	}
	return nil
}
