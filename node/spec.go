package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
	"shoal/node/runtime"
)

// sandboxConfig describes a pod's sandbox.
func (n *Node) sandboxConfig(p *corev1.Pod) (runtime.SandboxConfig, error) {
	c := runtime.SandboxConfig{
		UID: p.UID, Namespace: p.Namespace, Name: p.Name, Hostname: hostname(p),
		HostNetwork: p.Spec.HostNetwork, HostIPC: p.Spec.HostIPC, HostPID: p.Spec.HostPID, SharePID: sharesPID(p),
		Resources: podResources(p),
	}
	c.Resources.PidsLimit = n.cfg.PodPIDs
	if p.Spec.HostNetwork {
		c.Hostname = n.cfg.Machine.Name
	} else if p.Spec.SetHostnameAsFQDN != nil && *p.Spec.SetHostnameAsFQDN && p.Spec.Subdomain != "" {
		if c.Hostname = n.fqdn(p); len(c.Hostname) > maxFQDN {
			return c, fmt.Errorf("spec.setHostnameAsFQDN: the name %q is longer than %d characters, which is all that the kernel takes", c.Hostname, maxFQDN)
		}
	}
	if sc := p.Spec.SecurityContext; sc != nil && len(sc.Sysctls) > 0 {
		c.Sysctls = map[string]string{}
		for _, s := range sc.Sysctls {
			c.Sysctls[s.Name] = s.Value
		}
	}
	return c, nil
}

func sharesPID(p *corev1.Pod) bool {
	return p.Spec.ShareProcessNamespace != nil && *p.Spec.ShareProcessNamespace
}

// podResources bounds the pod as a whole: its requests weigh, and it is limited where every container is.
func podResources(p *corev1.Pod) runtime.Resources {
	requests, limits := api.PodRequests(p), api.PodLimits(p)
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				if _, ok := list[i].Resources.Limits[name]; !ok && !limitsAll(p, name) {
					delete(limits, name)
				}
			}
		}
	}
	return cgroupOf(requests, limits)
}

// limitsAll reports whether the pod has a limit of its own.
func limitsAll(p *corev1.Pod, name corev1.ResourceName) bool {
	if p.Spec.Resources == nil {
		return false
	}
	_, ok := p.Spec.Resources.Limits[name]
	return ok
}

const (
	cpuPeriod = 100_000 // µs
	minShares = 2
	minQuota  = 1000
)

func cgroupOf(requests, limits corev1.ResourceList) runtime.Resources {
	r := runtime.Resources{CPUShares: minShares, CPUPeriod: cpuPeriod}
	cpu := requests[corev1.ResourceCPU]
	if cpu.IsZero() {
		cpu = limits[corev1.ResourceCPU]
	}
	r.CPUShares = uint64(max(minShares, cpu.MilliValue()*1024/1000))
	if limit := limits[corev1.ResourceCPU]; !limit.IsZero() {
		r.CPUQuota = max(minQuota, limit.MilliValue()*cpuPeriod/1000)
	}
	if limit := limits[corev1.ResourceMemory]; !limit.IsZero() {
		r.MemoryBytes = limit.Value()
	}
	return r
}

// oomScore says who goes first when the machine runs out of memory: those who asked for nothing, last those who asked
// for all they may use.
func oomScore(p *corev1.Pod, c *corev1.Container, memory int64) int {
	switch api.QOSClass(p) {
	case corev1.PodQOSGuaranteed:
		return -997
	case corev1.PodQOSBestEffort:
		return 1000
	case corev1.PodQOSBurstable:
	}
	if memory <= 0 {
		return 999
	}
	request := c.Resources.Requests.Memory().Value()
	return int(min(999, max(3, 1000-1000*request/memory)))
}

