package client_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/registry/registrytest"
)

func contextWithTimeout(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), d)
}

func TestOneKeyIsNeverReconciledTwiceAtOnceAndNeverForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		queue := client.NewQueue()
		var mu sync.Mutex
		busy, calls := map[client.Key]bool{}, map[client.Key]int{}
		done := make(chan error, 1)
		go func() {
			done <- client.RunLoop(ctx, client.LoopConfig[client.Key]{Queue: queue, Workers: 4, Reconcile: func(ctx context.Context, key client.Key) (time.Duration, error) {
				mu.Lock()
				if busy[key] {
					t.Errorf("%s is reconciled twice at once", key)
				}
				busy[key] = true
				calls[key]++
				mu.Unlock()
				<-time.After(time.Second)
				mu.Lock()
				busy[key] = false
				mu.Unlock()
				return 0, nil
			}})
		}()
		keys := []client.Key{{Name: "a"}, {Name: "b"}}
		for _, key := range keys {
			for range 3 {
				queue.Add(key)
			}
		}
		<-time.After(500 * time.Millisecond) // all are at work: what comes now is a change they may have missed
		for _, key := range keys {
			queue.Add(key)
		}
		<-time.After(10 * time.Second)
		for _, key := range keys {
			if calls[key] != 2 {
				t.Errorf("%s was reconciled %d times", key, calls[key])
			}
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("RunLoop: %v", err)
		}
	})
}

func TestAnErrorBringsAKeyBackAndSuccessAfterItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		queue := client.NewQueue()
		var at []time.Duration
		start := time.Now()
		queue.Add(client.Key{Name: "a"})
		_ = client.RunLoop(ctx, client.LoopConfig[client.Key]{Queue: queue, Reconcile: func(context.Context, client.Key) (time.Duration, error) {
			at = append(at, time.Since(start))
			switch len(at) {
			case 1, 2, 3:
				return 0, errors.New("not yet")
			case 4:
				return 30 * time.Second, nil
			}
			return 0, nil
		}})
		if len(at) != 5 || at[3] > time.Second || at[4]-at[3] != 30*time.Second {
			t.Errorf("reconciled at %v", at)
		}
	})
}

func TestEqualEventsAreFolded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := registrytest.New(t)
		ctx, cancel := context.WithCancel(t.Context())
		rec := client.NewRecorder(client.RecorderConfig{Client: r, Component: "test"})
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", UID: "u"}}
		for range 3 {
			rec.Event(pod, corev1.EventTypeWarning, "Odd", "it is %s", "odd")
		}
		rec.Event(pod, corev1.EventTypeNormal, "Fine", "it is fine")
		done := make(chan error, 1)
		go func() { done <- rec.Run(ctx) }()
		time.Sleep(time.Second) // Events that do not come at once share the next transaction
		synctest.Wait()
		l, err := r.List(ctx, api.Events, client.ListOptions{Namespace: "default"})
		if err != nil {
			t.Fatal(err)
		}
		counts := map[string]int32{}
		for _, o := range l.Items {
			e := o.(*corev1.Event)
			counts[e.Reason] = e.Count
			if e.InvolvedObject.Kind != "Pod" || e.InvolvedObject.Name != "p" || e.InvolvedObject.UID != "u" || e.Source.Component != "test" {
				t.Errorf("event %+v", e)
			}
		}
		if len(l.Items) != 2 || counts["Odd"] != 3 || counts["Fine"] != 1 {
			t.Errorf("counts %v in %d events", counts, len(l.Items))
		}
		// Without anybody to write them, and with far too many, callers are not held up.
		for i := range 10000 {
			rec.Event(pod, corev1.EventTypeNormal, "Many", "number %d", i)
		}
		cancel()
		<-done
	})
}

// TestAPanicEndsOneCallAlone: the other keys are served, and the one that panicked comes back.
func TestAPanicEndsOneCallAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		queue := client.NewQueue()
		var log bytes.Buffer
		figures := client.NewLoopMetrics()
		calls := map[string]int{}
		done := make(chan error, 1)
		go func() {
			done <- client.RunLoop(ctx, client.LoopConfig[client.Key]{
				Name: "tests", Queue: queue, Log: slog.New(slog.NewTextHandler(&log, nil)), Metrics: figures,
				Reconcile: func(_ context.Context, key client.Key) (time.Duration, error) {
					calls[key.Name]++
					if key.Name == "poison" && calls[key.Name] < 3 {
						panic("cannot bear it")
					}
					return 0, nil
				},
			})
		}()
		queue.Add(client.Key{Name: "poison"})
		queue.Add(client.Key{Name: "other"})
		<-time.After(time.Minute)
		var during, after bytes.Buffer
		figures.WritePrometheus(&during)
		cancel()
		<-done
		figures.WritePrometheus(&after)
		for _, want := range []string{`workqueue_depth{name="tests"} 0`, `workqueue_retries_total{name="tests"} 2`, `shoal_reconcile_panics_total{name="tests"} 2`, `workqueue_work_duration_seconds_count{name="tests"} 4`} {
			if !strings.Contains(during.String(), want) {
				t.Errorf("the figures lack %s:\n%s", want, during.String())
			}
		}
		if strings.Contains(after.String(), "workqueue_depth") || !strings.Contains(after.String(), "workqueue_retries_total") {
			t.Errorf("the figures of a loop that has ended:\n%s", after.String())
		}
		if calls["poison"] != 3 || calls["other"] != 1 {
			t.Errorf("calls: %v", calls)
		}
		if n := strings.Count(log.String(), "cannot bear it"); n < 2 || !strings.Contains(log.String(), "key=/poison") && !strings.Contains(log.String(), "key=poison") {
			t.Errorf("the log: %s", log.String())
		}
	})
}
