// Package fake is a container runtime without containers, for tests of the node. It keeps state as a real one does,
// fails or blocks where it is told to, and its containers run until a test ends them. It never starts a process.
package fake

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"shoal/node/runtime"
)

// Call names a method of runtime.Interface, to be made to fail or to block.
type Call string

// The calls that can be made to fail or to block.
const (
	Pods            Call = "Pods"
	Pod             Call = "Pod"
	StartSandbox    Call = "StartSandbox"
	RecordIP        Call = "RecordIP"
	RemovePod       Call = "RemovePod"
	ImageOf         Call = "Image"
	StartContainer  Call = "StartContainer"
	StopContainer   Call = "StopContainer"
	RemoveContainer Call = "RemoveContainer"
	Exec            Call = "Exec"
	Stats           Call = "Stats"
	Images          Call = "Images"
	Import          Call = "Import"
	RemoveImage     Call = "RemoveImage"
	Layers          Call = "Layers"
	Resize          Call = "Resize"
)

// Runtime is the fake. It outlives the node under test: give the same one to a second node to test adoption.
type Runtime struct {
	now func() time.Time

	mu            sync.Mutex
	pods          map[types.UID]*pod
	images        map[string]runtime.Image // present
	imagesChanged chan struct{}            // closed and replaced when images are
	remote        map[string]runtime.Image // can be pulled
	passwords     map[string]string        // of images that can be pulled only with it
	failures      map[Call][]error
	gates         map[Call]chan struct{}
	watchers      map[int]func(types.UID)
	watchSeq      int
	pids          int
	ignore        map[string]bool // containers, as uid/name, that ignore the stop signal
	exec          func(runtime.Container, runtime.ExecConfig) (int, error)
	stats         map[types.UID]runtime.Stats
	layers        map[types.UID]map[string]runtime.Disk
	mounted       map[string]bool // images, by key
}

type pod struct {
	config     runtime.SandboxConfig
	sandbox    runtime.Sandbox
	containers map[string]*container // by id
	resources  runtime.Resources     // as changed last
}

type container struct {
	runtime.Container
	config runtime.ContainerConfig
	ended  chan struct{} // closed when it exited
}

var _ runtime.Interface = (*Runtime)(nil)

// New returns a runtime that holds nothing. now gives the times of starts and ends; nil is time.Now.
func New(now func() time.Time) *Runtime {
	if now == nil {
		now = time.Now
	}
	return &Runtime{
		now:           now,
		pods:          map[types.UID]*pod{},
		images:        map[string]runtime.Image{},
		imagesChanged: make(chan struct{}),
		remote:        map[string]runtime.Image{},
		passwords:     map[string]string{},
		failures:      map[Call][]error{},
		gates:         map[Call]chan struct{}{},
		watchers:      map[int]func(types.UID){},
		ignore:        map[string]bool{},
		mounted:       map[string]bool{},
		stats:         map[types.UID]runtime.Stats{},
		layers:        map[types.UID]map[string]runtime.Disk{},
		pids:          1000,
	}
}

// enter waits at a closed gate, then consumes one failure if there is one.
func (r *Runtime) enter(ctx context.Context, c Call) error {
	for {
		r.mu.Lock()
		gate := r.gates[c]
		if gate == nil {
			break
		}
		r.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-gate:
		}
	}
	defer r.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if q := r.failures[c]; len(q) > 0 {
		r.failures[c] = q[1:]
		return q[0]
	}
	return nil
}

// Pods implements runtime.Interface.
func (r *Runtime) Pods(ctx context.Context) ([]runtime.Pod, error) {
	if err := r.enter(ctx, Pods); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]runtime.Pod, 0, len(r.pods))
	for _, p := range r.pods {
		out = append(out, p.snapshot())
	}
	slices.SortFunc(out, func(a, b runtime.Pod) int { return strings.Compare(string(a.UID), string(b.UID)) })
	return out, nil
}

