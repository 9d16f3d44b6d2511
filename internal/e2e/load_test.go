//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// steadyLoad is clients that write and read all the time, each with credentials of its own, and what failed of that.
type steadyLoad struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex
	count  int
	slow   time.Duration
	failed []string
}

// startLoad starts two clients with each of the credentials: one keeps its connection, the other makes one for each request.
func startLoad(t *testing.T, all map[string]*rest.Config) *steadyLoad {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &steadyLoad{cancel: cancel}
	t.Cleanup(cancel)
	n := 0
	for who, cfg := range all {
		for _, anew := range []bool{false, true} {
			n++
			name := fmt.Sprintf("load-%d-%d", time.Now().UnixNano(), n)
			cs := clientset(t, cfg, anew)
			if anew {
				who += ", anew"
			}
			l.done.Go(func() {
				for ctx.Err() == nil {
					l.round(ctx, who, name, cs)
					select {
					case <-time.After(100 * time.Millisecond):
					case <-ctx.Done():
					}
				}
			})
		}
	}
	return l
}

// round makes, reads, changes and deletes an object. Nothing of that is tried again but by client-go itself.
func (l *steadyLoad) round(ctx context.Context, who, name string, cs *kubernetes.Clientset) {
	maps := cs.CoreV1().ConfigMaps("default")
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"create", func() (err error) { cm, err = maps.Create(ctx, cm, metav1.CreateOptions{}); return err }},
		{"get", func() error { _, err := maps.Get(ctx, name, metav1.GetOptions{}); return err }},
		{"update", func() error {
			cm.Data = map[string]string{"a": "b"}
			_, err := maps.Update(ctx, cm, metav1.UpdateOptions{})
			return err
		}},
		{"delete", func() error { return maps.Delete(ctx, name, metav1.DeleteOptions{}) }},
	} {
		began := time.Now()
		err := step.do()
		if ctx.Err() != nil {
			return
		}
		took := time.Since(began)
		l.mu.Lock()
		l.count++
		l.slow = max(l.slow, took)
		if err != nil {
			l.failed = append(l.failed, fmt.Sprintf("%s %s: %s after %v: %v", began.Format("15:04:05.000"), who, step.what, took, err))
		}
		l.mu.Unlock()
	}
}

// end stops the clients. Not one request may have failed.
func (l *steadyLoad) end(t *testing.T) {
	t.Helper()
	l.cancel()
	l.done.Wait()
	t.Logf("FIGURES %d of %d requests failed; the slowest took %v", len(l.failed), l.count, l.slow.Round(time.Millisecond))
	for i, f := range l.failed {
		if i < 20 {
			t.Error(f)
		}
	}
	if l.count < 100 {
		t.Errorf("only %d requests", l.count)
	}
}
