package api

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The rows of the kinds table.
var (
	Namespaces             = row[corev1.Namespace, corev1.NamespaceList](corev1.SchemeGroupVersion, "Namespace", "namespaces", "ns")
	Nodes                  = row[corev1.Node, corev1.NodeList](corev1.SchemeGroupVersion, "Node", "nodes", "no")
	Pods                   = row[corev1.Pod, corev1.PodList](corev1.SchemeGroupVersion, "Pod", "pods", "po")
	ReplicationControllers = row[corev1.ReplicationController, corev1.ReplicationControllerList](corev1.SchemeGroupVersion, "ReplicationController", "replicationcontrollers", "rc")
	Services               = row[corev1.Service, corev1.ServiceList](corev1.SchemeGroupVersion, "Service", "services", "svc")
	Endpoints              = row[corev1.Endpoints, corev1.EndpointsList](corev1.SchemeGroupVersion, "Endpoints", "endpoints", "ep")
	Events                 = row[corev1.Event, corev1.EventList](corev1.SchemeGroupVersion, "Event", "events", "ev")
	ConfigMaps             = row[corev1.ConfigMap, corev1.ConfigMapList](corev1.SchemeGroupVersion, "ConfigMap", "configmaps", "cm")
	Secrets                = row[corev1.Secret, corev1.SecretList](corev1.SchemeGroupVersion, "Secret", "secrets")
	ServiceAccounts        = row[corev1.ServiceAccount, corev1.ServiceAccountList](corev1.SchemeGroupVersion, "ServiceAccount", "serviceaccounts", "sa")
	EndpointSlices         = row[discoveryv1.EndpointSlice, discoveryv1.EndpointSliceList](discoveryv1.SchemeGroupVersion, "EndpointSlice", "endpointslices")
)

// Kinds returns every row, in discovery order.
func Kinds() []*Kind {
	return []*Kind{ConfigMaps, Endpoints, Events, Namespaces, Nodes, Pods, ReplicationControllers, Secrets, ServiceAccounts, Services, EndpointSlices}
}

func row[T, L any](gv schema.GroupVersion, kind, resource string, short ...string) *Kind {
	return &Kind{
		GroupVersionKind: gv.WithKind(kind),
		Resource:         resource,
		ShortNames:       short,
		Namespaced:       kind != "Namespace" && kind != "Node",
		New:              func() Object { return any(new(T)).(Object) },
		NewList:          func() runtime.Object { return any(new(L)).(runtime.Object) },
	}
}