// Pod implements runtime.Interface.
func (r *Runtime) Pod(ctx context.Context, uid types.UID) (runtime.Pod, error) {
	if err := r.enter(ctx, Pod); err != nil {
		return runtime.Pod{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.pods[uid]
	if !ok {
		return runtime.Pod{}, fmt.Errorf("pod %s: %w", uid, runtime.ErrNotFound)
	}
	return p.snapshot(), nil
}

func (p *pod) snapshot() runtime.Pod {
	out := runtime.Pod{UID: p.config.UID, Namespace: p.config.Namespace, Name: p.config.Name, Sandbox: p.sandbox}
	for _, c := range p.containers {
		out.Containers = append(out.Containers, c.Container)
	}
	slices.SortFunc(out.Containers, func(a, b runtime.Container) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(b.Attempt, a.Attempt))
	})
	return out
}

// StartSandbox implements runtime.Interface.
func (r *Runtime) StartSandbox(ctx context.Context, c runtime.SandboxConfig) (runtime.Sandbox, error) {
	if err := r.enter(ctx, StartSandbox); err != nil {
		return runtime.Sandbox{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pods[c.UID]
	if p == nil {
		p = &pod{containers: map[string]*container{}}
		r.pods[c.UID] = p
	}
	if p.sandbox.Running {
		return p.sandbox, nil
	}
	r.pids++
	p.config = c
	p.sandbox = runtime.Sandbox{
		PauseID: fmt.Sprintf("%s-%d", c.UID, r.pids),
		Pid:     r.pids,
		Running: true,
		Started: r.now(),
	}
	if !c.HostNetwork {
		p.sandbox.NetNS = "/run/fake/pods/" + string(c.UID) + "/ns/net"
	}
	return p.sandbox, nil
}

// RecordIP implements runtime.Interface.
func (r *Runtime) RecordIP(ctx context.Context, uid types.UID, ip string) error {
	if err := r.enter(ctx, RecordIP); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.pods[uid]
	if !ok {
		return fmt.Errorf("pod %s: %w", uid, runtime.ErrNotFound)
	}
	p.sandbox.IP = ip
	return nil
}

// RemovePod implements runtime.Interface.
func (r *Runtime) RemovePod(ctx context.Context, uid types.UID) error {
	if err := r.enter(ctx, RemovePod); err != nil {
		return err
	}
	r.mu.Lock()
	p := r.pods[uid]
	if p != nil {
		for _, c := range p.containers {
			c.endLocked(r.now(), 137, false)
		}
		delete(r.pods, uid)
		delete(r.stats, uid)
	}
	watchers := r.watchersLocked()
	r.mu.Unlock()
	if p != nil {
		tell(watchers, uid)
	}
	return nil
}

// Stats implements runtime.Interface.
func (r *Runtime) Stats(ctx context.Context, uid types.UID) (runtime.Stats, error) {
	if err := r.enter(ctx, Stats); err != nil {
		return runtime.Stats{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.pods[uid]; !ok {
		return runtime.Stats{}, fmt.Errorf("pod %s: %w", uid, runtime.ErrNotFound)
	}
	s := r.stats[uid]
	if s.Time.IsZero() {
		s.Time = r.now()
	}
	return s, nil
}

// Events implements runtime.Interface.
func (r *Runtime) Events(ctx context.Context, changed func(types.UID)) error {
	r.mu.Lock()
	r.watchSeq++
	id := r.watchSeq
	r.watchers[id] = changed
	r.mu.Unlock()
	changed("")
	<-ctx.Done()
	r.mu.Lock()
	delete(r.watchers, id)
	r.mu.Unlock()
	return ctx.Err()
}

func (r *Runtime) watchersLocked() []func(types.UID) {
	out := make([]func(types.UID), 0, len(r.watchers))
	for _, w := range r.watchers {
		out = append(out, w)
	}
	return out
}

// tell calls every watcher, without any lock, so that a watcher may call the runtime.
func tell(watchers []func(types.UID), uid types.UID) {
	for _, w := range watchers {
		w(uid)
	}
}

// Layers implements runtime.Interface.
func (r *Runtime) Layers(ctx context.Context, uid types.UID) (map[string]runtime.Disk, error) {
	if err := r.enter(ctx, Layers); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]runtime.Disk{}
	maps.Copy(out, r.layers[uid])
	return out, nil
}

// Wrote says what a pod's container has written.
func (r *Runtime) Wrote(uid types.UID, container string, d runtime.Disk) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.layers[uid] == nil {
		r.layers[uid] = map[string]runtime.Disk{}
	}
	r.layers[uid][container] = d
}
