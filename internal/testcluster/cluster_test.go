package testcluster_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/testcluster"
)

// cluster is what the tests do with one.
type cluster struct {
	*testing.T
	*testcluster.Cluster
}

func inCluster(t *testing.T, n int, o testcluster.Options, f func(c *cluster)) {
	t.Helper()
	testcluster.Run(t, n, o, func(t *testing.T, c *testcluster.Cluster) { f(&cluster{t, c}) })
}

func newService(name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
}

func newController(name string, replicas int32) *corev1.ReplicationController {
	l := map[string]string{"app": name}
	return &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ReplicationControllerSpec{
			Replicas: &replicas, Selector: l,
			Template: &corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: l},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "example.org/main:1"}}},
			},
		},
	}
}

func newConfigMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string]string{"v": value}}
}

// create writes at a peer, again until it is accepted or turns out to have been.
func (c *cluster) create(at string, k *api.Kind, o api.Object) {
	c.Helper()
	cl := c.Client(at)
	c.Retry("create "+o.GetName(), func(ctx context.Context) error {
		_, err := cl.Create(ctx, k, o, client.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
}

// scale sets what a controller wants.
func (c *cluster) scale(at, name string, replicas int) {
	c.Helper()
	cl := c.Client(at)
	p := client.Patch{Type: "application/merge-patch+json", Data: fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)}
	c.Retry("scale "+name, func(ctx context.Context) error {
		_, err := cl.Patch(ctx, api.ReplicationControllers, client.Key{Namespace: "default", Name: name}, p, client.PatchOptions{})
		return err
	})
}

// list returns what a peer has, as it has it.
func list[T api.Object](c *cluster, at string, k *api.Kind, namespace string) []T {
	c.Helper()
	l, err := c.Registry(at).List(c.Context(), k, client.ListOptions{Namespace: namespace, ResourceVersion: "0"})
	if err != nil {
		c.Fatal(err)
	}
	var out []T
	for _, o := range l.Items {
		out = append(out, o.(T))
	}
	return out
}

// alive are the pods that are not about to end.
func alive(pods []*corev1.Pod) (out []*corev1.Pod) {
	for _, p := range pods {
		if p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodFailed && p.Status.Phase != corev1.PodSucceeded {
			out = append(out, p)
		}
	}
	return out
}

// run waits until a peer shows exactly so many pods, all ready, and as many endpoints.
func (c *cluster) run(at, name string, replicas int) {
	c.Helper()
	c.Until(fmt.Sprintf("%d pods of %s run, says %s", replicas, name, at), func() bool {
		pods := list[*corev1.Pod](c, at, api.Pods, "default")
		for _, p := range pods {
			if p.DeletionTimestamp != nil || !api.IsPodReady(p) {
				return false
			}
		}
		return len(pods) == replicas && len(c.endpoints(at, name)) == replicas
	})
}

func (c *cluster) endpoints(at, name string) map[string]bool {
	c.Helper()
	o, err := c.Registry(at).Get(c.Context(), api.Endpoints, client.Key{Namespace: "default", Name: name}, client.GetOptions{ResourceVersion: "0"})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		c.Fatal(err)
	}
	out := map[string]bool{}
	for _, s := range o.(*corev1.Endpoints).Subsets { //nolint:staticcheck // served as Kubernetes does
		for _, a := range s.Addresses {
			out[a.IP] = true
		}
	}
	return out
}

// nodes waits until all the peers' Nodes are ready, whatever other Nodes there are.
func (c *cluster) nodes() {
	c.Helper()
	c.Until("all peers' Nodes are ready", func() bool {
		ready := 0
		for _, n := range list[*corev1.Node](c, c.Names()[0], api.Nodes, "") {
			if len(n.Status.Conditions) > 0 && n.Status.Conditions[0].Status == corev1.ConditionTrue {
				ready++
			}
		}
		return ready == len(c.Names())
	})
}

// others are the peers that run, but one.
func (c *cluster) others(but string) (out []string) {
	for _, n := range c.Names() {
		if n != but {
			out = append(out, n)
		}
	}
	return out
}

func TestAClusterServesAtEveryPeer(t *testing.T) {
	inCluster(t, 3, testcluster.Options{}, func(c *cluster) {
		c.nodes()
		for i, at := range c.Names() {
			name := fmt.Sprint("web-", i)
			c.create(at, api.Services, newService(name))
			c.create(at, api.ReplicationControllers, newController(name, 3))
		}
		for _, at := range c.Names() {
			for i := range c.Names() {
				c.Until("endpoints at "+at, func() bool { return len(c.endpoints(at, fmt.Sprint("web-", i))) == 3 })
			}
		}
		c.scale(c.others(c.Master())[0], "web-0", 0)
		c.Until("pods of web-0 are gone", func() bool { return len(list[*corev1.Pod](c, c.Master(), api.Pods, "default")) == 6 })
	})
}

func TestANobodyMayReadAndNotWrite(t *testing.T) {
	inCluster(t, 2, testcluster.Options{NoNodes: true}, func(c *cluster) {
		for _, at := range c.Names() {
			cl := c.ClientAs(at, "nobody")
			if _, err := cl.List(c.Context(), api.Services, client.ListOptions{}); err != nil {
				c.Errorf("list at %s: %v", at, err)
			}
			if _, err := cl.Create(c.Context(), api.ConfigMaps, newConfigMap("a", "1"), client.CreateOptions{}); !apierrors.IsForbidden(err) {
				c.Errorf("create at %s: %v", at, err)
			}
		}
	})
}

// status returns the code of an API error, or 0.
func status(err error) int32 {
	var s apierrors.APIStatus
	if errors.As(err, &s) {
		return s.Status().Code
	}
	return 0
}
