package api

import (
	"strings"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The rows of the kinds table.
var (
	Namespaces             = row[corev1.Namespace, corev1.NamespaceList](corev1.SchemeGroupVersion, "Namespace", "namespaces", "ns").with(namespaceRow)
	Nodes                  = row[corev1.Node, corev1.NodeList](corev1.SchemeGroupVersion, "Node", "nodes", "no").with(nodeRow)
	Pods                   = row[corev1.Pod, corev1.PodList](corev1.SchemeGroupVersion, "Pod", "pods", "po").with(podRow)
	ReplicationControllers = row[corev1.ReplicationController, corev1.ReplicationControllerList](corev1.SchemeGroupVersion, "ReplicationController", "replicationcontrollers", "rc").with(replicationControllerRow)
	Services               = row[corev1.Service, corev1.ServiceList](corev1.SchemeGroupVersion, "Service", "services", "svc").with(serviceRow)
	Endpoints              = row[corev1.Endpoints, corev1.EndpointsList](corev1.SchemeGroupVersion, "Endpoints", "endpoints", "ep").with(endpointsRow)
	Events                 = row[corev1.Event, corev1.EventList](corev1.SchemeGroupVersion, "Event", "events", "ev").with(eventRow)
	ConfigMaps             = row[corev1.ConfigMap, corev1.ConfigMapList](corev1.SchemeGroupVersion, "ConfigMap", "configmaps", "cm").with(configMapRow)
	Secrets                = row[corev1.Secret, corev1.SecretList](corev1.SchemeGroupVersion, "Secret", "secrets").with(secretRow)
	ServiceAccounts        = row[corev1.ServiceAccount, corev1.ServiceAccountList](corev1.SchemeGroupVersion, "ServiceAccount", "serviceaccounts", "sa").with(serviceAccountRow)
	EndpointSlices         = row[discoveryv1.EndpointSlice, discoveryv1.EndpointSliceList](discoveryv1.SchemeGroupVersion, "EndpointSlice", "endpointslices").with(endpointSliceRow)
)

// Kinds returns every row, in discovery order.
func Kinds() []*Kind {
	return []*Kind{
		ConfigMaps, Endpoints, Events, LimitRanges, Namespaces, Nodes, PersistentVolumeClaims, PersistentVolumes, Pods, PodTemplates,
		ReplicationControllers, ResourceQuotas, Secrets, ServiceAccounts, Services,
		ControllerRevisions, DaemonSets, Deployments, ReplicaSets, StatefulSets,
		HorizontalPodAutoscalers, HorizontalPodAutoscalersV1,
		CronJobs, Jobs,
		CertificateSigningRequests,
		EndpointSlices,
		EventsV1,
		IngressClasses, Ingresses, NetworkPolicies,
		PodDisruptionBudgets, ClusterRoleBindings, ClusterRoles, RoleBindings, Roles,
		CSIDrivers, CSINodes, CSIStorageCapacities, StorageClasses, VolumeAttachments, VolumeAttributesClasses,
		PriorityClasses, Leases, RuntimeClasses,
		MutatingWebhookConfigurations, ValidatingAdmissionPolicies, ValidatingAdmissionPolicyBindings, ValidatingWebhookConfigurations,
		CustomResourceDefinitions,
	}
}

func row[T, L any](gv schema.GroupVersion, kind, resource string, short ...string) *Kind {
	return &Kind{
		GroupVersionKind: gv.WithKind(kind),
		Resource:         resource,
		Singular:         strings.ToLower(kind),
		ShortNames:       short,
		Namespaced:       kind != "Namespace" && kind != "Node",
		ValidateName:     validation.NameIsDNSSubdomain,
		New:              func() Object { return any(new(T)).(Object) },
		NewList:          func() runtime.Object { return any(new(L)).(runtime.Object) },
	}
}

func (k *Kind) with(fill func(*Kind)) *Kind {
	fill(k)
	return k
}

// statusVerbs are those of a status or scale subresource.
func statusVerbs() []string { return []string{"get", "patch", "update"} }

// proxyVerbs are those of a proxy subresource: whatever HTTP has.
func proxyVerbs() []string { return []string{"create", "delete", "get", "patch", "update"} }

func namespaceRow(k *Kind) {
	k.Subresources = []Subresource{
		{Name: "finalize", Kind: "Namespace", Verbs: []string{"update"}},
		{Name: "status", Kind: "Namespace", Verbs: statusVerbs()},
	}
	k.ValidateName = validation.NameIsDNSLabel
	k.Default = on(defaultNamespace)
	k.PrepareCreate = on(prepareNewNamespace)
	k.MarkDeleted = func(o Object, _ metav1.Time) { o.(*corev1.Namespace).Status.Phase = corev1.NamespaceTerminating }
	k.PrepareUpdate = pair(func(updated, old *corev1.Namespace) {
		updated.Spec.Finalizers, updated.Status = old.Spec.Finalizers, old.Status
	})
	k.Validate, k.ValidateUpdate, k.ValidateStatus = check(validateNamespace), compare(validateNamespaceUpdate), compare(validateNamespaceStatus)
	k.CopyStatus = pair(func(to, from *corev1.Namespace) { to.Status = *from.Status.DeepCopy() })
	k.Fields = fieldSet(namespaceFields)
	k.Columns, k.Cells = namespaceColumns(), cells(namespaceCells)
}

func nodeRow(k *Kind) {
	k.Subresources = []Subresource{
		{Name: "proxy", Kind: "NodeProxyOptions", Verbs: proxyVerbs()},
		{Name: "status", Kind: "Node", Verbs: statusVerbs()},
	}
	k.Default = on(defaultNode)
	k.PrepareUpdate = pair(func(updated, old *corev1.Node) { updated.Status = old.Status })
	k.Validate, k.ValidateUpdate, k.ValidateStatus = check(validateNode), compare(validateNodeUpdate), compare(validateNodeStatus)
	k.CopyStatus = pair(func(to, from *corev1.Node) { to.Status = *from.Status.DeepCopy() })
	k.Fields = fieldSet(nodeFields)
	k.Columns, k.Cells = nodeColumns(), cells(nodeCells)
}

func podRow(k *Kind) {
	connect := []string{"create", "get"}
	k.Categories = []string{"all"}
	k.Subresources = []Subresource{
		{Name: "attach", Kind: "PodAttachOptions", Verbs: connect},
		{Name: "binding", Kind: "Binding", Verbs: []string{"create"}},
		{
			Name: "ephemeralcontainers", Kind: "Pod", Verbs: statusVerbs(),
			Copy:     pair(func(to, from *corev1.Pod) { to.Spec.EphemeralContainers = from.Spec.EphemeralContainers }),
			Validate: compare(validateEphemeralUpdate),
		},
		{Name: "eviction", Group: policyv1.GroupName, Kind: "Eviction", Verbs: []string{"create"}},
		{Name: "exec", Kind: "PodExecOptions", Verbs: connect},
		{Name: "log", Kind: "Pod", Verbs: []string{"get"}},
		{Name: "portforward", Kind: "PodPortForwardOptions", Verbs: connect},
		{Name: "proxy", Kind: "PodProxyOptions", Verbs: proxyVerbs()},
		{Name: "resize", Kind: "Pod", Verbs: statusVerbs(), Copy: pair(copyResources), Validate: compare(validateResize)},
		{Name: "status", Kind: "Pod", Verbs: statusVerbs()},
	}
	k.Default = on(defaultPod)
	k.PrepareCreate = on(prepareNewPod)
	k.PrepareUpdate = pair(func(updated, old *corev1.Pod) { updated.Status = old.Status })
	k.Validate, k.ValidateUpdate, k.ValidateStatus = check(validatePod), compare(validatePodUpdate), compare(validatePodStatus)
	k.CopyStatus = pair(copyPodStatus)
	k.Fields = fieldSet(podFields)
	k.Columns, k.Cells, k.RowConditions = podColumns(), cells(podCells), podRowConditions
	k.Generation = true
}

func replicationControllerRow(k *Kind) {
	k.Categories = []string{"all"}
	k.Subresources = []Subresource{
		{Name: "scale", Group: autoscalingv1.GroupName, Kind: "Scale", Verbs: statusVerbs()},
		{Name: "status", Kind: "ReplicationController", Verbs: statusVerbs()},
	}
	k.Default = on(defaultReplicationController)
	k.PrepareCreate = on(func(rc *corev1.ReplicationController) { rc.Status = corev1.ReplicationControllerStatus{} })
	k.PrepareUpdate = pair(func(updated, old *corev1.ReplicationController) { updated.Status = old.Status })
	k.Validate, k.ValidateUpdate, k.ValidateStatus = check(validateReplicationController), compare(validateReplicationControllerUpdate), compare(validateReplicationControllerStatus)
	k.CopyStatus = pair(func(to, from *corev1.ReplicationController) { to.Status = *from.Status.DeepCopy() })
	k.Fields = fieldSet(replicationControllerFields)
	k.Columns, k.Cells = replicationControllerColumns(), cells(replicationControllerCells)
	k.Generation = true
}

func serviceRow(k *Kind) {
	k.Categories = []string{"all"}
	k.Subresources = []Subresource{
		{Name: "proxy", Kind: "ServiceProxyOptions", Verbs: proxyVerbs()},
		{Name: "status", Kind: "Service", Verbs: statusVerbs()},
	}
	k.ValidateName = validation.NameIsDNS1035Label
	k.CreateOnUpdate = true
	k.Default = on(defaultService)
	k.PrepareCreate = on(prepareNewService)
	k.PrepareUpdate = pair(prepareServiceUpdate)
	k.Validate, k.ValidateUpdate, k.ValidateStatus = check(validateService), compare(validateServiceUpdate), compare(validateServiceStatus)
	k.CopyStatus = pair(func(to, from *corev1.Service) { to.Status = *from.Status.DeepCopy() })
	k.Fields = fieldSet(serviceFields)
	k.Columns, k.Cells = serviceColumns(), cells(serviceCells)
}

func endpointsRow(k *Kind) {
	k.CreateOnUpdate = true
	k.Default = on(defaultEndpoints)
	k.Validate, k.ValidateUpdate = check(validateEndpoints), compare(validateEndpointsUpdate)
	k.Columns, k.Cells = endpointsColumns(), cells(endpointsCells)
}

func endpointSliceRow(k *Kind) {
	k.Default = on(defaultEndpointSlice)
	k.Validate, k.ValidateUpdate = check(validateEndpointSlice), compare(validateEndpointSliceUpdate)
	k.Columns, k.Cells = endpointSliceColumns(), cells(endpointSliceCells)
	k.Generation = true
}

// pathSegment wants what can stand between two slashes of a URL.
func pathSegment(name string, prefix bool) []string {
	if prefix {
		return content.IsPathSegmentPrefix(name)
	}
	return content.IsPathSegmentName(name)
}

func eventRow(k *Kind) {
	k.ValidateName = pathSegment
	k.CreateOnUpdate = true
	k.Validate, k.ValidateUpdate = check(validateEvent), compare(func(updated, _ *corev1.Event) field.ErrorList { return validateEvent(updated) })
	k.Fields = fieldSet(eventFields)
	k.Columns, k.Cells = eventColumns(), cells(eventCells)
}

func configMapRow(k *Kind) {
	k.Validate, k.ValidateUpdate = check(validateConfigMap), compare(validateConfigMapUpdate)
	k.Columns, k.Cells = configMapColumns(), cells(configMapCells)
}

func secretRow(k *Kind) {
	k.Default = on(defaultSecret)
	k.Validate, k.ValidateUpdate = check(validateSecret), compare(validateSecretUpdate)
	k.Fields = fieldSet(secretFields)
	k.Columns, k.Cells = secretColumns(), cells(secretCells)
}

func serviceAccountRow(k *Kind) {
	k.Subresources = []Subresource{{Name: "token", Group: "authentication.k8s.io", Kind: "TokenRequest", Verbs: []string{"create"}}}
	k.Columns, k.Cells = serviceAccountColumns(), cells(serviceAccountCells)
}

// The adapters below turn functions over one Go type into those of a row.

func on[T Object](f func(T)) func(Object) {
	return func(o Object) { f(o.(T)) }
}

func pair[T Object](f func(a, b T)) func(a, b Object) {
	return func(a, b Object) { f(a.(T), b.(T)) }
}

func check[T Object](f func(T) field.ErrorList) func(Object) field.ErrorList {
	return func(o Object) field.ErrorList { return f(o.(T)) }
}

func compare[T Object](f func(updated, old T) field.ErrorList) func(updated, old Object) field.ErrorList {
	return func(updated, old Object) field.ErrorList { return f(updated.(T), old.(T)) }
}

func fieldSet[T Object](f func(T) fields.Set) func(Object) fields.Set {
	return func(o Object) fields.Set { return f(o.(T)) }
}

func cells[T Object](f func(T, time.Time) []any) func(Object, time.Time) []any {
	return func(o Object, now time.Time) []any { return f(o.(T), now) }
}
