// Package sandbox makes pods' sandboxes without a container runtime: the pause process in new namespaces, the namespaces
// pinned by bind mounts so that containers join them by path, the pod's cgroup, its shared memory, and a file that
// lets the next peer adopt all this. The file and the kernel are the only state. It is called by the container runtime.
package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"shoal/node/runtime"
	"shoal/node/runtime/cgroup"
	"shoal/node/runtime/proc"
)

// Config says where sandboxes live.
type Config struct {
	RunDir       string // volatile; pods are RunDir/pods/UID
	CgroupParent string // where pods' cgroups are made, from the hierarchies' roots; "" is "/shoal"
}

// Sandboxes is this machine's sandboxes. It is safe for concurrent use on different pods.
type Sandboxes struct{ config Config }

// New returns the sandboxes below c.RunDir. It does no I/O.
func New(c Config) *Sandboxes {
	if c.CgroupParent == "" {
		c.CgroupParent = "/shoal"
	}
	return &Sandboxes{config: c}
}

// Sandbox is one of them, as it is on file.
type Sandbox struct {
	UID         types.UID         `json:"uid"`
	Namespace   string            `json:"namespace"`
	Name        string            `json:"name"`
	Hostname    string            `json:"hostname,omitempty"`
	HostNetwork bool              `json:"hostNetwork,omitempty"`
	Pause       proc.ID           `json:"pause"`
	Started     time.Time         `json:"started"`
	IP          string            `json:"ip,omitempty"`
	Cgroup      string            `json:"cgroup"`
	Namespaces  map[string]string `json:"namespaces,omitempty"` // net, ipc, uts, pid → path; the host's are missing
	Shm         string            `json:"shm"`                  // directory for /dev/shm
}

// Running reports whether the pause lives.
func (s Sandbox) Running() bool { return s.Pause.Alive() && cgroup.Holds(s.Pause.Pid, s.Cgroup) }

// View returns the sandbox as the runtime's callers see it.
func (s Sandbox) View() runtime.Sandbox {
	v := runtime.Sandbox{
		PauseID: fmt.Sprintf("pause-%s-%d", s.UID, s.Pause.Start),
		Pid:     s.Pause.Pid,
		NetNS:   s.Namespaces["net"],
		IP:      s.IP,
		Running: s.Running(),
		Started: s.Started,
	}
	if !v.Running {
		v.Pid = 0
	}
	return v
}

// Dir is where everything volatile of a pod is.
func (s *Sandboxes) Dir(uid types.UID) string {
	return filepath.Join(s.config.RunDir, "pods", string(uid))
}

func (s *Sandboxes) file(uid types.UID) string { return filepath.Join(s.Dir(uid), "sandbox.json") }

func (s *Sandboxes) nsDir(uid types.UID) string { return filepath.Join(s.Dir(uid), "ns") }

