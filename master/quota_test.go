package master_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// limit makes a quota of pairs of names and amounts.
func (c *cluster) limit(name string, pairs ...string) {
	c.Helper()
	c.create(api.ResourceQuotas, &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name}, Spec: corev1.ResourceQuotaSpec{Hard: amounts(pairs...)},
	})
}

func amounts(pairs ...string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

// wantUsed checks what the status of a quota says.
func (c *cluster) wantUsed(when, name string, pairs ...string) {
	c.Helper()
	q := get[*corev1.ResourceQuota](c, api.ResourceQuotas, metav1.NamespaceDefault, name)
	for what, want := range amounts(pairs...) {
		if got := q.Status.Used[what]; got.Cmp(want) != 0 {
			c.Errorf("%s: %s of %s is used, want %s", when, got.String(), what, want.String())
		}
	}
}

func (c *cluster) settings(name string) error {
	_, err := c.Create(c.Context(), api.ConfigMaps, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name}}, client.CreateOptions{})
	return err
}

// TestAControllerGetsAsManyPodsAsTheQuotaAllows and the others as soon as it allows more.
func TestAControllerGetsAsManyPodsAsTheQuotaAllows(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.limit("small", "pods", "4", "requests.cpu", "1")
		rc := newController("web", 10)
		rc.Spec.Template.Spec.Containers[0].Resources.Requests = amounts("cpu", "100m")
		c.create(api.ReplicationControllers, rc)
		c.pass(time.Minute)
		if n := len(c.pods()); n != 4 {
			t.Fatalf("%d pods, want 4", n)
		}
		c.wantUsed("four pods", "small", "pods", "4", "requests.cpu", "400m")
		said := c.events("FailedCreate")
		if want := "exceeded quota: small, requested: pods=1, used: pods=4, limited: pods=4"; len(said) == 0 || !strings.Contains(said[0].Message, want) {
			t.Errorf("the events: %v", said)
		}
		modify(c, api.ResourceQuotas, "small", func(q *corev1.ResourceQuota) { q.Spec.Hard = amounts("pods", "20", "requests.cpu", "700m") })
		c.pass(time.Minute)
		c.wantUsed("more pods, and little CPU", "small", "pods", "7", "requests.cpu", "700m")
		c.stop()
		c.lead(2)
		c.scale("web", 2)
		c.pass(time.Minute)
		c.wantUsed("the next Master", "small", "pods", "2", "requests.cpu", "200m")
	})
}

// TestARolloutInAFullNamespaceEnds replaces pods by as many as the quota allows at a time.
func TestARolloutInAFullNamespaceEnds(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.limit("full", "pods", "6")
		c.create(api.Deployments, deployment("web", 6, version(1), rolling(2, 1)))
		c.settle()
		stop := c.observe(c.withinBounds(6, 5))
		c.alter("web", version(2))
		c.pass(10 * time.Minute)
		c.finished("web", 6, 2)
		stop()
		if len(c.events("FailedCreate")) == 0 {
			t.Error("nobody says that the quota stood in the way")
		}
	})
}

func TestManyCreatorsDoNotOvershoot(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		l, err := c.List(c.Context(), api.ConfigMaps, client.ListOptions{Namespace: metav1.NamespaceDefault})
		if err != nil {
			t.Fatal(err)
		}
		there := len(l.Items)
		c.limit("few", "configmaps", fmt.Sprint(there+20))
		var made, refused atomic.Int32
		var last atomic.Value
		var creators sync.WaitGroup
		for i := range 64 {
			creators.Go(func() {
				for j := range 3 {
					switch err := c.settings(fmt.Sprintf("cm-%d-%d", i, j)); {
					case err == nil:
						made.Add(1)
						last.Store(fmt.Sprintf("cm-%d-%d", i, j))
					case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota: few, requested: configmaps=1"):
						refused.Add(1)
					default:
						t.Error(err)
					}
				}
			})
		}
		creators.Wait()
		if made.Load() != 20 || refused.Load() != 64*3-20 {
			t.Errorf("%d were made, %d refused", made.Load(), refused.Load())
		}
		c.pass(time.Second)
		c.wantUsed("all are made", "few", "configmaps", fmt.Sprint(there+20))
		if _, err := c.Delete(c.Context(), api.ConfigMaps, client.Key{Namespace: metav1.NamespaceDefault, Name: last.Load().(string)}, client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.settle()
		if err := c.settings("one-more"); err != nil {
			t.Errorf("one is gone: %v", err)
		}
	})
}

