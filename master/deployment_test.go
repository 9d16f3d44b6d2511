package master_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"shoal/internal/api"
	"shoal/internal/client"
)

// deployment is one of n replicas whose template has a version.
func deployment(name string, n int32, change ...func(*appsv1.Deployment)) *appsv1.Deployment {
	l := map[string]string{"app": name}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &n, Selector: &metav1.LabelSelector{MatchLabels: l},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: l}, Spec: podSpec()},
		},
	}
	for _, f := range change {
		f(d)
	}
	return d
}

func rolling(surge, unavailable int32) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) {
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
			MaxSurge: new(intstr.FromInt32(surge)), MaxUnavailable: new(intstr.FromInt32(unavailable)),
		}}
	}
}

func recreated(d *appsv1.Deployment) { d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType }

func version(v int) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Containers[0].Image = fmt.Sprint("example.org/main:", v)
	}
}

// broken pods never become ready.
func broken(is bool) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) {
		d.Spec.Template.Annotations = nil
		if is {
			d.Spec.Template.Annotations = map[string]string{"test/broken": "yes"}
		}
	}
}

func replicas(n int32) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { d.Spec.Replicas = &n }
}

// alter changes a Deployment's spec, and waits until nobody has anything left to do.
func (c *cluster) alter(name string, change ...func(*appsv1.Deployment)) {
	c.Helper()
	modify(c, api.Deployments, name, change...)
}

func (c *cluster) deployment(name string) *appsv1.Deployment {
	c.Helper()
	return get[*appsv1.Deployment](c, api.Deployments, metav1.NamespaceDefault, name)
}

// sets returns the ReplicaSets of the default namespace, those of the smallest revision first.
func (c *cluster) sets() (all []*appsv1.ReplicaSet) {
	c.Helper()
	l, err := c.List(c.Context(), api.ReplicaSets, client.ListOptions{Namespace: metav1.NamespaceDefault})
	if err != nil {
		c.Fatal(err)
	}
	for _, o := range l.Items {
		all = append(all, o.(*appsv1.ReplicaSet))
	}
	slices.SortFunc(all, func(a, b *appsv1.ReplicaSet) int { return revisionOf(a) - revisionOf(b) })
	return all
}

func revisionOf(o api.Object) int {
	n, _ := strconv.Atoi(o.GetAnnotations()["deployment.kubernetes.io/revision"])
	return n
}

// condition tells status and reason of a condition.
func condition(d *appsv1.Deployment, t appsv1.DeploymentConditionType) string {
	for _, c := range d.Status.Conditions {
		if c.Type == t {
			return string(c.Status) + " " + c.Reason
		}
	}
	return "none"
}

// finished checks that a Deployment has what it wants, all of one version, and says so.
func (c *cluster) finished(name string, want int32, v int) {
	c.Helper()
	d := c.deployment(name)
	s := d.Status
	if s.Replicas != want || s.UpdatedReplicas != want || s.ReadyReplicas != want || s.AvailableReplicas != want || s.UnavailableReplicas != 0 || s.ObservedGeneration != d.Generation {
		c.Errorf("status %+v, want %d of generation %d", s, want, d.Generation)
	}
	if p, a := condition(d, appsv1.DeploymentProgressing), condition(d, appsv1.DeploymentAvailable); p != "True NewReplicaSetAvailable" || a != "True MinimumReplicasAvailable" {
		c.Errorf("progressing %s, available %s", p, a)
	}
	n := int32(0)
	for _, p := range c.pods() {
		if p.Labels["app"] == name && p.Spec.Containers[0].Image == fmt.Sprint("example.org/main:", v) && p.Labels[appsv1.DefaultDeploymentUniqueLabelKey] != "" {
			n++
		}
	}
	if n != want {
		c.Errorf("%d pods of version %d, want %d", n, v, want)
	}
}

