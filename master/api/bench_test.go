package api_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shoalapi "shoal/internal/api"
	"shoal/internal/client"
)

func BenchmarkCreate(b *testing.B) {
	s, _ := server(b)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		body := fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"cm-%d","labels":{"a":"b"}},"data":{"v":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}}`, i)
		if w := do(b, s, "POST", "/api/v1/namespaces/ns/configmaps", body, "Content-Type", "application/json"); w.Code != 201 {
			b.Fatal(w.Body)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	s, reg := server(b)
	if _, err := reg.Create(b.Context(), shoalapi.ConfigMaps, configMap("a"), client.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	for _, user := range []string{"admin", "tenant"} { // who waits for no turn, and who has to
		b.Run(user, func(b *testing.B) {
			header := "Test-User"
			if user == "admin" {
				header = "No-User"
			}
			b.ReportAllocs()
			for b.Loop() {
				if w := do(b, s, "GET", "/api/v1/namespaces/ns/configmaps/a", "", header, user); w.Code != 200 {
					b.Fatal(w.Body)
				}
			}
		})
	}
}

func benchPod(i int) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprintf("pod-%d", i), Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{NodeName: fmt.Sprintf("n-%d", i%50), Containers: []corev1.Container{{Name: "c", Image: "example.org/web:1"}}},
	}
}

func BenchmarkListPods(b *testing.B) {
	s, reg := server(b)
	for i := range 5000 {
		if _, err := reg.Create(b.Context(), shoalapi.Pods, benchPod(i), client.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	for name, accept := range map[string]string{
		"json": "application/json", "proto": "application/vnd.kubernetes.protobuf", "table": "application/json;as=Table;v=v1;g=meta.k8s.io",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if w := do(b, s, "GET", "/api/v1/pods", "", "Accept", accept); w.Code != 200 {
					b.Fatal(w.Body)
				}
			}
		})
	}
}

// BenchmarkWatchFanOut times one change until every watcher has it.
func BenchmarkWatchFanOut(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			_, reg := server(b)
			ctx, stop := context.WithCancel(b.Context())
			var all, seen sync.WaitGroup
			for range n {
				w, err := reg.WatchEntries(ctx, shoalapi.ConfigMaps, client.ListOptions{ResourceVersion: "0"})
				if err != nil {
					b.Fatal(err)
				}
				all.Go(func() {
					defer w.Close()
					for {
						evs, err := w.Next(ctx)
						if err != nil {
							return
						}
						for range evs {
							seen.Done()
						}
					}
				})
			}
			b.ReportAllocs()
			for b.Loop() {
				seen.Add(n)
				cm := configMap("")
				cm.GenerateName = "a-"
				if _, err := reg.Create(ctx, shoalapi.ConfigMaps, cm, client.CreateOptions{}); err != nil {
					b.Fatal(err)
				}
				seen.Wait()
			}
			stop()
			all.Wait()
		})
	}
}