// TestWhatFailsTakesNothing: names that are taken, objects that are not valid, dry runs, and writes that find no quorum.
func TestWhatFailsTakesNothing(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.limit("few", "secrets", "2", "count/configmaps", "100")
		secret := func(name string, o client.CreateOptions) error {
			_, err := c.Create(c.Context(), api.Secrets, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name}}, o)
			return err
		}
		if err := secret("a", client.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if err := secret("a", client.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
				t.Errorf("a name that is taken: %v", err)
			}
			if err := secret("Not a name", client.CreateOptions{}); !apierrors.IsInvalid(err) {
				t.Errorf("no name: %v", err)
			}
			if err := secret("dry", client.CreateOptions{DryRun: true}); err != nil {
				t.Errorf("a dry run: %v", err)
			}
		}
		if err := secret("b", client.CreateOptions{}); err != nil {
			t.Errorf("there is room for one: %v", err)
		}
		if err := secret("dry", client.CreateOptions{DryRun: true}); !apierrors.IsForbidden(err) {
			t.Errorf("a dry run of one too many: %v", err)
		}
		c.pass(time.Second)
		c.wantUsed("two", "few", "secrets", "2")
	})
}

// TestAWriteWaitsForANewMasterToCount what there is, and is then judged by it.
func TestAWriteWaitsForANewMasterToCount(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.limit("few", "secrets", "1")
		c.settle()
		c.create(api.Secrets, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "a"}})
		c.stop()
		answer := make(chan error, 1)
		go func() {
			_, err := c.Create(c.Context(), api.Secrets, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "b"}}, client.CreateOptions{})
			answer <- err
		}()
		c.pass(time.Second)
		select {
		case err := <-answer:
			t.Fatalf("nobody can know: %v", err)
		default:
		}
		c.leadAgain(2)
		if err := <-answer; !apierrors.IsForbidden(err) {
			t.Errorf("one too many: %v", err)
		}
		c.stop()
		_, err := c.Create(c.Context(), api.Secrets, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "c"}}, client.CreateOptions{})
		if !apierrors.IsServiceUnavailable(err) {
			t.Errorf("without a Master: %v", err)
		}
		c.lead(3)
	})
}

// TestAChangeIsChargedForWhatItAdds: a Service that gets node ports, and a claim that grows.
func TestAChangeIsChargedForWhatItAdds(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.limit("few", "services.nodeports", "1", "services", "5")
		c.create(api.Services, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "web"},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "a", Port: 80}, {Name: "b", Port: 81}}},
		})
		c.settle()
		s := get[*corev1.Service](c, api.Services, metav1.NamespaceDefault, "web")
		s.Spec.Type = corev1.ServiceTypeNodePort
		if _, err := c.Update(c.Context(), api.Services, s, client.UpdateOptions{}); !apierrors.IsForbidden(err) ||
			!strings.Contains(err.Error(), "exceeded quota: few, requested: services.nodeports=2, used: services.nodeports=0, limited: services.nodeports=1") {
			t.Errorf("two ports of one: %v", err)
		}
		if _, err := c.Update(c.Context(), api.Services, s, client.UpdateOptions{DryRun: true}); !apierrors.IsForbidden(err) {
			t.Errorf("two ports of one, a dry run: %v", err)
		}
		s.Spec.Ports = s.Spec.Ports[:1]
		if _, err := c.Update(c.Context(), api.Services, s, client.UpdateOptions{}); err != nil {
			t.Errorf("one port: %v", err)
		}
		c.settle()
		modify(c, api.Services, "web", func(s *corev1.Service) { s.Labels = map[string]string{"a": "b"} })
		c.pass(time.Second)
		c.wantUsed("one port", "few", "services.nodeports", "1")
	})
}