// observe calls f with the pods of each moment from now on, until the returned function.
func (c *cluster) observe(f func(pods []*corev1.Pod)) func() {
	c.Helper()
	pods := client.NewCache[*corev1.Pod](client.CacheConfig{Client: c.Registry, Kind: api.Pods})
	pods.OnChange(func(_, _ *corev1.Pod) {
		select {
		case <-pods.Synced():
			f(pods.List(metav1.NamespaceDefault, nil))
		default: // not all of the first list yet
		}
	})
	stop := c.background("observer", pods.Run)
	c.settle()
	return stop
}

// withinBounds makes an observer of how many pods there are, and of how many are ready.
func (c *cluster) withinBounds(most, least int) func(pods []*corev1.Pod) {
	return func(pods []*corev1.Pod) {
		alive, ready := 0, 0
		for _, p := range pods {
			if api.IsPodActive(p) {
				alive++
				if api.IsPodReady(p) {
					ready++
				}
			}
		}
		if alive > most || ready < least {
			c.Errorf("%d pods, at most %d may be; %d of them ready, at least %d must be", alive, most, ready, least)
		}
	}
}

// TestADeploymentRollsWithinItsBounds: no more pods than wanted and surge, at no moment fewer ready than wanted less what may be unavailable.
func TestADeploymentRollsWithinItsBounds(t *testing.T) {
	for _, b := range []struct{ surge, unavailable int32 }{{3, 2}, {1, 0}, {0, 1}, {10, 0}, {0, 10}, {0, 0}} {
		t.Run(fmt.Sprint(b), func(t *testing.T) {
			inCluster(t, 3, func(c *cluster) {
				bounds := rolling(b.surge, b.unavailable)
				if b.surge == 0 && b.unavailable == 0 { // the API refuses this, but takes percentages that come to it
					bounds = func(d *appsv1.Deployment) {
						rolling(0, 0)(d)
						d.Spec.Strategy.RollingUpdate.MaxUnavailable = new(intstr.FromString("1%"))
					}
				}
				c.create(api.Deployments, deployment("web", 10, version(1), bounds))
				c.settle()
				c.finished("web", 10, 1)
				stop := c.observe(c.withinBounds(10+int(b.surge), 10-int(max(b.unavailable, 1-b.surge, 0))))
				c.alter("web", version(2))
				c.finished("web", 10, 2)
				stop()
				sets := c.sets()
				if len(sets) != 2 || *sets[0].Spec.Replicas != 0 || *sets[1].Spec.Replicas != 10 || revisionOf(sets[1]) != 2 || revisionOf(c.deployment("web")) != 2 {
					t.Errorf("sets %v", sets)
				}
			})
		})
	}
}

func TestRecreateEndsAllBeforeItMakesNew(t *testing.T) {
	inCluster(t, 2, func(c *cluster) {
		c.create(api.Deployments, deployment("web", 5, version(1), recreated))
		c.settle()
		c.finished("web", 5, 1)
		stop := c.observe(func(pods []*corev1.Pod) {
			versions := map[string]bool{}
			for _, p := range pods {
				versions[p.Spec.Containers[0].Image] = true
			}
			if len(versions) > 1 {
				c.Errorf("pods of %v at once", versions)
			}
		})
		c.alter("web", version(2))
		c.finished("web", 5, 2)
		c.alter("web", replicas(7))
		c.finished("web", 7, 2)
		stop()
	})
}

func TestGoingBackTakesTheOldSetAgain(t *testing.T) {
	inCluster(t, 2, func(c *cluster) {
		c.create(api.Deployments, deployment("web", 3, version(1)))
		c.settle()
		first := c.sets()[0].Name
		c.alter("web", version(2))
		c.alter("web", version(1))
		c.finished("web", 3, 1)
		sets := c.sets()
		if len(sets) != 2 || sets[1].Name != first || revisionOf(sets[1]) != 3 || sets[1].Annotations["deployment.kubernetes.io/revision-history"] != "1" {
			t.Errorf("sets %v", sets)
		}
	})
}

