package master_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"shoal/internal/api"
	"shoal/internal/client"
)

// leadInSteps lets one Master after the other make a few writes only, until none has anything left to do. Each has step to do its work.
func (c *cluster) leadInSteps(most int, step time.Duration) {
	c.Helper()
	for term, quiet := uint64(2), 0; quiet < 3; term++ {
		l := &limited{Interface: c.Registry, left: most}
		c.leadAs(term, l)
		c.pass(step)
		c.stop()
		if quiet++; l.left < most {
			quiet = 0
		}
		if term > 1000 {
			c.Fatal("it does not end")
		}
	}
}

// TestAMasterMayEndAtEveryWrite is for what has no such test of its own: something is asked for while nobody leads, and then each Master makes one write,
// two, or three.
func TestAMasterMayEndAtEveryWrite(t *testing.T) {
	for name, f := range map[string]struct {
		before func(*cluster) // with a Master
		ask    func(*cluster) // without one
		step   time.Duration
		judge  func(*cluster)
	}{
		"ReplicationController: grows, and adopts": {
			ask: func(c *cluster) {
				orphan := user("orphan")
				orphan.Labels = map[string]string{"app": "web"}
				c.create(api.Pods, orphan)
				c.create(api.ReplicationControllers, newController("web", 7))
			},
			judge: func(c *cluster) {
				rc := get[*corev1.ReplicationController](c, api.ReplicationControllers, "default", "web")
				for _, p := range c.pods() {
					if !metav1.IsControlledBy(p, rc) || !api.IsPodReady(p) {
						c.Errorf("pod %s: %v", p.Name, p.OwnerReferences)
					}
				}
				if n := len(c.pods()); n != 7 || rc.Status.AvailableReplicas != 7 {
					c.Errorf("%d pods, status %+v", n, rc.Status)
				}
			},
		},
		"ReplicationController: shrinks": {
			before: func(c *cluster) { c.create(api.ReplicationControllers, newController("web", 7)) },
			ask:    func(c *cluster) { c.scale("web", 2) },
			judge: func(c *cluster) {
				if n := len(c.pods()); n != 2 {
					c.Errorf("%d pods", n)
				}
			},
		},
		"DaemonSet: rolls": {
			before: func(c *cluster) { c.create(api.DaemonSets, daemonSet(daemonVersion(1), daemonRolling(0, 1))) },
			ask:    func(c *cluster) { c.alterDaemonSet(daemonVersion(2)) },
			judge: func(c *cluster) {
				nodes := map[string]bool{}
				for _, p := range c.pods() {
					nodes[p.Spec.NodeName] = true
					if p.Spec.Containers[0].Image != "example.org/main:2" || !api.IsPodReady(p) {
						c.Errorf("pod %s: %s", p.Name, p.Spec.Containers[0].Image)
					}
				}
				if len(nodes) != 3 || len(c.pods()) != 3 || c.daemonSet().Status.UpdatedNumberScheduled != 3 {
					c.Errorf("%d pods on %d nodes, status %+v", len(c.pods()), len(nodes), c.daemonSet().Status)
				}
			},
		},
		"CronJob: one Job for each time": {
			ask: func(c *cluster) {
				c.create(api.CronJobs, newCronJob("0 * * * *", succeeding))
				c.pass(time.Hour + time.Minute)
			},
			step: 2 * time.Second,
			judge: func(c *cluster) {
				l, err := c.List(c.Context(), api.Jobs, client.ListOptions{Namespace: "default"})
				if err != nil {
					c.Fatal(err)
				}
				times := map[string]bool{}
				for _, o := range l.Items {
					times[o.GetAnnotations()["batch.kubernetes.io/cronjob-scheduled-timestamp"]] = true
					if j := o.(*batchv1.Job); j.Status.Succeeded != 1 {
						c.Errorf("job %s: %+v", j.Name, j.Status)
					}
				}
				if len(l.Items) == 0 || len(times) != len(l.Items) {
					c.Errorf("%d jobs of %d times", len(l.Items), len(times))
				}
			},
		},
		"Node: its machine is gone": {
			before: func(c *cluster) { c.create(api.ReplicationControllers, newController("web", 6)) },
			ask:    func(c *cluster) { c.live.set("node-0", api.Gone) },
			step:   evictionGrace + time.Second,
			judge: func(c *cluster) {
				for _, p := range c.pods() {
					if p.Spec.NodeName == "node-0" || !api.IsPodReady(p) || api.IsPodDisrupted(p) {
						c.Errorf("pod %s is on %s", p.Name, p.Spec.NodeName)
					}
				}
				if n := len(c.pods()); n != 6 {
					c.Errorf("%d pods", n)
				}
			},
		},
		"Node: a taint says NoExecute": {
			before: func(c *cluster) { c.create(api.ReplicationControllers, newController("web", 6)) },
			ask:    func(c *cluster) { c.alterNode("node-0", taintNode("team", "a", corev1.TaintEffectNoExecute)) },
			judge: func(c *cluster) {
				if n := len(c.pods()); n != 6 || len(on("node-0", c.pods())) > 0 {
					c.Errorf("%d pods, on the node %d", n, len(on("node-0", c.pods())))
				}
			},
		},
		"Namespace: goes with all that is in it": {
			before: func(c *cluster) {
				c.create(api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}})
				for _, o := range []struct {
					kind   *api.Kind
					object api.Object
				}{
					{api.ReplicationControllers, newController("web", 3)},
					{api.Services, newService("web")},
					{api.Deployments, deployment("api", 2)},
					{api.PersistentVolumeClaims, newClaim("data", api.LocalClass, "1Gi")},
				} {
					o.object.SetNamespace("team")
					c.create(o.kind, o.object)
				}
			},
			ask: func(c *cluster) {
				if _, err := c.Delete(c.Context(), api.Namespaces, client.Key{Name: "team"}, client.DeleteOptions{}); err != nil {
					c.Fatal(err)
				}
			},
			judge: func(c *cluster) {
				if _, err := c.Get(c.Context(), api.Namespaces, client.Key{Name: "team"}, client.GetOptions{}); !apierrors.IsNotFound(err) {
					c.Errorf("the namespace is there: %v", err)
				}
				for _, k := range []*api.Kind{api.Pods, api.ReplicaSets, api.PersistentVolumeClaims, api.ConfigMaps} {
					if l, err := c.List(c.Context(), k, client.ListOptions{Namespace: "team"}); err != nil || len(l.Items) > 0 {
						c.Errorf("%s: %d left, %v", k.Resource, len(l.Items), err)
					}
				}
			},
		},
		"owner: goes in the foreground": {
			before: func(c *cluster) { c.create(api.Deployments, deployment("web", 3)) },
			ask: func(c *cluster) {
				_, err := c.Delete(c.Context(), api.Deployments, client.Key{Namespace: "default", Name: "web"}, client.DeleteOptions{Propagation: new(metav1.DeletePropagationForeground)})
				if err != nil {
					c.Fatal(err)
				}
			},
			judge: func(c *cluster) {
				l, err := c.List(c.Context(), api.ReplicaSets, client.ListOptions{})
				_, gone := c.Get(c.Context(), api.Deployments, client.Key{Namespace: "default", Name: "web"}, client.GetOptions{})
				if err != nil || len(l.Items)+len(c.pods()) > 0 || !apierrors.IsNotFound(gone) {
					c.Errorf("%d sets, %d pods, %v, %v", len(l.Items), len(c.pods()), err, gone)
				}
			},
		},
		"PodDisruptionBudget: counts": {
			before: func(c *cluster) { c.create(api.ReplicationControllers, newController("web", 4)) },
			ask:    func(c *cluster) { c.create(api.PodDisruptionBudgets, budget("3", "")) },
			judge: func(c *cluster) {
				l, err := c.List(c.Context(), api.PodDisruptionBudgets, client.ListOptions{})
				if err != nil || len(l.Items) != 1 {
					c.Fatal(len(l.Items), err)
				}
			},
		},
		"StatefulSet: shrinks, from the last on": {
			before: func(c *cluster) { c.create(api.StatefulSets, statefulSet(5)) },
			ask: func(c *cluster) {
				s := get[*appsv1.StatefulSet](c, api.StatefulSets, "default", "db")
				s.Spec.Replicas = new(int32(2))
				if _, err := c.Update(c.Context(), api.StatefulSets, s, client.UpdateOptions{}); err != nil {
					c.Fatal(err)
				}
			},
			judge: func(c *cluster) { c.there("db-0", "db-1") },
		},
	} {
		for _, most := range []int{1, 2, 3} {
			t.Run(fmt.Sprintf("%s, %d", name, most), func(t *testing.T) {
				inCluster(t, 3, func(c *cluster) {
					if f.before != nil {
						f.before(c)
						c.pass(5 * time.Second)
					}
					c.stop()
					f.ask(c)
					c.leadInSteps(most, max(f.step, 100*time.Millisecond))
					c.lead(2000)
					c.pass(2 * time.Second)
					f.judge(c)
				})
			})
		}
	}
}

