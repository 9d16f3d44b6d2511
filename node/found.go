package node

import (
	"cmp"
	"os"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/node/runtime"
	"shoal/node/server"
)

var _ server.Pods = (*pods)(nil)

// Find implements server.Pods. Of two pods of one name, the one that is not ending counts.
func (s *pods) Find(namespace, name string) (*corev1.Pod, bool) {
	var found *corev1.Pod
	for _, p := range s.List() {
		if p.Namespace == namespace && p.Name == name && (found == nil || p.DeletionTimestamp == nil) {
			found = p
		}
	}
	return found, found != nil
}

// List implements server.Pods.
func (s *pods) List() []*corev1.Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*corev1.Pod, 0, len(s.workers))
	for _, w := range s.workers {
		w.mu.Lock()
		if w.pod != nil && !w.gone {
			out = append(out, w.pod)
		}
		w.mu.Unlock()
	}
	return out
}

func (s *pods) worker(uid types.UID) *worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.workers[uid]
}

// Containers implements server.Pods.
func (s *pods) Containers(uid types.UID) ([]runtime.Container, runtime.Sandbox, <-chan struct{}) {
	w := s.worker(uid)
	if w == nil {
		over := make(chan struct{})
		close(over)
		return nil, runtime.Sandbox{}, over
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen, w.sandbox, w.changed
}

// LogPath implements server.Pods.
func (s *pods) LogPath(uid types.UID, container string, attempt int) string {
	return (&worker{n: s.n, uid: uid}).logPath(container, attempt)
}

// Attempts implements server.Pods.
func (s *pods) Attempts(uid types.UID, container string) []int {
	var out []int
	add := func(n int) {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	runs, _, _ := s.Containers(uid)
	for _, r := range runs {
		if r.Name == container && r.State != runtime.Created {
			add(r.Attempt)
		}
	}
	entries, err := os.ReadDir((&worker{n: s.n, uid: uid}).logDir(container))
	if err == nil {
		for _, e := range entries {
			name, _, ok := strings.Cut(e.Name(), ".log")
			if n, err := strconv.Atoi(name); ok && err == nil {
				add(n)
			}
		}
	}
	slices.SortFunc(out, func(a, b int) int { return cmp.Compare(b, a) })
	return out
}
