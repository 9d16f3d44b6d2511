package master_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/config"
	"shoal/master"
	"shoal/master/registry/registrytest"
)

func TestANewClusterGetsWhatEveryClusterHas(t *testing.T) {
	inCluster(t, 2, func(c *cluster) {
		for _, ns := range []string{"default", "kube-system", "kube-public"} {
			get[*corev1.ServiceAccount](c, api.ServiceAccounts, ns, "default")
		}
		for ip, key := range map[string]client.Key{
			"10.43.0.1":  {Namespace: "default", Name: "kubernetes"},
			"10.43.0.10": {Namespace: "kube-system", Name: "kube-dns"},
			"10.43.0.11": {Namespace: "kube-system", Name: "kube-dns-peers"},
		} {
			if s := get[*corev1.Service](c, api.Services, key.Namespace, key.Name); s.Spec.ClusterIP != ip {
				t.Errorf("%s has address %s, want %s", key, s.Spec.ClusterIP, ip)
			}
			slices := c.slices(key)
			if len(slices) != 1 || len(slices[0].Endpoints) != 2 {
				t.Fatalf("%s has slices %+v", key, slices)
			}
			for _, e := range slices[0].Endpoints {
				if e.NodeName == nil || e.Conditions.Ready == nil || !*e.Conditions.Ready {
					t.Errorf("%s has endpoint %+v", key, e)
				}
			}
		}
		// A second term of a settled cluster writes nothing.
		before := c.rev()
		c.stop()
		c.lead(2)
		c.settle()
		if after := c.rev(); after != before {
			t.Errorf("the second term made %d writes", after-before)
		}
	})
}

func TestWhoAwaitsTheBootstrapFindsAllOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{T: t, live: newLiveness()}
		c.Registry, c.log = registrytest.New(t)
		found := make(chan int, 1)
		go func() {
			if err := master.AwaitBootstrap(t.Context(), c); err != nil {
				t.Error(err)
			}
			l, err := c.List(t.Context(), api.Services, client.ListOptions{})
			if err != nil {
				t.Error(err)
			}
			found <- len(l.Items)
		}()
		c.settle()
		select {
		case <-found:
			t.Fatal("an empty cluster passes for a complete one")
		default:
		}
		c.lead(1)
		if n := <-found; n != 3 {
			t.Errorf("%d services at the end of the wait, want 3", n)
		}
	})
}

func TestPodsFollowTheirController(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.create(api.ReplicationControllers, newController("web", 3))
		for _, want := range []int32{3, 30, 7, 0, 2} {
			c.scale("web", want)
			c.settle()
			pods := c.pods()
			if len(pods) != int(want) {
				t.Fatalf("%d pods, want %d", len(pods), want)
			}
			for _, p := range pods {
				if !api.IsPodReady(p) {
					t.Fatalf("pod %s is not running: %+v", p.Name, p.Status)
				}
			}
			for _, node := range []string{"node-0", "node-1", "node-2"} {
				if n := len(on(node, pods)); want >= 3 && (n < int(want)/3-1 || n > int(want)/3+2) {
					t.Errorf("%d of %d pods on %s", n, want, node)
				}
			}
			s := get[*corev1.ReplicationController](c, api.ReplicationControllers, "default", "web").Status
			if s.Replicas != want || s.ReadyReplicas != want || s.AvailableReplicas != want {
				t.Fatalf("status %+v, want %d", s, want)
			}
		}
	})
}

func TestADeletedPodIsReplaced(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.create(api.ReplicationControllers, newController("web", 2))
		c.settle()
		gone := c.pods()[0]
		if _, err := c.Delete(c.Context(), api.Pods, client.KeyOf(gone), client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.settle()
		pods := c.pods()
		if len(pods) != 2 || pods[0].UID == gone.UID || pods[1].UID == gone.UID {
			t.Fatalf("pods %v", names(pods))
		}
	})
}

func TestMatchingOrphansAreAdoptedAndOthersReleased(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		orphan := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "orphan", Labels: map[string]string{"app": "web"}}, Spec: podSpec()}
		c.create(api.Pods, orphan)
		c.settle()
		rc := c.create(api.ReplicationControllers, newController("web", 2))
		c.settle()
		adopted := get[*corev1.Pod](c, api.Pods, "default", "orphan")
		if len(c.pods()) != 2 || !api.OwnedBy(adopted, rc) {
			t.Fatalf("pods %v, owners %v", names(c.pods()), adopted.OwnerReferences)
		}
		adopted.Labels = map[string]string{"app": "other"}
		if _, err := c.Update(c.Context(), api.Pods, adopted, client.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		c.settle()
		if p := get[*corev1.Pod](c, api.Pods, "default", "orphan"); len(p.OwnerReferences) != 0 || len(c.pods()) != 3 {
			t.Fatalf("pods %v, owners %v", names(c.pods()), p.OwnerReferences)
		}
	})
}

