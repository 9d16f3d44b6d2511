package hollow

import (
	"context"
	"fmt"
	"math"
	"os"
	goruntime "runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"shoal/internal/api"
	"shoal/internal/client"
)

// size divides the numbers of nodes and pods: 1 is 5,000 nodes and 150,000 pods. It is set by SHOAL_SCALE, and 50 without
// it, so that what the figures come from is run by every test run.
func size(tb testing.TB) int {
	tb.Helper()
	s := os.Getenv("SHOAL_SCALE")
	if s == "" {
		return 50
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 100 {
		tb.Fatalf("SHOAL_SCALE=%q: a number from 1 to 100 is needed, by which 5,000 nodes and 150,000 pods are divided", s)
	}
	return n
}

func figure(tb testing.TB, format string, args ...any) {
	tb.Helper()
	fmt.Fprintf(tb.Output(), "FIGURES "+format+"\n", args...)
}

func podSpec(cpu string) corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "example.org/main:1", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("64Mi")},
	}}}}
}

// bigPod is the i-th pod of a big cluster: one of a hundred applications.
func bigPod(prefix string, i int) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("%s-%06d", prefix, i), Labels: map[string]string{"app": fmt.Sprint("app-", i%100)}},
		Spec:       podSpec("50m"),
	}
}

// picky gives a pod one of: spread over zones, apart from its application's by node, near to it by zone, a toleration of
// what some nodes are tainted with.
func picky(p *corev1.Pod, i int) {
	app := &metav1.LabelSelector{MatchLabels: map[string]string{"app": p.Labels["app"]}}
	switch i / 100 % 4 {
	case 0:
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 5, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: app}}
	case 1:
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{LabelSelector: app, TopologyKey: corev1.LabelHostname}}}}
	case 2:
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{LabelSelector: app, TopologyKey: corev1.LabelTopologyZone}}}}
	case 3:
		p.Spec.Tolerations = []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpExists}}
	}
}

func heap() uint64 {
	goruntime.GC()
	goruntime.GC()
	var m goruntime.MemStats
	goruntime.ReadMemStats(&m)
	return m.HeapAlloc
}

func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// collections is how many cycles of garbage collection have ended.
func collections() uint32 {
	var m goruntime.MemStats
	goruntime.ReadMemStats(&m)
	return m.NumGC
}

// TestScheduleMany: a fifth of all pods is pending when the Master begins.
func TestScheduleMany(t *testing.T) {
	s := size(t)
	nodes, there, pending := 5000/s, 120000/s, 30000/s
	for _, kind := range []string{"plain", "mixed"} {
		t.Run(kind, func(t *testing.T) {
			before := heap()
			c := Start(t, Options{Nodes: nodes, Zones: 5, Still: true, Waiting: true})
			if kind == "mixed" {
				c.taint(nodes / 10)
			}
			c.Each(there, func(ctx context.Context, i int) error {
				p := bigPod("there", i)
				p.Spec.NodeName = NodeName(i % nodes)
				_, err := c.Create(ctx, api.Pods, p, client.CreateOptions{})
				return err
			})
			c.Each(pending, func(ctx context.Context, i int) error {
				p := bigPod("pending", i)
				if kind == "mixed" {
					picky(p, i)
				}
				_, err := c.Create(ctx, api.Pods, p, client.CreateOptions{})
				return err
			})
			stored := heap()
			seen := c.watchBindings(pending)
			start, cpu := time.Now(), cpuTime(t)
			c.Lead()
			times := seen(t)
			for i := range times {
				times[i] -= time.Duration(start.UnixNano())
			}
			slices.Sort(times)
			first, last := times[0], times[len(times)-1]
			figure(t, "schedule %s: %d pods on %d nodes with %d: %.0f pods/s after %.1f s of filling the caches; CPU %.1f s; %d bytes a pod stored, %d more as Master",
				kind, pending, nodes, there, float64(len(times)-1)/(last-first).Seconds(), first.Seconds(), (cpuTime(t) - cpu).Seconds(),
				(stored-before)/uint64(there+pending), (heap()-stored)/uint64(there+pending))
			c.oneByOne(t, kind, 1000/min(s, 20))
		})
	}
}

