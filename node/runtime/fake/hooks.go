package fake

import (
	"k8s.io/apimachinery/pkg/types"

	"shoal/node/runtime"
)

// Fail makes the next call of c return err. Called several times, the failures are returned in order, one a call.
func (r *Runtime) Fail(c Call, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures[c] = append(r.failures[c], err)
}

// Block makes every call of c wait, until release is called or its context ends.
func (r *Runtime) Block(c Call) (release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	gate := make(chan struct{})
	r.gates[c] = gate
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.gates[c] == gate {
			delete(r.gates, c)
			close(gate)
		}
	}
}

// Exit ends the running container of that name with code and reports whether there was one.
func (r *Runtime) Exit(uid types.UID, name string, code int) bool {
	c := r.running(uid, name)
	if c == nil {
		return false
	}
	r.end(uid, c, code, false)
	return true
}

// OOM ends the running container of that name as out of memory and reports whether there was one.
func (r *Runtime) OOM(uid types.UID, name string) bool {
	c := r.running(uid, name)
	if c == nil {
		return false
	}
	r.end(uid, c, 137, true)
	return true
}

// KillSandbox ends the pod's pause; containers run on, as they do when they do not share its process namespace.
func (r *Runtime) KillSandbox(uid types.UID) {
	r.mu.Lock()
	if p := r.pods[uid]; p != nil {
		p.sandbox.Running, p.sandbox.Pid = false, 0
	}
	watchers := r.watchersLocked()
	r.mu.Unlock()
	tell(watchers, uid)
}

// IgnoreStop makes containers of that name ignore the stop signal: they end by SIGKILL, after the grace period.
func (r *Runtime) IgnoreStop(uid types.UID, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ignore[string(uid)+"/"+name] = true
}

// OnExec sets what Exec does. run is called without a lock held.
func (r *Runtime) OnExec(run func(runtime.Container, runtime.ExecConfig) (int, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.exec = run
}

// SetStats sets what Stats returns for a pod.
func (r *Runtime) SetStats(uid types.UID, s runtime.Stats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats[uid] = s
}

// MissEvents tells every watcher that it may have missed events, as after a reconnect.
func (r *Runtime) MissEvents() {
	r.mu.Lock()
	watchers := r.watchersLocked()
	r.mu.Unlock()
	tell(watchers, "")
}

// Sandbox returns the configuration a pod's sandbox was started with.
func (r *Runtime) Sandbox(uid types.UID) (runtime.SandboxConfig, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.pods[uid]
	if !ok {
		return runtime.SandboxConfig{}, false
	}
	return p.config, true
}

// Container returns the configuration of the newest container of that name.
func (r *Runtime) Container(uid types.UID, name string) (runtime.ContainerConfig, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pods[uid]
	if p == nil {
		return runtime.ContainerConfig{}, false
	}
	var newest *container
	for _, c := range p.containers {
		if c.Name == name && (newest == nil || c.Attempt > newest.Attempt) {
			newest = c
		}
	}
	if newest == nil {
		return runtime.ContainerConfig{}, false
	}
	return newest.config, true
}

func (r *Runtime) running(uid types.UID, name string) *container {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pods[uid]
	if p == nil {
		return nil
	}
	for _, c := range p.containers {
		if c.Name == name && c.State == runtime.Running {
			return c
		}
	}
	return nil
}
