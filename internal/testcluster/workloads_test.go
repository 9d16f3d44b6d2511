package testcluster_test

import (
	"context"
	"fmt"
	"math/rand"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/testcluster"
	"shoal/internal/testcluster/linear"
)

// app is a Deployment under test.
type app struct {
	name               string
	surge, unavailable int32
	least              int // pods its budget wants; 0 without one

	replicas, most, version int32 // most is the highest number it was ever to have
}

func (a *app) deployment() *appsv1.Deployment {
	l := map[string]string{"app": a.name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: a.name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &a.replicas, Selector: &metav1.LabelSelector{MatchLabels: l},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
				MaxSurge: new(intstr.FromInt32(a.surge)), MaxUnavailable: new(intstr.FromInt32(a.unavailable)),
			}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: l}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: a.image()}}}},
		},
	}
}

func (a *app) image() string { return fmt.Sprint("example.org/main:", a.version) }

// patch changes an app's Deployment at a peer.
func (c *cluster) patch(at string, a *app) {
	c.Helper()
	a.most = max(a.most, a.replicas)
	cl := c.Client(at)
	p := client.Patch{Type: types.StrategicMergePatchType, Data: fmt.Appendf(nil,
		`{"spec":{"replicas":%d,"template":{"spec":{"containers":[{"name":"main","image":%q}]}}}}`, a.replicas, a.image())}
	c.Retry("change "+a.name, func(ctx context.Context) error {
		_, err := cl.Patch(ctx, api.Deployments, client.Key{Namespace: "default", Name: a.name}, p, client.PatchOptions{})
		return err
	})
}

// TestWorkloadsConverge scales, rolls, deletes and drains, while peers die, Masters change and links break; in the end everything is what it was
// last asked to be. No moment that a watch shows has a pod beyond what surge allows, or, as long as no machine dies, fewer ready ones than a budget wants.
// One minute a seed, of the cluster's time; CHAOS_TIME and CHAOS_SEED as for the histories.
func TestWorkloadsConverge(t *testing.T) {
	seed, span := linear.Chaos(t, 0.1)
	least := int64(3)
	start := time.Now()
	for i := int64(0); i < least || time.Since(start) < span; i++ {
		t.Run(fmt.Sprint(seed+i), func(t *testing.T) {
			rng := rand.New(rand.NewSource(seed + i))
			peers := 3 + 2*int(i%2)
			deadly := i%3 != 2
			inCluster(t, peers, testcluster.Options{Seed: seed + i}, func(c *cluster) { c.disturb(rng, deadly) })
		})
	}
}

func (c *cluster) disturb(rng *rand.Rand, deadly bool) {
	c.nodes()
	apps := []*app{
		{name: "fixed", surge: 2, unavailable: 1, replicas: 6, version: 1},
		{name: "scaled", surge: 1, unavailable: 0, replicas: 4, version: 1},
		{name: "kept", surge: 1, unavailable: 0, least: 4, replicas: 5, version: 1},
	}
	all := c.Names()
	for _, a := range apps {
		a.most = a.replicas
		c.create(all[0], api.Deployments, a.deployment())
		if a.least > 0 {
			c.create(all[0], api.PodDisruptionBudgets, &policyv1.PodDisruptionBudget{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: a.name},
				Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: new(intstr.FromInt(a.least)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": a.name}}},
			})
		}
	}
	c.converge(all[0], apps)
	c.Sync()
	from := c.Registry(all[0]).Revision()
	before := list[*corev1.Pod](c, all[0], api.Pods, "default")
	ctx, stop := context.WithCancel(c.Context())
	var wg sync.WaitGroup
	seen := c.observe(ctx, &wg, api.Pods, 0, from, rng.Int63())
	d := disturber{c, rng, deadly, apps, nil}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		d.deed()
		testcluster.Pass(c.Context(), time.Duration(rng.Intn(4000))*time.Millisecond)
	}
	c.Heal()
	c.Restart(d.down...)
	c.nodes()
	at := all[rng.Intn(len(all))]
	for _, a := range apps {
		c.patch(at, a)
	}
	c.converge(at, apps)
	c.Sync()
	testcluster.Pass(c.Context(), 10*time.Second) // for the watch to come to the end
	stop()
	wg.Wait()
	c.judge(before, seen.seen, apps, deadly)
}

// disturber does one thing after the other to a cluster.
type disturber struct {
	*cluster
	rng    *rand.Rand
	deadly bool // machines die, and links break
	apps   []*app
	down   []string
}

