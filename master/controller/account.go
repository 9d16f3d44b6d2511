package controller

import (
	"cmp"
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// defaultAccount is the account of pods that name none.
const defaultAccount = "default"

// serviceAccounts makes the default ServiceAccount of every Namespace.
type serviceAccounts struct {
	Config
	queue client.Queue
}

func newServiceAccounts(c Config) loop {
	s := &serviceAccounts{Config: c, queue: client.NewQueue()}
	c.Caches.Namespaces.OnChange(func(old, ns *corev1.Namespace) {
		s.queue.Add(client.Key{Name: cmp.Or(ns, old).Name})
	})
	c.Caches.ServiceAccounts.OnChange(func(old, sa *corev1.ServiceAccount) {
		if sa == nil {
			s.queue.Add(client.Key{Name: old.Namespace})
		}
	})
	return newLoop("serviceaccounts", s.queue, 2, s.reconcile)
}

func (s *serviceAccounts) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	ns, ok := s.Caches.Namespaces.Get(key)
	if !ok || ns.DeletionTimestamp != nil {
		return 0, nil
	}
	if _, ok := s.Caches.ServiceAccounts.Get(client.Key{Namespace: ns.Name, Name: defaultAccount}); ok {
		return 0, nil
	}
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: defaultAccount}}
	_, err := s.Client.Create(ctx, api.ServiceAccounts, sa, client.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return 0, fmt.Errorf("create default service account of %s: %w", ns.Name, err)
	}
	return 0, nil
}

// rootCAs keeps the CA in every Namespace, for pods to know the API by. It comes after the default account: machines wait
// for it where a pod needs both.
type rootCAs struct {
	Config
	queue client.Queue
}

func newRootCAs(c Config) loop {
	r := &rootCAs{Config: c, queue: client.NewQueue()}
	c.Caches.ServiceAccounts.OnChange(func(_, sa *corev1.ServiceAccount) {
		if sa != nil && sa.Name == defaultAccount {
			r.queue.Add(client.Key{Name: sa.Namespace})
		}
	})
	c.Caches.RootCAs.OnChange(func(old, m *corev1.ConfigMap) { r.queue.Add(client.Key{Name: cmp.Or(m, old).Namespace}) })
	loop := newLoop("rootcas", r.queue, 2, r.reconcile)
	if c.CAChanged != nil {
		loop.follow = r.follow
	}
	return loop
}

// follow queues every Namespace whenever the CA may have changed.
func (r *rootCAs) follow(ctx context.Context) error {
	if err := r.Caches.WaitSynced(ctx); err != nil {
		return err
	}
	for {
		changed := r.CAChanged()
		for _, ns := range r.Caches.Namespaces.List("", nil) {
			r.queue.Add(client.Key{Name: ns.Name})
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *rootCAs) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	ns, ok := r.Caches.Namespaces.Get(key)
	if !ok || ns.DeletionTimestamp != nil || r.CA == nil {
		return 0, nil
	}
	ca := string(r.CA())
	if _, ok := r.Caches.ServiceAccounts.Get(client.Key{Namespace: ns.Name, Name: defaultAccount}); !ok {
		return 0, nil // its coming brings us back
	}
	is, exists := r.Caches.RootCAs.Get(client.Key{Namespace: ns.Name, Name: api.RootCAName})
	if exists && is.Data[corev1.ServiceAccountRootCAKey] == ca && len(is.Data) == 1 {
		return 0, nil
	}
	m := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: api.RootCAName},
		Data:       map[string]string{corev1.ServiceAccountRootCAKey: ca},
	}
	var err error
	if exists {
		m.ObjectMeta = *is.ObjectMeta.DeepCopy()
		_, err = r.Client.Update(ctx, api.ConfigMaps, m, client.UpdateOptions{})
	} else {
		_, err = r.Client.Create(ctx, api.ConfigMaps, m, client.CreateOptions{})
	}
	if err != nil && !apierrors.IsAlreadyExists(err) && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return 0, fmt.Errorf("write the CA to namespace %s: %w", ns.Name, err)
	}
	return 0, nil
}