// limited fails all writes after the first few, as those of a Master that is none any more. Events do not count, since they wait for nobody, nor do
// writes that are refused.
type limited struct {
	client.Interface
	mu   sync.Mutex
	left int
}

func limit[T any](l *limited, k *api.Kind, write func() (T, error)) (out T, err error) {
	if k == api.Events {
		return write()
	}
	if !l.take(1) {
		return out, context.Canceled
	}
	if out, err = write(); err != nil {
		l.take(-1)
	}
	return out, err
}

func (l *limited) take(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left < n {
		return false
	}
	l.left -= n
	return true
}

func (l *limited) Create(ctx context.Context, k *api.Kind, o runtime.Object, opts client.CreateOptions) (runtime.Object, error) {
	return limit(l, k, func() (runtime.Object, error) {
		if m, ok := o.(api.Object); ok && k.Namespaced {
			ns, err := l.Get(ctx, api.Namespaces, client.Key{Name: m.GetNamespace()}, client.GetOptions{})
			if n, ok := ns.(*corev1.Namespace); err == nil && ok && n.DeletionTimestamp != nil { // as admission does
				err := apierrors.NewForbidden(k.GVR().GroupResource(), m.GetName(), errors.New("it is being terminated"))
				err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
				return nil, err
			}
		}
		return l.Interface.Create(ctx, k, o, opts)
	})
}

func (l *limited) Update(ctx context.Context, k *api.Kind, o runtime.Object, opts client.UpdateOptions) (runtime.Object, error) {
	return limit(l, k, func() (runtime.Object, error) { return l.Interface.Update(ctx, k, o, opts) })
}

func (l *limited) Patch(ctx context.Context, k *api.Kind, key client.Key, p client.Patch, opts client.PatchOptions) (runtime.Object, error) {
	return limit(l, k, func() (runtime.Object, error) { return l.Interface.Patch(ctx, k, key, p, opts) })
}

func (l *limited) Delete(ctx context.Context, k *api.Kind, key client.Key, opts client.DeleteOptions) (api.Object, error) {
	return limit(l, k, func() (api.Object, error) { return l.Interface.Delete(ctx, k, key, opts) })
}