// TestScalingInTheMiddleSharesTheChange is the example of Kubernetes' documentation of proportional scaling.
func TestScalingInTheMiddleSharesTheChange(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.create(api.Deployments, deployment("web", 10, version(1), rolling(3, 2)))
		c.settle()
		c.alter("web", version(2), broken(true))
		if s := c.sets(); *s[0].Spec.Replicas != 8 || *s[1].Spec.Replicas != 5 {
			t.Fatalf("%d old and %d new, want 8 and 5", *s[0].Spec.Replicas, *s[1].Spec.Replicas)
		}
		c.alter("web", replicas(15))
		if s := c.sets(); *s[0].Spec.Replicas != 11 || *s[1].Spec.Replicas != 7 {
			t.Errorf("%d old and %d new, want 11 and 7", *s[0].Spec.Replicas, *s[1].Spec.Replicas)
		}
		c.alter("web", replicas(0))
		if n := len(c.pods()); n != 0 {
			t.Errorf("%d pods of none", n)
		}
		c.alter("web", replicas(4), version(3), broken(false))
		c.finished("web", 4, 3)
	})
}

func TestARolloutThatGoesNowhereSaysSo(t *testing.T) {
	inCluster(t, 2, func(c *cluster) {
		c.create(api.Deployments, deployment("web", 4, version(1), func(d *appsv1.Deployment) { d.Spec.ProgressDeadlineSeconds = new(int32(60)) }))
		c.settle()
		c.alter("web", version(2), broken(true))
		c.pass(59 * time.Second)
		if s := condition(c.deployment("web"), appsv1.DeploymentProgressing); s != "True ReplicaSetUpdated" {
			t.Errorf("after 59 s: %s", s)
		}
		c.stop()
		c.lead(2) // counts no time twice
		c.pass(2 * time.Second)
		if s := condition(c.deployment("web"), appsv1.DeploymentProgressing); s != "False ProgressDeadlineExceeded" {
			t.Errorf("after 61 s: %s", s)
		}
		if s := condition(c.deployment("web"), appsv1.DeploymentAvailable); s != "True MinimumReplicasAvailable" {
			t.Errorf("available: %s", s)
		}
		c.alter("web", version(3), broken(false))
		c.finished("web", 4, 3)
		c.pass(time.Hour)
		c.finished("web", 4, 3)
	})
}

func TestAPausedRolloutScalesAndDoesNotRoll(t *testing.T) {
	inCluster(t, 2, func(c *cluster) {
		pause := func(is bool) func(*appsv1.Deployment) {
			return func(d *appsv1.Deployment) { d.Spec.Paused = is }
		}
		c.create(api.Deployments, deployment("web", 4, version(1)))
		c.settle()
		c.alter("web", pause(true), version(2), replicas(6))
		c.pass(time.Hour)
		d := c.deployment("web")
		if s := condition(d, appsv1.DeploymentProgressing); s != "Unknown DeploymentPaused" || d.Status.UpdatedReplicas != 0 || d.Status.AvailableReplicas != 6 || len(c.sets()) != 1 {
			t.Errorf("paused: %s, %+v, %d sets", s, d.Status, len(c.sets()))
		}
		c.alter("web", pause(false))
		c.finished("web", 6, 2)
	})
}

func TestOldSetsAreForgotten(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.create(api.Deployments, deployment("web", 1, version(1), func(d *appsv1.Deployment) { d.Spec.RevisionHistoryLimit = new(int32(2)) }))
		c.settle()
		for v := 2; v <= 6; v++ {
			c.alter("web", version(v))
			c.finished("web", 1, v)
		}
		var revisions []int
		for _, s := range c.sets() {
			revisions = append(revisions, revisionOf(s))
		}
		if !slices.Equal(revisions, []int{4, 5, 6}) {
			t.Errorf("revisions %v are kept, want 4 to 6", revisions)
		}
	})
}

