package master

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/intstr"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/controller"
)

// bootstrap makes the objects that every cluster has, where they are missing. What is there is left as it is.
func (m *Master) bootstrap(ctx context.Context) error {
	for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem} {
		if err := m.ensure(ctx, api.Namespaces, namespace(name)); err != nil {
			return err
		}
	}
	services, err := m.services()
	if err != nil {
		return err
	}
	// All at once: they share few entries of the log then, and a new cluster waits for them.
	g, gctx := errgroup.WithContext(ctx)
	for _, s := range services {
		g.Go(func() error { return m.ensure(gctx, api.Services, s) })
	}
	for _, r := range api.DefaultClusterRoles() {
		g.Go(func() error {
			if err := m.ensure(gctx, api.ClusterRoles, r); err != nil {
				return err
			}
			return m.renewRole(gctx, r)
		})
	}
	for _, c := range api.SystemPriorityClasses() {
		g.Go(func() error { return m.ensure(gctx, api.PriorityClasses, c) })
	}
	g.Go(func() error { return m.ensureClass(gctx) })
	if err := g.Wait(); err != nil {
		return err
	}
	return m.ensure(ctx, api.Namespaces, namespace(bootstrapped))
}

// bootstrapped is the namespace that is made last: it stands for everything else that bootstrap makes. Nobody can delete it.
const bootstrapped = metav1.NamespacePublic

// AwaitBootstrap blocks until c sees the objects that every cluster has, or ctx ends. In a settled cluster it returns at once.
func AwaitBootstrap(ctx context.Context, c client.Interface) error {
	for {
		last := client.ListOptions{Fields: fields.OneTermEqualSelector("metadata.name", bootstrapped)}
		l, err := c.List(ctx, api.Namespaces, last)
		if err != nil || len(l.Items) > 0 {
			return err
		}
		last.ResourceVersion = l.ResourceVersion
		w, err := c.Watch(ctx, api.Namespaces, last)
		if err != nil {
			return err
		}
		_, err = w.Next(ctx) // its creation, or the watch is over; the list tells
		w.Close()
		if ctx.Err() != nil {
			return err
		}
	}
}

func namespace(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// ensureClass makes the class of local volumes, the default one unless there is another.
func (m *Master) ensureClass(ctx context.Context) error {
	class := api.LocalStorageClass()
	if _, err := m.cfg.Client.Get(ctx, api.StorageClasses, client.KeyOf(class), client.GetOptions{ResourceVersion: "0"}); !apierrors.IsNotFound(err) {
		return err
	}
	list, err := m.cfg.Client.List(ctx, api.StorageClasses, client.ListOptions{})
	if err != nil {
		return fmt.Errorf("list storage classes: %w", err)
	}
	if api.DefaultStorageClass(list.Items) != nil {
		class.Annotations = nil
	}
	return m.ensure(ctx, api.StorageClasses, class)
}

// ensure creates o unless it exists. It does not propose a write that is known to be refused, so that a new term of a
// settled cluster writes nothing.
func (m *Master) ensure(ctx context.Context, k *api.Kind, o api.Object) error {
	retry := client.NewBackoff(10*time.Millisecond, time.Second)
	for {
		err := m.ensureOnce(ctx, k, o)
		// A new Master's first proposals may find it still on the way in; anything else is a real refusal.
		if !apierrors.IsServiceUnavailable(err) && !apierrors.IsTimeout(err) && !apierrors.IsServerTimeout(err) {
			return err
		}
		if werr := retry.Wait(ctx); werr != nil {
			return errors.Join(err, werr)
		}
	}
}

func (m *Master) ensureOnce(ctx context.Context, k *api.Kind, o api.Object) error {
	_, err := m.cfg.Client.Get(ctx, k, client.KeyOf(o), client.GetOptions{ResourceVersion: "0"})
	if err == nil {
		return nil
	}
	if apierrors.IsNotFound(err) {
		_, err = m.cfg.Client.Create(ctx, k, o, client.CreateOptions{})
	}
	if err == nil || apierrors.IsAlreadyExists(err) {
		return nil
	}
	return fmt.Errorf("make %s %s: %w", k.Singular, o.GetName(), err)
}

// renewRole lets a role that an earlier release made gather what others have, unless somebody has said that it is theirs.
func (m *Master) renewRole(ctx context.Context, want *rbacv1.ClusterRole) error {
	o, err := m.cfg.Client.Get(ctx, api.ClusterRoles, client.KeyOf(want), client.GetOptions{ResourceVersion: "0"})
	if apierrors.IsNotFound(err) {
		return nil // it was made just now
	}
	is, ok := o.(*rbacv1.ClusterRole)
	if err != nil || !ok || want.AggregationRule == nil || is.AggregationRule != nil || is.Annotations[rbacv1.AutoUpdateAnnotationKey] != "true" {
		return err
	}
	is = is.DeepCopy()
	is.AggregationRule = want.AggregationRule
	if is.Labels == nil {
		is.Labels = map[string]string{}
	}
	maps.Copy(is.Labels, want.Labels)
	if _, err := m.cfg.Client.Update(ctx, api.ClusterRoles, is, client.UpdateOptions{}); err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("renew role %s: %w", want.Name, err)
	}
	return nil
}

// services returns the Services that every peer stands behind; the peers controller writes their endpoints.
func (m *Master) services() ([]*corev1.Service, error) {
	address := func(n int) string {
		a := m.cfg.ServiceCIDR.Masked().Addr()
		for range n {
			a = a.Next()
		}
		return a.String()
	}
	last := address(11)
	if a, err := netip.ParseAddr(last); err != nil || !m.cfg.ServiceCIDR.Contains(a) {
		return nil, fmt.Errorf("service range %s is too small", m.cfg.ServiceCIDR)
	}
	dnsPorts := []corev1.ServicePort{
		{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53, TargetPort: intstr.FromInt32(53)},
		{Name: "dns-tcp", Protocol: corev1.ProtocolTCP, Port: 53, TargetPort: intstr.FromInt32(53)},
	}
	service := func(namespace, name, ip string, labels map[string]string, ports []corev1.ServicePort) *corev1.Service {
		return &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, Ports: ports},
		}
	}
	kubernetes := service(metav1.NamespaceDefault, controller.APIService, address(1),
		map[string]string{"component": "apiserver", "provider": "kubernetes"},
		[]corev1.ServicePort{{Name: "https", Protocol: corev1.ProtocolTCP, Port: 443, TargetPort: intstr.FromInt32(6443)}})
	dns := service(metav1.NamespaceSystem, controller.DNSService, address(10),
		map[string]string{"k8s-app": "kube-dns"}, dnsPorts)
	// A pod asks its own peer first, which answers even when every other machine is gone.
	dns.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
	peers := service(metav1.NamespaceSystem, controller.DNSPeersService, address(11), map[string]string{"k8s-app": "kube-dns"}, dnsPorts)
	return []*corev1.Service{kubernetes, dns, peers}, nil
}
