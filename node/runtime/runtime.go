// Package runtime runs a pod's processes: its sandbox (a pause process holding the pod's namespaces), its images and its
// containers. It decides nothing: the node does. What it holds survives the death of the peer and is its memory.
package runtime

import (
	"context"
	"errors"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// ErrNotFound means that the pod, container or image is not held by the runtime.
var ErrNotFound = errors.New("not found")

// Interface is a container runtime. Implementations are safe for concurrent use and idempotent: repeating a call that
// was cut short completes it. Calls for one pod are made one at a time, by its worker.
type Interface interface {
	// Pods returns everything the runtime holds, running or not.
	Pods(ctx context.Context) ([]Pod, error)
	// Pod returns one of them, or ErrNotFound.
	Pod(ctx context.Context, uid types.UID) (Pod, error)

	// StartSandbox makes the pod's namespaces and starts its pause. The network is attached by the caller, through
	// Sandbox.NetNS, after it returns.
	StartSandbox(ctx context.Context, c SandboxConfig) (Sandbox, error)
	// RecordIP keeps the pod's address with the sandbox, so that it is known after a restart of the peer.
	RecordIP(ctx context.Context, uid types.UID, ip string) error
	// RemovePod kills and removes every container, then the sandbox, cgroups, mounts and log pipes. Removing what is
	// not there succeeds. Log files are left to the caller.
	RemovePod(ctx context.Context, uid types.UID) error

	// Image finds or pulls an image as p demands and returns its config's defaults. An image that is here but was pulled with credentials that
	// are not among p's is had only if the registry says so.
	Image(ctx context.Context, ref string, p Pull) (Image, error)
	// MountImage mounts the files of an image at dir, an empty directory of the caller's, read-only; the image is had as by Image. Until ReleaseImage,
	// after the caller has unmounted it, key keeps what is mounted. Repeating it when it is not mounted mounts the same again.
	MountImage(ctx context.Context, key, ref string, p Pull, dir string) error
	ReleaseImage(ctx context.Context, key string) error
	// StartContainer creates and starts a container; its output goes to c.LogPath in CRI format through the keeper.
	StartContainer(ctx context.Context, c ContainerConfig) (Container, error)
	// StopContainer sends the stop signal, and SIGKILL after grace; it returns when the container has ended.
	StopContainer(ctx context.Context, uid types.UID, id string, grace time.Duration) error
	// Resize changes the limits of a pod's cgroup and those of containers of it that run, by id. It is not done when one of them uses more memory than
	// it would have.
	Resize(ctx context.Context, uid types.UID, pod Resources, containers map[string]Resources) error
	// RemoveContainer removes an ended container and its snapshot.
	RemoveContainer(ctx context.Context, uid types.UID, id string) error

	// Exec runs a command in a running container and returns its exit code.
	Exec(ctx context.Context, uid types.UID, id string, c ExecConfig) (int, error)
	// Stats returns what the pod's containers use now.
	Stats(ctx context.Context, uid types.UID) (Stats, error)

	// Events calls changed with a pod's UID whenever one of its containers started, ended or ran out of memory, until
	// ctx ends. An empty UID means that events may have been missed: look at every pod. changed must not block.
	Events(ctx context.Context, changed func(types.UID)) error

	// Images lists local images, with a channel that is closed when there may be others; Import reads an OCI or docker archive and returns the names
	// it holds.
	Images(ctx context.Context) (all []Image, changed <-chan struct{}, err error)
	Import(ctx context.Context, archive io.Reader) ([]string, error)
	// RemoveImage forgets an image by its whole name, and frees what nothing else is made of. Containers made from it go on. Removing what is not
	// there succeeds.
	RemoveImage(ctx context.Context, name string) error
	// Layers returns what the pod's containers have written beside their images and volumes.
	Layers(ctx context.Context, uid types.UID) (map[string]Disk, error)
}

// Disk is what something takes of a disk.
type Disk struct{ Bytes, Inodes int64 }

// Pull says when an image is pulled, and as whom.
type Pull struct {
	Policy      corev1.PullPolicy
	Credentials []Credential // those that fit the image are tried, the most particular first
}

// Credential is a user of a registry.
type Credential struct {
	Registry           string // HOST[:PORT][/PATH], as in Docker's configuration; parts of the host may be *
	Username, Password string
}

// SandboxConfig describes a pod's sandbox.
type SandboxConfig struct {
	UID             types.UID
	Namespace, Name string
	Hostname        string
	HostNetwork     bool
	HostIPC         bool
	HostPID         bool
	SharePID        bool
	CgroupParent    string // "" is the runtime's default; the pod's own cgroup is made below it
	Resources       Resources
	Sysctls         map[string]string
}

// Resources limits a cgroup. Zero values mean no limit.
type Resources struct {
	CPUShares   uint64
	CPUQuota    int64 // µs of CPU in each CPUPeriod
	CPUPeriod   uint64
	MemoryBytes int64
	OOMScoreAdj int
	PidsLimit   int64
}

// Sandbox is a pod's running pause.
type Sandbox struct {
	PauseID string
	Pid     int
	NetNS   string // path of the network namespace; empty for host network
	IP      string // as recorded
	Running bool
	Started time.Time
}

// Pod is what the runtime holds of one pod.
type Pod struct {
	UID             types.UID
	Namespace, Name string
	Sandbox         Sandbox
	Containers      []Container // newest first for each name
}

// ContainerState is where a container is in its life.
type ContainerState string

// The states of a container.
const (
	Created ContainerState = "created"
	Running ContainerState = "running"
	Exited  ContainerState = "exited"
)

// Container is one run of one of a pod's containers.
type Container struct {
	ID       string
	Name     string
	Attempt  int // 0 for the first run: the restart count
	Image    string
	ImageID  string
	Streak   int    // how many quick ends came before, given in ContainerConfig
	SpecHash string // of the container's spec, given in ContainerConfig
	// Resources are those it was started with, or was given since. Of one that an earlier release started they are all zero.
	Resources Resources
	State     ContainerState
	Pid       int
	Created   time.Time
	Started   time.Time
	Finished  time.Time
	ExitCode  int
	OOM       bool
	Reason    string // "Error", "Completed", "OOMKilled", "StartError"
	Message   string
	LogPath   string
}

// Mount is one bind mount into a container.
type Mount struct {
	HostPath      string
	ContainerPath string
	ReadOnly      bool
	Recursive     bool // what is mounted below is read-only, too
	Inert         bool // nothing there is run as a program, or opened as a device
	Propagation   corev1.MountPropagationMode
}

// ContainerConfig describes one run of a container.
type ContainerConfig struct {
	UID             types.UID
	Namespace, Pod  string
	Name            string
	Attempt         int
	Streak          int
	SpecHash        string
	Image           Image
	Command         []string // replaces the image's entrypoint when not nil
	Args            []string // replaces the image's cmd when not nil
	WorkingDir      string
	Env             []string // K=V, over the image's
	Mounts          []Mount
	Resources       Resources
	Security        *corev1.SecurityContext    // the container's
	PodSecurity     *corev1.PodSecurityContext // the pod's
	LogPath         string
	TTY, Stdin      bool
	StdinOnce       bool // the container's input ends when the first client that attaches to it leaves
	StopSignal      string
	HostNetwork     bool
	HostPID         bool
	HostIPC         bool
	SharePID        bool
	BesidePid       int    // a process whose PID namespace is joined; 0 for none
	TerminationPath string // file in the host that is mounted as the termination message path; empty for none
}

// Image is a local image.
type Image struct {
	Name       string // the reference asked for; in a list, the whole name
	ID         string // digest of its config
	Digests    []string
	Size       int64
	Imported   bool // by hand: it cannot be pulled again
	User       string
	StopSignal string
	Entrypoint []string
	Cmd        []string
}

// ExecConfig describes a command run in a container. Streams may be nil.
type ExecConfig struct {
	Command []string
	TTY     bool
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Resize  <-chan TerminalSize
	Attach  bool // attach to the container's own process instead of running Command
}

// TerminalSize is a terminal's size in characters.
type TerminalSize struct{ Width, Height uint16 }

// Stats is a pod's use of its machine.
type Stats struct {
	Time       time.Time
	CPU        time.Duration // used since the start
	Memory     uint64        // working set, bytes
	Usage      uint64        // memory with everything that could be dropped, bytes
	PIDs       int           // threads
	Network    *Network      // since the sandbox was started; nil in the network of the machine
	Containers map[string]ContainerStats
}

// Network is what has gone through a pod's link.
type Network struct{ RxBytes, RxPackets, RxErrors, TxBytes, TxPackets, TxErrors uint64 }

// ContainerStats is one container's use.
type ContainerStats struct {
	CPU      time.Duration
	Memory   uint64
	Usage    uint64
	PIDs     int
	OOMKills uint64
	Started  time.Time
}