func TestALateMasterDoesWhatWasMissed(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.create(api.ReplicationControllers, newController("web", 4))
		c.settle()
		c.stop()
		c.scale("web", 6)
		if _, err := c.Delete(c.Context(), api.Pods, client.KeyOf(c.pods()[0]), client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.create(api.Services, newService("web"))
		c.settle()
		c.lead(2)
		c.settle()
		if n := len(c.pods()); n != 6 {
			t.Fatalf("%d pods", n)
		}
		if got := c.addresses("web"); len(got) != 6 {
			t.Fatalf("endpoints %v", got)
		}
	})
}

func TestLeadershipMovingMidWayMakesNoPodTwice(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.create(api.ReplicationControllers, newController("web", 0))
		c.create(api.Services, newService("web"))
		c.settle()
		term := uint64(1)
		for _, want := range []int32{60, 3, 25} {
			c.scale("web", want)
			for writes := range uint64(20) { // end each term after a few writes more than the last
				ctx, cancel := context.WithTimeout(c.Context(), time.Second) // when all is done
				_ = c.WaitRevision(ctx, c.rev()+writes/2)
				cancel()
				c.stop()
				term++
				c.lead(term)
			}
			c.settle()
			if n := len(c.pods()); n != int(want) {
				t.Fatalf("%d pods, want %d", n, want)
			}
			if n := len(c.addresses("web")); n != int(want) {
				t.Fatalf("%d endpoints, want %d", n, want)
			}
		}
	})
}

func TestEventsGoAfterAnHour(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.create(api.ReplicationControllers, newController("web", 2))
		c.pass(time.Second) // the second Event waits for the next transaction of Events
		if n := len(c.events("SuccessfulCreate")); n != 2 {
			t.Fatalf("%d events", n)
		}
		c.pass(50 * time.Minute)
		c.scale("web", 3)
		c.pass(20 * time.Minute)
		if n := len(c.events("SuccessfulCreate")); n != 1 {
			t.Fatalf("%d events after 70 minutes", n)
		}
	})
}

func TestAPendingPodSaysWhyAndRunsWhenItCan(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "big"}, Spec: podSpec()}
		p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("16")
		c.create(api.Pods, p)
		c.settle()
		cond := api.PodCondition(get[*corev1.Pod](c, api.Pods, "default", "big"), corev1.PodScheduled)
		if cond == nil || cond.Status != corev1.ConditionFalse || cond.Reason != "Unschedulable" || cond.Message != "0/3 nodes are available: 3 Insufficient cpu." {
			t.Fatalf("condition %+v", cond)
		}
		if events := c.events("FailedScheduling"); len(events) != 1 || events[0].Message != cond.Message || events[0].InvolvedObject.Name != "big" {
			t.Fatalf("events %+v", events)
		}
		c.addNode("node-3", "32")
		c.pass(time.Second) // the back-off of a pod that has just failed
		if p := get[*corev1.Pod](c, api.Pods, "default", "big"); p.Spec.NodeName != "node-3" {
			t.Fatalf("pod is on %q", p.Spec.NodeName)
		}
	})
}

func TestEndpointsFollowPods(t *testing.T) {
	inCluster(t, 2, func(c *cluster) {
		s := newService("web")
		s.Spec.Ports[0].TargetPort = intstr.FromString("web")
		c.create(api.Services, s)
		c.create(api.ReplicationControllers, newController("web", 3))
		c.settle()
		if got := c.addresses("web"); len(got) != 3 {
			t.Fatalf("endpoints %v", got)
		}
		slice := c.slices(client.Key{Namespace: "default", Name: "web"})[0]
		if *slice.Ports[0].Port != 8080 || slice.OwnerReferences[0].Kind != "Service" {
			t.Fatalf("slice %+v", slice)
		}
		c.scale("web", 1)
		c.settle()
		if got := c.addresses("web"); len(got) != 1 {
			t.Fatalf("endpoints %v", got)
		}
		if _, err := c.Delete(c.Context(), api.Services, client.Key{Namespace: "default", Name: "web"}, client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.settle()
		if got := c.slices(client.Key{Namespace: "default", Name: "web"}); len(got) != 0 {
			t.Fatalf("slices %+v", got)
		}
		_, err := c.Get(c.Context(), api.Endpoints, client.Key{Namespace: "default", Name: "web"}, client.GetOptions{})
		if !apierrors.IsNotFound(err) {
			t.Fatalf("endpoints of a deleted service: %v", err)
		}
	})
}

func TestANamespaceGoesWithAllThatIsInIt(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.create(api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}})
		rc := newController("web", 2)
		rc.Namespace = "team"
		c.create(api.ReplicationControllers, rc)
		c.create(api.ConfigMaps, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "settings"}})
		c.settle()
		if _, err := c.Delete(c.Context(), api.Namespaces, client.Key{Name: "team"}, client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.pass(time.Minute)
		if _, err := c.Get(c.Context(), api.Namespaces, client.Key{Name: "team"}, client.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Fatalf("namespace: %v", err)
		}
		for _, k := range api.Kinds() {
			if !k.Namespaced || k == api.Events || k.Stored == api.Events { // admission, which is not here, refuses late remarks
				continue
			}
			l, err := c.List(c.Context(), k, client.ListOptions{Namespace: "team"})
			if err != nil || len(l.Items) > 0 {
				t.Errorf("%d %s are left (%v)", len(l.Items), k.Resource, err)
			}
		}
	})
}

