package containerd

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/containers"
	"k8s.io/apimachinery/pkg/types"

	"shoal/node/runtime"
)

// The labels of a container. They are all that is needed to adopt it.
const (
	labelUID       = "shoal.io/pod-uid"
	labelNamespace = "shoal.io/pod-namespace"
	labelPod       = "shoal.io/pod-name"
	labelName      = "shoal.io/container"
	labelAttempt   = "shoal.io/attempt"
	labelStreak    = "shoal.io/streak"
	labelHash      = "shoal.io/spec-hash"
	labelImageID   = "shoal.io/image-id"
	labelLog       = "shoal.io/log"
	labelCgroup    = "shoal.io/cgroup"
	labelSignal    = "shoal.io/stop-signal"
	labelTTY       = "shoal.io/tty"
	labelStdin     = "shoal.io/stdin"
	labelOnce      = "shoal.io/stdin-once"
	labelResources = "shoal.io/resources" // changed with them

	// Set together, once, when the container has ended.
	labelStarted  = "shoal.io/started"
	labelFinished = "shoal.io/finished"
	labelCode     = "shoal.io/exit-code"
	labelReason   = "shoal.io/reason"
	labelMessage  = "shoal.io/message"
)

// Reasons of an end.
const (
	completed  = "Completed"
	failed     = "Error"
	oomKilled  = "OOMKilled"
	startError = "StartError"
	unknown    = "ContainerStatusUnknown" // it ended while nobody could see how
)

const (
	codeStartError = 128
	codeUnknown    = 137
)

// record is what is known of one container. The Runtime's mutex guards it; identity does not change.
type record struct {
	uid       types.UID
	namespace string
	pod       string
	cgroup    string
	signal    string
	tty       bool
	stdin     bool
	once      bool // input ends with the first client

	runtime.Container
	busy   bool          // a call is making or removing it: lists say nothing about it
	ending bool          // its end is being put on record
	killed bool          // by us, with SIGKILL
	ended  chan struct{} // closed when State is Exited
}

// identify returns the id of one run of a container: the same run always has the same.
func identify(uid types.UID, name string, attempt int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%d", uid, name, attempt))
	return hex.EncodeToString(sum[:])
}

func newRecord(c runtime.ContainerConfig, cgroup string, now time.Time) *record {
	id := identify(c.UID, c.Name, c.Attempt)
	return &record{
		uid: c.UID, namespace: c.Namespace, pod: c.Pod, cgroup: cgroup, signal: stopSignal(c), tty: c.TTY, stdin: c.Stdin,
		once:  c.StdinOnce,
		ended: make(chan struct{}),
		Container: runtime.Container{
			ID: id, Name: c.Name, Attempt: c.Attempt, Streak: c.Streak, Image: c.Image.Name, ImageID: c.Image.ID, SpecHash: c.SpecHash,
			State: runtime.Created, Created: now, LogPath: c.LogPath, Resources: c.Resources,
		},
	}
}

func stopSignal(c runtime.ContainerConfig) string {
	return cmp.Or(c.StopSignal, c.Image.StopSignal, "SIGTERM")
}

func (x *record) labels() map[string]string {
	return map[string]string{
		labelUID: string(x.uid), labelNamespace: x.namespace, labelPod: x.pod, labelName: x.Name,
		labelAttempt: strconv.Itoa(x.Attempt), labelStreak: strconv.Itoa(x.Streak), labelHash: x.SpecHash, labelImageID: x.ImageID, labelLog: x.LogPath,
		labelCgroup: x.cgroup, labelSignal: x.signal,
		labelTTY: strconv.FormatBool(x.tty), labelStdin: strconv.FormatBool(x.stdin),
		labelOnce: strconv.FormatBool(x.once), labelResources: writeResources(x.Resources),
	}
}

// read builds a record from containerd's. ok is false for a container that is not ours.
func read(c containers.Container) (x *record, ok bool) {
	l := c.Labels
	if l[labelUID] == "" {
		return nil, false
	}
	x = &record{
		uid: types.UID(l[labelUID]), namespace: l[labelNamespace], pod: l[labelPod], cgroup: l[labelCgroup],
		signal: l[labelSignal], tty: l[labelTTY] == "true", stdin: l[labelStdin] == "true",
		once: l[labelOnce] == "true", ended: make(chan struct{}),
		Container: runtime.Container{
			ID: c.ID, Name: l[labelName], Image: c.Image, ImageID: l[labelImageID], SpecHash: l[labelHash],
			State: runtime.Created, Created: c.CreatedAt, LogPath: l[labelLog],
		},
	}
	x.Resources = readResources(l[labelResources])
	x.Attempt, _ = strconv.Atoi(l[labelAttempt])
	x.Streak, _ = strconv.Atoi(l[labelStreak])
	if _, over := l[labelFinished]; over {
		x.apply(outcomeOf(l))
	}
	return x, true
}

// outcome is how a container ended.
type outcome struct {
	started, finished time.Time
	code              int
	reason, message   string
}

func (o outcome) labels() map[string]string {
	l := map[string]string{
		labelFinished: o.finished.UTC().Format(time.RFC3339Nano),
		labelCode:     strconv.Itoa(o.code),
		labelReason:   o.reason,
	}
	if !o.started.IsZero() {
		l[labelStarted] = o.started.UTC().Format(time.RFC3339Nano)
	}
	if o.message != "" {
		l[labelMessage] = o.message[:min(len(o.message), 2048)] // containerd takes 4096 bytes a label
	}
	return l
}

func outcomeOf(l map[string]string) outcome {
	o := outcome{reason: l[labelReason], message: l[labelMessage]}
	o.code, _ = strconv.Atoi(l[labelCode])
	o.finished, _ = time.Parse(time.RFC3339Nano, l[labelFinished])
	o.started, _ = time.Parse(time.RFC3339Nano, l[labelStarted])
	return o
}

// apply makes the record an ended one. Caller holds the Runtime's mu, and does it once.
func (x *record) apply(o outcome) {
	x.State, x.Pid = runtime.Exited, 0
	x.Started, x.Finished, x.ExitCode, x.Reason, x.Message = o.started, o.finished, o.code, o.reason, o.message
	x.OOM = o.reason == oomKilled
	close(x.ended)
}

// sorted orders containers by name, newest first.
func sorted(cs []runtime.Container) []runtime.Container {
	slices.SortFunc(cs, func(a, b runtime.Container) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(b.Attempt, a.Attempt))
	})
	return cs
}