// List returns the pods that have a directory, whatever is in it.
func (s *Sandboxes) List() ([]types.UID, error) {
	entries, err := os.ReadDir(filepath.Join(s.config.RunDir, "pods"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var out []types.UID
	for _, e := range entries {
		out = append(out, types.UID(e.Name()))
	}
	return out, err
}

// Load returns what is on file, or runtime.ErrNotFound.
func (s *Sandboxes) Load(uid types.UID) (Sandbox, error) {
	var x Sandbox
	if err := valid(uid); err != nil {
		return x, err
	}
	b, err := os.ReadFile(s.file(uid))
	if errors.Is(err, os.ErrNotExist) {
		return x, fmt.Errorf("sandbox of pod %s: %w", uid, runtime.ErrNotFound)
	}
	if err != nil {
		return x, err
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return x, fmt.Errorf("sandbox of pod %s: %w", uid, err)
	}
	return x, nil
}

// RecordIP keeps the pod's address on file.
func (s *Sandboxes) RecordIP(uid types.UID, ip string) (Sandbox, error) {
	x, err := s.Load(uid)
	if err != nil {
		return x, err
	}
	x.IP = ip
	return x, s.save(x)
}

func (s *Sandboxes) save(x Sandbox) error {
	b, err := json.Marshal(x)
	if err != nil {
		return err
	}
	tmp := s.file(x.UID) + ".tmp"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, s.file(x.UID))
}

// Start makes the pod's sandbox, or returns the one that runs. What is left of an earlier one that ended is replaced;
// containers that are still in the old namespaces stay there.
func (s *Sandboxes) Start(ctx context.Context, c runtime.SandboxConfig) (Sandbox, error) {
	old, err := s.Load(c.UID)
	if err == nil && old.Running() {
		return old, nil
	}
	if err := valid(c.UID); err != nil {
		return Sandbox{}, err
	}
	if err := s.unmount(c.UID); err != nil {
		return Sandbox{}, err
	}
	x, err := s.start(c)
	if err != nil {
		err = fmt.Errorf("start sandbox of %s/%s: %w", c.Namespace, c.Name, err)
		return Sandbox{}, errors.Join(err, s.undo(ctx, x))
	}
	return x, nil
}

func (s *Sandboxes) start(c runtime.SandboxConfig) (Sandbox, error) {
	parent := c.CgroupParent
	if parent == "" {
		parent = s.config.CgroupParent
	}
	x := Sandbox{
		UID: c.UID, Namespace: c.Namespace, Name: c.Name, Hostname: c.Hostname, HostNetwork: c.HostNetwork,
		Cgroup: filepath.Join("/", parent, "pod"+string(c.UID)), Shm: filepath.Join(s.Dir(c.UID), "shm"),
	}
	tree, err := cgroup.Mounted()
	if err != nil {
		return x, err
	}
	home := pauseCgroup(tree, x.Cgroup)
	if err := tree.Make(home); err != nil {
		return x, fmt.Errorf("make cgroup: %w", err)
	}
	if err := tree.Limit(x.Cgroup, cgroup.Limits{
		CPUShares: c.Resources.CPUShares, CPUQuota: c.Resources.CPUQuota, CPUPeriod: c.Resources.CPUPeriod,
		Memory: c.Resources.MemoryBytes, Pids: c.Resources.PidsLimit,
	}); err != nil {
		return x, err
	}
	for _, dir := range []string{s.nsDir(c.UID), filepath.Join(s.config.RunDir, "empty")} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return x, err
		}
	}
	input, stay, err := os.Pipe()
	if err != nil {
		return x, err
	}
	defer input.Close()
	defer stay.Close() // if it was not told to stay, it ends now
	pid, err := launch(launchConfig{SandboxConfig: c, root: filepath.Join(s.config.RunDir, "empty"), input: input})
	if err != nil {
		return x, err
	}
	x.Started = time.Now()
	if x.Pause, err = proc.Of(pid); err != nil {
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		return x, fmt.Errorf("pause: %w", err)
	}
	if err := tree.Enter(home, pid); err != nil {
		return x, err
	}
	if err := s.save(x); err != nil {
		return x, err
	}
	// It is on record: the next peer finds it and RemovePod undoes it, whenever this one dies.
	if _, err := stay.Write([]byte{1}); err != nil {
		return x, fmt.Errorf("tell pause to stay: %w", err)
	}
	if x.Namespaces, err = s.pin(c, pid); err != nil {
		return x, err
	}
	if c.HostIPC {
		x.Shm = "/dev/shm"
	} else if err := mountShm(x.Shm); err != nil {
		return x, err
	}
	return x, s.save(x)
}

// pauseCgroup is where the pause is: version 2 has no processes beside child cgroups.
func pauseCgroup(t cgroup.Tree, pod string) string {
	if t.V2() {
		return filepath.Join(pod, "pause")
	}
	return pod
}

// pin keeps the namespaces of the pause at paths.
func (s *Sandboxes) pin(c runtime.SandboxConfig, pid int) (map[string]string, error) {
	paths := map[string]string{}
	for _, n := range kinds(c) {
		path := filepath.Join(s.nsDir(c.UID), n.name)
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o444)
		if err != nil {
			return paths, err
		}
		if err := f.Close(); err != nil {
			return paths, err
		}
		source := fmt.Sprintf("/proc/%d/ns/%s", pid, n.name)
		if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
			return paths, fmt.Errorf("pin %s namespace: %w", n.name, err)
		}
		paths[n.name] = path
	}
	return paths, nil
}

func mountShm(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("shm", dir, "tmpfs", flags, "mode=1777,size=65536k"); err != nil {
		return fmt.Errorf("mount shared memory: %w", err)
	}
	return nil
}

// valid refuses identities that would leave the directory of pods.
func valid(uid types.UID) error {
	if uid == "" || len(uid) > 128 || strings.HasPrefix(string(uid), ".") || strings.ContainsAny(string(uid), "/\x00") {
		return fmt.Errorf("invalid pod uid %q", uid)
	}
	return nil
}