func TestANameThatAnotherHasIsNotTaken(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.create(api.Deployments, deployment("web", 1))
		c.settle()
		name := c.sets()[0].Name
		if _, err := c.Delete(c.Context(), api.Deployments, client.KeyOf(c.deployment("web")), client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.settle()
		other := map[string]string{"app": "other"}
		c.create(api.ReplicaSets, &appsv1.ReplicaSet{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
			Spec: appsv1.ReplicaSetSpec{Replicas: new(int32(0)), Selector: &metav1.LabelSelector{MatchLabels: other}, Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: other}, Spec: podSpec(),
			}},
		})
		c.create(api.Deployments, deployment("web", 1))
		c.settle()
		c.finished("web", 1, 1)
		if d := c.deployment("web"); d.Status.CollisionCount == nil || *d.Status.CollisionCount != 1 || len(c.sets()) != 2 {
			t.Errorf("status %+v, %d sets", d.Status, len(c.sets()))
		}
	})
}

// TestDeletingADeployment does what was asked with its ReplicaSets and pods, and a new one of the same template finds what was left.
func TestDeletingADeployment(t *testing.T) {
	for policy, left := range map[metav1.DeletionPropagation]int{
		metav1.DeletePropagationBackground: 0, metav1.DeletePropagationForeground: 0, metav1.DeletePropagationOrphan: 3,
	} {
		t.Run(string(policy), func(t *testing.T) {
			inCluster(t, 1, func(c *cluster) {
				c.create(api.Deployments, deployment("web", 3))
				c.settle()
				before := c.pods()
				if _, err := c.Delete(c.Context(), api.Deployments, client.KeyOf(c.deployment("web")), client.DeleteOptions{Propagation: &policy}); err != nil {
					t.Fatal(err)
				}
				c.settle()
				if n, sets := len(c.pods()), len(c.sets()); n != left || sets != min(left, 1) {
					t.Fatalf("%d pods and %d sets are left", n, sets)
				}
				c.create(api.Deployments, deployment("web", 3))
				c.settle()
				c.finished("web", 3, 1)
				if left > 0 && (len(c.sets()) != 1 || c.pods()[0].UID != before[0].UID) {
					t.Error("the set that was left was not taken up")
				}
			})
		})
	}
}

// TestAMasterMayEndAtEveryWriteOfARollout lets each Master make a few writes only, up to the end.
func TestAMasterMayEndAtEveryWriteOfARollout(t *testing.T) {
	for _, most := range []int{1, 2, 3, 5} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			inCluster(t, 3, func(c *cluster) {
				c.create(api.Deployments, deployment("web", 6, version(1), rolling(2, 1)))
				c.settle()
				stop := c.observe(c.withinBounds(8, 5))
				c.stop()
				c.alter("web", version(2))
				term := uint64(2)
				for ; ; term++ {
					l := &limited{Interface: c.Registry, left: most}
					c.leadAs(term, l)
					c.settle()
					c.stop()
					if l.left > 0 {
						break
					}
					if term > 500 {
						t.Fatal("the rollout does not end")
					}
				}
				t.Logf("%d Masters", term-1)
				c.lead(term + 1)
				c.settle()
				c.finished("web", 6, 2)
				stop()
			})
		})
	}
}

// TestATemplateThatChangesWhileItsSetIsMade is somebody who applies twice in a row.
func TestATemplateThatChangesWhileItsSetIsMade(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.create(api.Deployments, deployment("web", 6, version(1), rolling(2, 1)))
		c.settle()
		c.stop()
		again := sync.OnceFunc(func() {
			d := c.deployment("web").DeepCopy()
			version(3)(d)
			if _, err := c.Update(c.Context(), api.Deployments, d, client.UpdateOptions{}); err != nil {
				t.Error(err)
			}
			<-time.After(time.Second) // the Master sees it
		})
		c.leadAs(2, &afterUpdate{Interface: c.Registry, f: func(o api.Object) {
			if revisionOf(o) == 2 { // the second set is there, and has its pods still to get
				again()
			}
		}})
		c.alter("web", version(2))
		c.pass(2 * time.Second)
		c.finished("web", 6, 3)
	})
}