func (d *disturber) deed() {
	up := d.Names()
	at := up[d.rng.Intn(len(up))]
	a := d.apps[d.rng.Intn(len(d.apps))]
	switch d.rng.Intn(8) {
	case 0, 1:
		a.version++
		d.patch(at, a)
	case 2:
		if a.name == "scaled" {
			a.replicas = int32(d.rng.Intn(10))
			d.patch(at, a)
		}
	case 3:
		d.evict(at, a)
	case 4:
		if d.deadly {
			d.remove(at, a)
		}
	case 5:
		d.MoveMaster()
	case 6:
		all := len(up) + len(d.down)
		switch {
		case !d.deadly:
		case len(d.down) > 0:
			d.Heal()
			d.Restart(d.down...)
			d.down = nil
		case len(d.down) < (all-1)/2:
			d.Kill(at)
			d.down = append(d.down, at)
		}
	case 7:
		if d.deadly && len(d.down) == 0 {
			d.Isolate(at)
			testcluster.Pass(d.Context(), time.Duration(d.rng.Intn(5000))*time.Millisecond)
			d.Heal()
		}
	}
}

// evict asks for a pod's eviction, as a drain does; the budget may forbid it.
func (d *disturber) evict(at string, a *app) {
	d.Helper()
	p := d.podOf(at, a)
	if p == nil {
		return
	}
	e := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name}}
	_, err := d.Client(at).Create(d.Context(), api.Pods, e, client.CreateOptions{Subresource: "eviction", Key: client.KeyOf(p)})
	if err != nil && !apierrors.IsTooManyRequests(err) && !apierrors.IsNotFound(err) && !d.deadly {
		d.Errorf("evict %s: %v", p.Name, err)
	}
}

func (d *disturber) remove(at string, a *app) {
	if p := d.podOf(at, a); p != nil {
		_, _ = d.Client(at).Delete(d.Context(), api.Pods, client.KeyOf(p), client.DeleteOptions{}) // it may be gone, or nobody may lead
	}
}

func (d *disturber) podOf(at string, a *app) *corev1.Pod {
	d.Helper()
	var pods []*corev1.Pod
	for _, p := range alive(list[*corev1.Pod](d.cluster, at, api.Pods, "default")) {
		if p.Labels["app"] == a.name {
			pods = append(pods, p)
		}
	}
	if len(pods) == 0 {
		return nil
	}
	return pods[d.rng.Intn(len(pods))]
}

// converge waits until a peer shows exactly what is wanted.
func (c *cluster) converge(at string, apps []*app) {
	c.Helper()
	c.Until("everything is as wanted", func() bool {
		want := 0
		for _, a := range apps {
			want += int(a.replicas)
			o, err := c.Registry(at).Get(c.Context(), api.Deployments, client.Key{Namespace: "default", Name: a.name}, client.GetOptions{ResourceVersion: "0"})
			if err != nil {
				return false
			}
			d := o.(*appsv1.Deployment)
			s := d.Status
			if s.ObservedGeneration != d.Generation || d.Spec.Template.Spec.Containers[0].Image != a.image() ||
				s.Replicas != a.replicas || s.UpdatedReplicas != a.replicas || s.AvailableReplicas != a.replicas {
				return false
			}
		}
		pods := list[*corev1.Pod](c, at, api.Pods, "default")
		for _, p := range pods {
			if p.DeletionTimestamp != nil || !api.IsPodReady(p) || api.PodCondition(p, corev1.DisruptionTarget) != nil {
				return false
			}
		}
		return len(pods) == want
	})
}

// judge goes through all moments that a watch showed. A pod whose machine was given up is one more than there ought to be: while its replacement is made, and
// when the machine comes back, from then on until one of the two is taken away. So it does not count any more; converge sees that in the end it does.
func (c *cluster) judge(before []*corev1.Pod, seen []seen, apps []*app, deadly bool) {
	c.Helper()
	pods := map[client.Key]*corev1.Pod{}
	for _, p := range before {
		pods[client.KeyOf(p)] = p
	}
	givenUp := map[types.UID]bool{}
	for _, s := range seen {
		delete(pods, s.key)
		if !s.deleted {
			p := s.object.(*corev1.Pod)
			pods[s.key] = p
			if api.PodCondition(p, corev1.DisruptionTarget) != nil {
				givenUp[p.UID] = true
			}
		}
		for _, a := range apps {
			counted, ready := 0, 0
			for _, p := range pods {
				if p.Labels["app"] != a.name || !api.IsPodActive(p) {
					continue
				}
				if !givenUp[p.UID] {
					counted++
				}
				if api.IsPodReady(p) {
					ready++
				}
			}
			if most := int(a.most + a.surge); counted > most {
				c.Fatalf("at %d: %d pods of %s, at most %d may be", s.rev, counted, a.name, most)
			}
			if !deadly && ready < a.least {
				c.Fatalf("at %d: %d ready pods of %s, its budget wants %d", s.rev, ready, a.name, a.least)
			}
		}
	}
	c.Logf("%d moments", len(seen))
}
