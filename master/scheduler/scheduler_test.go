package scheduler_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/registry"
	"shoal/master/registry/registrytest"
	"shoal/master/scheduler"
)

// failing is a backend whose bindings fail as long as it is told.
type failing struct {
	client.Interface
	left atomic.Int32
}

func (f *failing) Create(ctx context.Context, k *api.Kind, o runtime.Object, opts client.CreateOptions) (runtime.Object, error) {
	if opts.Subresource == "binding" && f.left.Add(-1) >= 0 {
		return nil, context.DeadlineExceeded
	}
	return f.Interface.Create(ctx, k, o, opts)
}

type rig struct {
	testing.TB
	*registry.Registry
	backend *failing
	pods    *client.Cache[*corev1.Pod]
	bound   chan struct{} // closed when want pods are bound
	want    atomic.Int32
	stop    func() // ends the scheduler
}

// newRig runs a scheduler over an empty registry. f may change the registry before the scheduler starts.
func newRig(t testing.TB, f func(r *rig)) *rig {
	t.Helper()
	reg, _ := registrytest.New(t)
	return runRig(t, reg, f)
}

// runRig runs a scheduler over a registry, after f.
func runRig(t testing.TB, reg *registry.Registry, f func(r *rig)) *rig {
	t.Helper()
	r := &rig{TB: t, Registry: reg, backend: &failing{Interface: reg}, bound: make(chan struct{})}
	if f != nil {
		f(r)
	}
	config := func(k *api.Kind) client.CacheConfig { return client.CacheConfig{Client: r.backend, Kind: k} }
	r.pods = client.NewCache[*corev1.Pod](config(api.Pods))
	nodes := client.NewCache[*corev1.Node](config(api.Nodes))
	services := client.NewCache[*corev1.Service](config(api.Services))
	namespaces := client.NewCache[*corev1.Namespace](config(api.Namespaces))
	budgets := client.NewCache[*policyv1.PodDisruptionBudget](config(api.PodDisruptionBudgets))
	claims := client.NewCache[*corev1.PersistentVolumeClaim](config(api.PersistentVolumeClaims))
	volumes := client.NewCache[*corev1.PersistentVolume](config(api.PersistentVolumes))
	classes := client.NewCache[*storagev1.StorageClass](config(api.StorageClasses))
	s := scheduler.New(scheduler.Config{
		Claims: claims, Volumes: volumes, Classes: classes, UsersOf: func(client.Key) []*corev1.Pod { return nil },
		Client: r.backend, Pods: r.pods, Nodes: nodes, Services: services, Namespaces: namespaces, Budgets: budgets,
		Now: time.Now, Rand: rand.New(rand.NewPCG(1, 1)),
	})
	r.pods.OnChange(func(old, p *corev1.Pod) {
		if p != nil && p.Spec.NodeName != "" && (old == nil || old.Spec.NodeName == "") && r.want.Add(-1) == 0 {
			close(r.bound)
		}
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	runs := []func(context.Context) error{r.pods.Run, nodes.Run, services.Run, namespaces.Run, budgets.Run, claims.Run, volumes.Run, classes.Run, s.Run}
	done := make(chan error, len(runs))
	for _, run := range runs {
		go func() { done <- run(ctx) }()
	}
	r.stop = sync.OnceFunc(func() {
		cancel()
		for range runs {
			<-done
		}
	})
	t.Cleanup(r.stop)
	return r
}

func (r *rig) node(name, cpu string) {
	r.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("64Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if _, err := r.Registry.Create(r.Context(), api.Nodes, n, client.CreateOptions{}); err != nil {
		r.Fatal(err)
	}
	if _, err := r.Registry.Update(r.Context(), api.Nodes, n, client.UpdateOptions{Subresource: "status"}); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) pod(name, cpu string, f ...func(*corev1.Pod)) {
	r.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	p.Spec.Containers = []corev1.Container{{Name: "main", Image: "example.org/main:1", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)},
	}}}
	for _, change := range f {
		change(p)
	}
	if _, err := r.Registry.Create(r.Context(), api.Pods, p, client.CreateOptions{}); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) nodeOf(name string) string {
	r.Helper()
	o, err := r.Get(r.Context(), api.Pods, client.Key{Namespace: "default", Name: name}, client.GetOptions{})
	if err != nil {
		r.Fatal(err)
	}
	return o.(*corev1.Pod).Spec.NodeName
}

func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestADecisionCountsBeforeItIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) {
			for i := range 4 {
				r.node(fmt.Sprint("n", i), "1")
			}
			for i := range 10 { // decided in one go, before any binding comes back
				r.pod(fmt.Sprint("p", i), "500m")
			}
		})
		synctest.Wait()
		count := map[string]int{}
		for i := range 10 {
			count[r.nodeOf(fmt.Sprint("p", i))]++
		}
		if count[""] != 2 || count["n0"] != 2 || count["n1"] != 2 || count["n2"] != 2 || count["n3"] != 2 {
			t.Errorf("pods a node: %v", count)
		}
	})
}

func TestAFailedBindingIsTriedAgainAndKeepsNoShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) {
			r.node("n", "1")
			r.backend.left.Store(3)
			r.pod("p", "1")
		})
		pass(time.Minute)
		if r.nodeOf("p") != "n" {
			t.Error("the pod is still pending")
		}
	})
}

func TestAPodThatLeavesMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) {
			r.node("n", "1")
			r.pod("first", "1")
		})
		synctest.Wait()
		r.pod("second", "1")
		synctest.Wait()
		if r.nodeOf("first") != "n" || r.nodeOf("second") != "" {
			t.Fatalf("first on %q, second on %q", r.nodeOf("first"), r.nodeOf("second"))
		}
		key := client.Key{Namespace: "default", Name: "first"}
		if _, err := r.Delete(t.Context(), api.Pods, key, client.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		if r.nodeOf("second") != "n" {
			t.Error("the second pod is still pending")
		}
	})
}

func TestPodsOfOtherSchedulersAndGatedOnesAreLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.node("n", "4") })
		for name, f := range map[string]func(*corev1.PodSpec){
			"other": func(s *corev1.PodSpec) { s.SchedulerName = "other" },
			"gated": func(s *corev1.PodSpec) { s.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.org/wait"}} },
		} {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
			p.Spec.Containers = []corev1.Container{{Name: "main", Image: "example.org/main:1"}}
			f(&p.Spec)
			if _, err := r.Registry.Create(t.Context(), api.Pods, p, client.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		pass(time.Minute)
		for _, name := range []string{"other", "gated"} {
			if on := r.nodeOf(name); on != "" {
				t.Errorf("%s was put on %s", name, on)
			}
		}
	})
}

// BenchmarkSchedule binds 10,000 pods to 1,000 nodes through a registry; it reports pods a second.
func BenchmarkSchedule(b *testing.B) {
	const nodes, pods = 1000, 10000
	for b.Loop() {
		b.StopTimer()
		r := newRig(b, func(r *rig) {
			for i := range nodes {
				r.node(fmt.Sprint("n", i), "8")
			}
			r.want.Store(pods)
			for i := range pods {
				r.pod(fmt.Sprint("p", i), "100m")
			}
		})
		b.StartTimer()
		<-r.bound
	}
	b.ReportMetric(float64(pods*b.N)/b.Elapsed().Seconds(), "pods/s")
}