// oneByOne makes pods at a steady pace and prints how long each waits for its node.
func (c *Cluster) oneByOne(t *testing.T, kind string, n int) {
	seen := c.watchBindings(n)
	made := make([]time.Duration, n)
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	var g sync.WaitGroup
	for i := range n {
		<-pace.C
		g.Go(func() {
			p := bigPod("steady", i)
			if kind == "mixed" {
				picky(p, i)
			}
			made[i] = time.Duration(time.Now().UnixNano())
			if _, err := c.Create(t.Context(), api.Pods, p, client.CreateOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	times := seen(t)
	slices.Sort(times)
	slices.Sort(made)
	for i := range times {
		times[i] -= made[i] // the i-th that was bound and the i-th that was made: near enough, for they keep their order
	}
	slices.Sort(times)
	figure(t, "schedule %s: %d more pods, 1,000/s: from asked for to bound %s median, %s p99", kind, n,
		percentile(times, 50).Round(10*time.Microsecond), percentile(times, 99).Round(10*time.Microsecond))
}

func (c *Cluster) taint(n int) {
	c.Each(n, func(ctx context.Context, i int) error {
		o, err := c.Get(ctx, api.Nodes, client.Key{Name: NodeName(i)}, client.GetOptions{})
		if err != nil {
			return err
		}
		node := o.(*corev1.Node).DeepCopy()
		node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: "dedicated", Value: "few", Effect: corev1.TaintEffectNoSchedule})
		_, err = c.Update(ctx, api.Nodes, node, client.UpdateOptions{})
		return err
	})
}

// watchBindings returns what waits until n more pods are bound, and says when each was.
func (c *Cluster) watchBindings(n int) func(t *testing.T) []time.Duration {
	times := make([]time.Duration, 0, n)
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(c.tb.Context())
	cache := client.NewCache[*corev1.Pod](client.CacheConfig{Client: c.Registry, Kind: api.Pods, ListOptions: client.ListOptions{ResourceVersion: "0"}})
	cache.OnChange(func(old, p *corev1.Pod) {
		if p == nil || p.Spec.NodeName == "" || old == nil || old.Spec.NodeName != "" {
			return
		}
		if times = append(times, time.Duration(time.Now().UnixNano())); len(times) == n {
			close(done)
		}
	})
	go func() { _ = cache.Run(ctx) }()
	<-cache.Synced()
	return func(t *testing.T) []time.Duration {
		t.Helper()
		defer cancel()
		select {
		case <-done:
			return times
		case <-time.After(10 * time.Minute):
			t.Fatalf("%d of %d pods are bound after ten minutes", len(times), n)
			return nil
		}
	}
}

// writes returns what says how many changes were stored since.
func (c *Cluster) writes() func() uint64 {
	before := c.Revision()
	return func() uint64 { return c.Revision() - before }
}

func (c *Cluster) makeRCs(count, replicas int) {
	c.Each(count, func(ctx context.Context, i int) error {
		app := map[string]string{"app": fmt.Sprint("app-", i)}
		rc := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("rc-", i)}, Spec: corev1.ReplicationControllerSpec{
			Replicas: new(int32(replicas)), Selector: app, Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: app}, Spec: podSpec("50m")},
		}}
		_, err := c.Create(ctx, api.ReplicationControllers, rc, client.CreateOptions{})
		return err
	})
}

func (c *Cluster) untilReady(total int) {
	Until(c, api.ReplicationControllers, fmt.Sprint(total, " ready replicas"), func(all []*corev1.ReplicationController) bool {
		ready, wanted := 0, 0
		for _, rc := range all {
			ready += int(rc.Status.ReadyReplicas)
			wanted += int(*rc.Spec.Replicas)
			if rc.Status.Replicas != *rc.Spec.Replicas {
				return false
			}
		}
		return ready == total && wanted == total
	})
}