// containerConfig describes one run of a container. Its error is one of the pod's making, mostly.
func (w *worker) containerConfig(_ context.Context, p *corev1.Pod, c *corev1.Container, img runtime.Image, attempt int) (runtime.ContainerConfig, error) {
	n := w.n
	err := refusesRoot(p, c, img)
	if err != nil {
		return runtime.ContainerConfig{}, err
	}
	// The downward API shows the pod as it is now, addresses included.
	seen := *p
	seen.Status.HostIP, seen.Status.PodIP = "", w.mem.sandbox.IP
	seen.Status.HostIPs, seen.Status.PodIPs = nil, []corev1.PodIP{{IP: w.mem.sandbox.IP}}
	for i, ip := range n.host.ips {
		if i == 0 {
			seen.Status.HostIP = ip
		}
		seen.Status.HostIPs = append(seen.Status.HostIPs, corev1.HostIP{IP: ip})
	}
	if p.Spec.HostNetwork {
		seen.Status.PodIP, seen.Status.PodIPs = seen.Status.HostIP, nil
		for _, ip := range n.host.ips {
			seen.Status.PodIPs = append(seen.Status.PodIPs, corev1.PodIP{IP: ip})
		}
	}
	values := map[string]string{}
	cfg := runtime.ContainerConfig{
		UID: p.UID, Namespace: p.Namespace, Pod: p.Name, Name: c.Name, Attempt: attempt, SpecHash: specHash(c), Image: img,
		WorkingDir: c.WorkingDir, Resources: cgroupOf(c.Resources.Requests, c.Resources.Limits),
		Security: c.SecurityContext, PodSecurity: p.Spec.SecurityContext,
		LogPath: w.logPath(c.Name, attempt), TTY: c.TTY, Stdin: c.Stdin,
		HostNetwork: p.Spec.HostNetwork, HostPID: p.Spec.HostPID, HostIPC: p.Spec.HostIPC, SharePID: sharesPID(p),
	}
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		cfg.StopSignal = string(*c.Lifecycle.StopSignal)
	}
	machine := n.capacity()
	cfg.Resources.OOMScoreAdj = oomScore(p, c, machine.Memory().Value())
	cfg.Env, err = w.environment(&seen, c)
	if err != nil {
		return cfg, err
	}
	for _, e := range cfg.Env {
		name, value, _ := strings.Cut(e, "=")
		values[name] = value
	}
	lookup := func(name string) (string, bool) { v, ok := values[name]; return v, ok }
	cfg.Command, cfg.Args = expandAll(c.Command, lookup), expandAll(c.Args, lookup)
	if err := os.MkdirAll(w.logDir(c.Name), 0o755); err != nil {
		return cfg, err
	}
	cfg.Mounts, err = n.volumes.Mounts(&seen, c, lookup)
	if err != nil {
		return cfg, err
	}
	return cfg, w.ownMounts(&cfg, &seen, c)
}

// environment returns a container's variables as K=V. While the API does not answer they are those of its last run.
func (w *worker) environment(p *corev1.Pod, c *corev1.Container) ([]string, error) {
	if env, ok := w.env[c.Name]; ok && !w.n.refs.known(p) {
		return env, nil
	}
	name := hostname(p)
	if p.Spec.HostNetwork {
		name = w.n.cfg.Machine.Name
	}
	env, err := environment(c, surroundings{pod: p, services: w.n.service.List("", nil), objects: w.n.refs, allocatable: w.n.allocatable()})
	if err != nil {
		return nil, err
	}
	out := []string{"HOSTNAME=" + name}
	for _, e := range env {
		out = append(out, e.Name+"="+e.Value)
	}
	return out, nil
}

func expandAll(list []string, lookup func(string) (string, bool)) []string {
	if list == nil {
		return nil
	}
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = expand(s, lookup)
	}
	return out
}

// refusesRoot checks runAsNonRoot, before anything of the image runs.
func refusesRoot(p *corev1.Pod, c *corev1.Container, img runtime.Image) error {
	var must *bool
	var user *int64
	if s := p.Spec.SecurityContext; s != nil {
		must, user = s.RunAsNonRoot, s.RunAsUser
	}
	if s := c.SecurityContext; s != nil {
		if s.RunAsNonRoot != nil {
			must = s.RunAsNonRoot
		}
		if s.RunAsUser != nil {
			user = s.RunAsUser
		}
	}
	switch {
	case must == nil || !*must:
		return nil
	case user != nil && *user == 0:
		return errors.New("container's runAsUser breaks non-root policy")
	case user != nil:
		return nil
	}
	name, _, _ := strings.Cut(img.User, ":") // USER may name a group, too
	uid, err := strconv.Atoi(name)
	switch {
	case name == "" || name == "root" || err == nil && uid == 0:
		return errors.New("container has runAsNonRoot and image will run as root")
	case err != nil:
		return fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root", name)
	}
	return nil
}

// ownMounts adds the files that the node makes for a container: names, resolver, termination message.
func (w *worker) ownMounts(cfg *runtime.ContainerConfig, p *corev1.Pod, c *corev1.Container) error {
	has := func(path string) bool {
		for _, m := range cfg.Mounts {
			if filepath.Clean(m.ContainerPath) == path {
				return true
			}
		}
		return false
	}
	add := func(host, path string) {
		if !has(path) {
			cfg.Mounts = append(cfg.Mounts, runtime.Mount{HostPath: host, ContainerPath: path})
		}
	}
	hosts := filepath.Join(w.dir(), "etc-hosts")
	if err := writeIfChanged(hosts, w.n.hostsFile(p), 0o644); err != nil {
		return err
	}
	name := filepath.Join(w.dir(), "hostname")
	shown := hostname(p)
	if p.Spec.HostNetwork {
		shown = w.n.cfg.Machine.Name
	}
	if err := writeIfChanged(name, []byte(shown+"\n"), 0o644); err != nil {
		return err
	}
	add(hosts, "/etc/hosts")
	add(name, "/etc/hostname")
	add(filepath.Join(w.dir(), "resolv.conf"), "/etc/resolv.conf")
	if path := c.TerminationMessagePath; path != "" {
		words := w.wordsPath(c.Name, cfg.Attempt)
		if err := os.MkdirAll(filepath.Dir(words), 0o755); err != nil {
			return err
		}
		if err := writeIfChanged(words, nil, 0o666); err != nil {
			return err
		}
		if err := os.Chmod(words, 0o666); err != nil { // whoever the container runs as, whatever the umask
			return err
		}
		add(words, path)
		cfg.TerminationPath = words
	}
	return nil
}