// TestWhoEndsMakesRoom: a pod that has ended is no pod for a quota, but still an object.
func TestWhoEndsMakesRoom(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.limit("few", "pods", "1", "count/pods", "3")
		pod := func(name string) error {
			_, err := c.Create(c.Context(), api.Pods, &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name},
				Spec:       corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
			}, client.CreateOptions{})
			return err
		}
		for i := range 3 {
			name := fmt.Sprint("p", i)
			if err := pod(name); err != nil {
				t.Fatal(err)
			}
			if err := pod("another"); !apierrors.IsForbidden(err) {
				t.Errorf("a second pod beside %s: %v", name, err)
			}
			c.settle()
			c.exit(get[*corev1.Pod](c, api.Pods, metav1.NamespaceDefault, name), corev1.PodSucceeded, 0)
			c.settle()
		}
		if err := pod("fourth"); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "count/pods=3") {
			t.Errorf("a fourth object: %v", err)
		}
	})
}

// TestAQuotaCountsEveryKind, custom ones too, and says whose it was.
func TestAQuotaCountsEveryKind(t *testing.T) {
	inFamily(t, func(f *family) {
		f.limit("few", "count/boats.sea.example.com", "1", "count/deployments.apps", "0")
		f.add(f.boats, "a")
		f.settle()
		boat := get[api.Object](f.cluster, f.boats, metav1.NamespaceDefault, "a")
		boat.SetName("b")
		boat.SetResourceVersion("")
		if _, err := f.Create(f.Context(), f.boats, boat, client.CreateOptions{}); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `boats.sea.example.com "b" is forbidden: exceeded quota: few`) {
			t.Errorf("a second boat: %v", err)
		}
		var refused *apierrors.StatusError
		_, err := f.Create(f.Context(), api.Deployments, deployment("web", 1), client.CreateOptions{})
		if !errors.As(err, &refused) || refused.ErrStatus.Code != 403 {
			t.Errorf("a Deployment: %v", err)
		}
		l, err := f.List(f.Context(), api.Deployments, client.ListOptions{})
		if err != nil || len(l.Items) > 0 {
			t.Errorf("%d Deployments, %v", len(l.Items), err)
		}
	})
}

// TestADefinitionThatChangesCountsNothingTwice, nor what was deleted while its kind was followed anew.
func TestADefinitionThatChangesCountsNothingTwice(t *testing.T) {
	inFamily(t, func(f *family) {
		f.limit("few", "count/boats.sea.example.com", "3")
		redefine := func(description string) {
			d := get[*apiextensionsv1.CustomResourceDefinition](f.cluster, api.CustomResourceDefinitions, "", "boats.sea.example.com")
			d.Spec.Versions[1].Schema.OpenAPIV3Schema.Description = description
			if _, err := f.Update(f.Context(), api.CustomResourceDefinitions, d, client.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		f.add(f.boats, "a")
		f.add(f.boats, "b")
		f.settle()
		redefine("What floats.")
		f.pass(time.Second)
		f.wantUsed("it was changed", "few", "count/boats.sea.example.com", "2")
		redefine("What floats, mostly.")
		f.remove("a", metav1.DeletePropagationBackground)
		f.pass(time.Second)
		f.wantUsed("one was deleted meanwhile", "few", "count/boats.sea.example.com", "1")
		f.add(f.boats, "c")
		f.add(f.boats, "d")
		f.pass(time.Second)
		f.wantUsed("two more", "few", "count/boats.sea.example.com", "3")
	})
}

// TestASlipMakesNoBillionPods of a ReplicationController either, and it goes on as those it has get nodes.
func TestASlipMakesNoBillionPods(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.create(api.ReplicationControllers, newController("web", 1))
		c.settle()
		c.scale("web", 2_000_000_000)
		c.pass(10 * time.Second)
		placed := 0
		for _, p := range c.pods() {
			if p.Spec.NodeName != "" {
				placed++
			}
		}
		if n := len(c.pods()); n > placed+5000 || n < placed+4900 || placed < 30 {
			t.Errorf("%d pods, %d of them with a node", n, placed)
		}
		if len(c.events("TooManyWaiting")) == 0 {
			t.Error("nobody says that there are too many")
		}
		c.scale("web", 2)
		c.pass(10 * time.Second)
		if n := len(c.pods()); n != 2 {
			t.Errorf("then there are %d pods, want 2", n)
		}
	})
}