// TestReplicasAndRollout: an RC from nothing to ten thousand, and a Deployment of five thousand that is rolled over.
func TestReplicasAndRollout(t *testing.T) {
	s := size(t)
	c := Start(t, Options{Nodes: 5000 / s, Zones: 5})
	n := 10000 / s
	start, writes := time.Now(), c.writes()
	c.makeRCs(1, n)
	c.untilReady(n)
	c.report(t, fmt.Sprintf("RC 0 to %d on %d nodes", n, 5000/s), start, writes)

	n = 5000 / s
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: appsv1.DeploymentSpec{
		Replicas: new(int32(n)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}}, Spec: podSpec("50m")},
		Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
			MaxSurge: new(intstr.FromString("25%")), MaxUnavailable: new(intstr.FromString("25%")),
		}},
	}}
	if _, err := c.Create(t.Context(), api.Deployments, d, client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.untilRolled(n, "example.org/main:1")
	o, err := c.Get(t.Context(), api.Deployments, client.Key{Namespace: "default", Name: "web"}, client.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d = o.(*appsv1.Deployment).DeepCopy()
	d.Spec.Template.Spec.Containers[0].Image = "example.org/main:2"
	start, writes = time.Now(), c.writes()
	if _, err := c.Update(t.Context(), api.Deployments, d, client.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.untilRolled(n, "example.org/main:2")
	c.report(t, fmt.Sprintf("rollout of %d on %d nodes", n, 5000/s), start, writes)
}

func (c *Cluster) untilRolled(n int, image string) {
	Until(c, api.Deployments, "the rollout is complete", func(all []*appsv1.Deployment) bool {
		if len(all) == 0 || all[0].Spec.Template.Spec.Containers[0].Image != image {
			return false
		}
		s := all[0].Status
		return s.ObservedGeneration == all[0].Generation && int(s.UpdatedReplicas) == n && int(s.AvailableReplicas) == n && int(s.Replicas) == n
	})
}

func (c *Cluster) report(t *testing.T, what string, start time.Time, writes func() uint64) {
	took := time.Since(start)
	figure(t, "%s: %.2f s, %.0f changes/s", what, took.Seconds(), float64(writes())/took.Seconds())
}

// TestNodesDie: of all nodes, with thirty pods each, one dies and then a zone; and what it costs when nothing happens.
func TestNodesDie(t *testing.T) {
	s := size(t)
	nodes, pods := 5000/s, 150000/s
	c := Start(t, Options{Nodes: nodes, Zones: 5})
	rcs := max(1, 150/s)
	start, writes := time.Now(), c.writes()
	c.makeRCs(rcs, pods/rcs)
	pods = pods / rcs * rcs
	c.untilReady(pods)
	c.report(t, fmt.Sprintf("%d RCs, %d pods on %d nodes", rcs, pods, nodes), start, writes)

	c.untilQuiet()
	// Go collects its garbage every two minutes at least, which takes a while with so many objects.
	cycles, cpu, start, writes := collections(), cpuTime(t), time.Now(), c.writes()
	<-time.After(time.Duration(min(10, 100/s)) * time.Second)
	figure(t, "nothing happens with %d nodes and %d pods: %.2f %% of a core, %d garbage collections, %.1f changes/s", nodes, pods,
		100*(cpuTime(t)-cpu).Seconds()/time.Since(start).Seconds(), collections()-cycles, float64(writes())/time.Since(start).Seconds())

	start, writes = time.Now(), c.writes()
	c.Kill(NodeName(0))
	c.untilOff(map[string]bool{NodeName(0): true}, pods)
	c.report(t, fmt.Sprintf("one node of %d dies", nodes), start, writes)

	zone := map[string]bool{}
	var names []string
	for i := 1; i < nodes; i += 5 {
		zone[NodeName(i)] = true
		names = append(names, NodeName(i))
	}
	start, writes = time.Now(), c.writes()
	c.Kill(names...)
	c.untilOff(zone, pods)
	c.report(t, fmt.Sprintf("a zone of %d nodes dies", len(zone)), start, writes)
}

// untilQuiet waits until nothing was written for a second: Events come last.
func (c *Cluster) untilQuiet() {
	c.tb.Helper()
	for rev := uint64(0); rev != c.Revision(); {
		rev = c.Revision()
		<-time.After(time.Second)
	}
}

// untilOff waits until as many pods as wanted are ready, none of them on those nodes.
func (c *Cluster) untilOff(nodes map[string]bool, pods int) {
	c.tb.Helper()
	done := make(chan struct{})
	ctx, cancel := context.WithTimeout(c.tb.Context(), 10*time.Minute)
	defer cancel()
	ready, off := 0, 0
	count := func(p *corev1.Pod, by int) {
		switch {
		case p == nil:
		case nodes[p.Spec.NodeName]:
			off += by
		case api.IsPodReady(p) && p.DeletionTimestamp == nil:
			ready += by
		}
	}
	var once sync.Once
	cache := client.NewCache[*corev1.Pod](client.CacheConfig{Client: c.Registry, Kind: api.Pods, ListOptions: client.ListOptions{ResourceVersion: "0"}})
	cache.OnChange(func(old, p *corev1.Pod) {
		count(old, -1)
		count(p, 1)
		if off == 0 && ready == pods {
			once.Do(func() { close(done) })
		}
	})
	go func() { _ = cache.Run(ctx) }()
	select {
	case <-done:
	case <-ctx.Done():
		c.tb.Fatalf("after ten minutes %d pods are ready and %d on the dead nodes", ready, off)
	}
}

// percentile is the smallest of sorted values that p percent of them do not exceed.
func percentile(sorted []time.Duration, p float64) time.Duration {
	return sorted[max(0, int(math.Ceil(p/100*float64(len(sorted))))-1)]
}