func TestDeletingAControllerDoesWhatWasAskedWithItsPods(t *testing.T) {
	for propagation, want := range map[metav1.DeletionPropagation]int{
		metav1.DeletePropagationBackground: 0, metav1.DeletePropagationForeground: 0, metav1.DeletePropagationOrphan: 3,
	} {
		t.Run(string(propagation), func(t *testing.T) {
			inCluster(t, 1, func(c *cluster) {
				c.create(api.ReplicationControllers, newController("web", 3))
				c.settle()
				key := client.Key{Namespace: "default", Name: "web"}
				if _, err := c.Delete(c.Context(), api.ReplicationControllers, key, client.DeleteOptions{Propagation: &propagation}); err != nil {
					t.Fatal(err)
				}
				c.settle()
				if _, err := c.Get(c.Context(), api.ReplicationControllers, key, client.GetOptions{}); !apierrors.IsNotFound(err) {
					t.Fatalf("controller: %v", err)
				}
				pods := c.pods()
				if len(pods) != want {
					t.Fatalf("%d pods, want %d", len(pods), want)
				}
				for _, p := range pods {
					if len(p.OwnerReferences) > 0 {
						t.Errorf("pod %s is owned by %v", p.Name, p.OwnerReferences)
					}
				}
			})
		})
	}
}

func names(pods []*corev1.Pod) []string {
	var out []string
	for _, p := range pods {
		out = append(out, p.Name)
	}
	return out
}

func newService(name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": name},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}},
		},
	}
}

func (c *cluster) slices(service client.Key) []*discoveryv1.EndpointSlice {
	c.Helper()
	l, err := c.List(c.Context(), api.EndpointSlices, client.ListOptions{Namespace: service.Namespace})
	if err != nil {
		c.Fatal(err)
	}
	var out []*discoveryv1.EndpointSlice
	for _, o := range l.Items {
		if o.GetLabels()[discoveryv1.LabelServiceName] == service.Name {
			out = append(out, o.(*discoveryv1.EndpointSlice))
		}
	}
	return out
}

// addresses returns the ready endpoints of a Service, and checks that the older Endpoints object agrees.
func (c *cluster) addresses(service string) []string {
	c.Helper()
	var out []string
	for _, s := range c.slices(client.Key{Namespace: "default", Name: service}) {
		for _, e := range s.Endpoints {
			if *e.Conditions.Ready {
				out = append(out, e.Addresses...)
			}
		}
	}
	old := 0
	for _, s := range get[*corev1.Endpoints](c, api.Endpoints, "default", service).Subsets {
		old += len(s.Addresses)
	}
	if old != len(out) {
		c.Errorf("slices have %d ready addresses, Endpoints %d", len(out), old)
	}
	return out
}

func (c *cluster) events(reason string) []*corev1.Event {
	c.Helper()
	l, err := c.List(c.Context(), api.Events, client.ListOptions{Namespace: "default"})
	if err != nil {
		c.Fatal(err)
	}
	var out []*corev1.Event
	for _, o := range l.Items {
		if e := o.(*corev1.Event); e.Reason == reason {
			out = append(out, e)
		}
	}
	return out
}

func TestAClusterMayDoWithoutSomeControllers(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.stop()
		c.leadAs(2, c.Registry, config.Controllers()...)
		c.create(api.ReplicationControllers, newController("web", 1))
		c.create(api.Deployments, deployment("web", 1))
		c.create(api.ReplicaSets, &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "set"}, Spec: appsv1.ReplicaSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Template: deployment("web", 1).Spec.Template,
		}})
		c.create(api.DaemonSets, daemonSet())
		c.create(api.StatefulSets, statefulSet(1))
		c.create(api.Jobs, newJob(1, 1))
		c.create(api.CronJobs, newCronJob("* * * * *"))
		c.create(api.PodDisruptionBudgets, budget("1", ""))
		c.settle()
		before := c.rev()
		c.pass(2 * time.Minute)
		if after := c.rev(); after != before || len(c.pods()) != 0 {
			t.Errorf("%d writes, %d pods", after-before, len(c.pods()))
		}
		c.stop()
		c.lead(3)
		c.pass(2 * time.Minute)
		if n := len(c.pods()); n < 6 {
			t.Errorf("with all controllers there are %d pods", n)
		}
	})
}