// afterUpdate does something when an object was changed, before who changed it hears of that.
type afterUpdate struct {
	client.Interface
	f func(api.Object)
}

func (a *afterUpdate) Update(ctx context.Context, k *api.Kind, o runtime.Object, opts client.UpdateOptions) (runtime.Object, error) {
	out, err := a.Interface.Update(ctx, k, o, opts)
	if o, ok := out.(api.Object); ok && k == api.Deployments {
		a.f(o)
	}
	return out, err
}

// TestDeploymentsConverge does all that people and machines do to three Deployments, in any order and while it is still being acted upon; in the
// end each has what it was last asked for. CHAOS_SEED, when set, is the only seed.
func TestDeploymentsConverge(t *testing.T) {
	first, last := int64(1), int64(15)
	if n, err := strconv.ParseInt(os.Getenv("CHAOS_SEED"), 10, 64); err == nil {
		first, last = n, n
	}
	for seed := first; seed <= last; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(seed), 0))
			inCluster(t, 4, func(c *cluster) { c.disturb(rng) })
		})
	}
}

func (c *cluster) disturb(rng *rand.Rand) {
	kinds := map[string]func(*appsv1.Deployment){"a": rolling(3, 2), "b": rolling(1, 0), "c": recreated}
	names := []string{"a", "b", "c"}
	want, versions, term := map[string]int32{}, map[string]int{}, uint64(1)
	for _, name := range names {
		want[name], versions[name] = 5, 1
		c.create(api.Deployments, deployment(name, 5, version(1), kinds[name]))
	}
	pause := func(is bool) func(*appsv1.Deployment) { return func(d *appsv1.Deployment) { d.Spec.Paused = is } }
	change := func(name string, f ...func(*appsv1.Deployment)) {
		d := c.deployment(name)
		for _, f := range f {
			f(d)
		}
		d.ResourceVersion = ""
		if _, err := c.Update(c.Context(), api.Deployments, d, client.UpdateOptions{}); err != nil {
			c.Fatal(err)
		}
	}
	gone := ""
	for range 40 {
		name := names[rng.IntN(len(names))]
		switch rng.IntN(9) {
		case 0, 1:
			want[name] = int32(rng.IntN(12))
			change(name, replicas(want[name]))
		case 2, 3:
			versions[name] = 1 + rng.IntN(4)
			change(name, version(versions[name]), broken(rng.IntN(3) == 0))
		case 4:
			change(name, pause(rng.IntN(2) == 0))
		case 5:
			if pods := c.pods(); len(pods) > 0 {
				p := pods[rng.IntN(len(pods))]
				_, _ = c.Delete(c.Context(), api.Pods, client.KeyOf(p), client.DeleteOptions{}) // it may be gone by now
			}
		case 6:
			if sets := c.sets(); len(sets) > 0 {
				_, _ = c.Delete(c.Context(), api.ReplicaSets, client.KeyOf(sets[rng.IntN(len(sets))]), client.DeleteOptions{})
			}
		case 7:
			c.stop()
			term++
			c.lead(term)
		case 8:
			if gone != "" {
				c.live.set(gone, api.Alive)
			}
			gone = fmt.Sprint("node-", rng.IntN(4))
			c.live.set(gone, api.Gone)
		}
		c.pass([]time.Duration{0, time.Millisecond, 50 * time.Millisecond, 10 * time.Second}[rng.IntN(4)])
	}
	if gone != "" {
		c.live.set(gone, api.Alive)
	}
	for _, name := range names {
		change(name, pause(false), broken(false))
	}
	c.pass(time.Minute)
	for _, name := range names {
		c.finished(name, want[name], versions[name])
	}
	total := 0
	for _, n := range want {
		total += int(n)
	}
	if n := len(c.pods()); n != total {
		c.Errorf("%d pods, want %d", n, total)
	}
	before := c.rev()
	c.stop()
	c.lead(term + 1)
	c.settle()
	if after := c.rev(); after != before {
		c.Errorf("the next Master made %d writes where nothing was left to do", after-before)
	}
}
