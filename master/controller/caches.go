package controller

import (
	"context"
	"log/slog"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"shoal/internal/api"
	"shoal/internal/client"
)

// Names of the caches' indexes.
const (
	byNode       = "node"       // pods: spec.nodeName
	byController = "controller" // pods, ReplicaSets: UID of the controlling owner; orphans are under orphansOf
	byOwner      = "owner"      // UIDs of all owners
	byService    = "service"    // slices: namespace/name of their Service
	byClaim      = "claim"      // pods: namespace/name of the claims they use
)

// Caches are the objects that the Master's controllers and scheduler share during one term.
type Caches struct {
	Namespaces      *client.Cache[*corev1.Namespace]
	ServiceAccounts *client.Cache[*corev1.ServiceAccount]
	RootCAs         *client.Cache[*corev1.ConfigMap] // those named api.RootCAName
	Nodes           *client.Cache[*corev1.Node]
	Pods            *client.Cache[*corev1.Pod]
	RCs             *client.Cache[*corev1.ReplicationController]
	ReplicaSets     *client.Cache[*appsv1.ReplicaSet]
	Deployments     *client.Cache[*appsv1.Deployment]
	DaemonSets      *client.Cache[*appsv1.DaemonSet]
	StatefulSets    *client.Cache[*appsv1.StatefulSet]
	Revisions       *client.Cache[*appsv1.ControllerRevision]
	Jobs            *client.Cache[*batchv1.Job]
	CronJobs        *client.Cache[*batchv1.CronJob]
	Budgets         *client.Cache[*policyv1.PodDisruptionBudget]
	Autoscalers     *client.Cache[*autoscalingv2.HorizontalPodAutoscaler]
	Services        *client.Cache[*corev1.Service]
	Claims          *client.Cache[*corev1.PersistentVolumeClaim]
	Volumes         *client.Cache[*corev1.PersistentVolume]
	Classes         *client.Cache[*storagev1.StorageClass]
	Drivers         *client.Cache[*storagev1.CSIDriver]
	Attachments     *client.Cache[*storagev1.VolumeAttachment]
	Endpoints       *client.Cache[*corev1.Endpoints]
	Slices          *client.Cache[*discoveryv1.EndpointSlice]
	ClusterRoles    *client.Cache[*rbacv1.ClusterRole]
	Definitions     *client.Cache[*apiextensionsv1.CustomResourceDefinition]

	Objects *Objects // all of these, and of every other kind
}

// NewCaches returns caches that are empty until Run. detector may be nil.
func NewCaches(c client.Interface, log *slog.Logger, detector *client.MutationDetector) *Caches {
	config := func(k *api.Kind, indexes map[string]func(api.Object) []string) client.CacheConfig {
		if indexes == nil {
			indexes = map[string]func(api.Object) []string{}
		}
		indexes[byOwner] = indexOwners
		return client.CacheConfig{
			// The term began after a barrier, so this peer's own store is the most recent one.
			Client: c, Kind: k, ListOptions: client.ListOptions{ResourceVersion: "0"},
			Indexes: indexes, Log: log, Detector: detector,
		}
	}
	rootCAs := config(api.ConfigMaps, nil)
	rootCAs.ListOptions.Fields = fields.OneTermEqualSelector("metadata.name", api.RootCAName)
	caches := &Caches{
		Namespaces:      client.NewCache[*corev1.Namespace](config(api.Namespaces, nil)),
		ServiceAccounts: client.NewCache[*corev1.ServiceAccount](config(api.ServiceAccounts, nil)),
		RootCAs:         client.NewCache[*corev1.ConfigMap](rootCAs),
		Nodes:           client.NewCache[*corev1.Node](config(api.Nodes, nil)),
		Pods: client.NewCache[*corev1.Pod](config(api.Pods, map[string]func(api.Object) []string{
			byNode: indexNode, byController: indexController, byClaim: indexClaims,
		})),
		RCs: client.NewCache[*corev1.ReplicationController](config(api.ReplicationControllers, nil)),
		ReplicaSets: client.NewCache[*appsv1.ReplicaSet](config(api.ReplicaSets, map[string]func(api.Object) []string{
			byController: indexController,
		})),
		Deployments: client.NewCache[*appsv1.Deployment](config(api.Deployments, nil)),
		DaemonSets:  client.NewCache[*appsv1.DaemonSet](config(api.DaemonSets, nil)),
		Revisions: client.NewCache[*appsv1.ControllerRevision](config(api.ControllerRevisions, map[string]func(api.Object) []string{
			byController: indexController,
		})),
		Jobs: client.NewCache[*batchv1.Job](config(api.Jobs, map[string]func(api.Object) []string{
			byController: indexController,
		})),
		StatefulSets: client.NewCache[*appsv1.StatefulSet](config(api.StatefulSets, nil)),
		CronJobs:     client.NewCache[*batchv1.CronJob](config(api.CronJobs, nil)),
		Budgets:      client.NewCache[*policyv1.PodDisruptionBudget](config(api.PodDisruptionBudgets, nil)),
		Autoscalers:  client.NewCache[*autoscalingv2.HorizontalPodAutoscaler](config(api.HorizontalPodAutoscalers, nil)),
		Services:     client.NewCache[*corev1.Service](config(api.Services, nil)),
		Claims:       client.NewCache[*corev1.PersistentVolumeClaim](config(api.PersistentVolumeClaims, nil)),
		Volumes:      client.NewCache[*corev1.PersistentVolume](config(api.PersistentVolumes, nil)),
		Classes:      client.NewCache[*storagev1.StorageClass](config(api.StorageClasses, nil)),
		Drivers:      client.NewCache[*storagev1.CSIDriver](config(api.CSIDrivers, nil)),
		Attachments:  client.NewCache[*storagev1.VolumeAttachment](config(api.VolumeAttachments, nil)),
		Endpoints:    client.NewCache[*corev1.Endpoints](config(api.Endpoints, nil)),
		Slices: client.NewCache[*discoveryv1.EndpointSlice](config(api.EndpointSlices, map[string]func(api.Object) []string{
			byService: indexService,
		})),
		ClusterRoles: client.NewCache[*rbacv1.ClusterRole](config(api.ClusterRoles, nil)),
		Definitions:  client.NewCache[*apiextensionsv1.CustomResourceDefinition](config(api.CustomResourceDefinitions, nil)),
	}
	caches.Objects = newObjects(caches, func(k *api.Kind) client.CacheConfig { return config(k, nil) })
	return caches
}

// Run keeps all caches up to date until ctx ends.
func (c *Caches) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, run := range []func(context.Context) error{
		c.Namespaces.Run, c.ServiceAccounts.Run, c.RootCAs.Run, c.Nodes.Run, c.Pods.Run, c.RCs.Run, c.ReplicaSets.Run,
		c.Deployments.Run, c.DaemonSets.Run, c.StatefulSets.Run, c.Revisions.Run, c.Jobs.Run, c.CronJobs.Run, c.Budgets.Run, c.Autoscalers.Run, c.Services.Run,
		c.Claims.Run, c.Volumes.Run, c.Classes.Run, c.Drivers.Run, c.Attachments.Run, c.Endpoints.Run, c.Slices.Run, c.ClusterRoles.Run, c.Definitions.Run,
	} {
		g.Go(func() error { return run(ctx) })
	}
	g.Go(func() error { return c.Objects.run(ctx, c.Definitions) })
	return g.Wait()
}

// UsersOf returns the pods that use a claim.
func (c *Caches) UsersOf(claim client.Key) []*corev1.Pod {
	return c.Pods.ByIndex(byClaim, claim.Namespace+"/"+claim.Name)
}

// WaitSynced blocks until every cache has its first list.
func (c *Caches) WaitSynced(ctx context.Context) error {
	if err := client.WaitSynced(ctx, c.RootCAs); err != nil {
		return err
	}
	return c.Objects.WaitSynced(ctx)
}

func indexNode(o api.Object) []string {
	if p, ok := o.(*corev1.Pod); ok && p.Spec.NodeName != "" {
		return []string{p.Spec.NodeName}
	}
	return nil
}

func indexController(o api.Object) []string {
	if ref := metav1.GetControllerOf(o); ref != nil {
		return []string{string(ref.UID)}
	}
	return []string{orphansOf(o.GetNamespace())}
}

// orphansOf is the index value of what nobody controls in a namespace. UIDs have no slash.
func orphansOf(namespace string) string { return "/" + namespace }

func indexOwners(o api.Object) []string {
	var uids []string
	for _, ref := range o.GetOwnerReferences() {
		uids = append(uids, string(ref.UID))
	}
	return uids
}

func indexClaims(o api.Object) []string {
	p, ok := o.(*corev1.Pod)
	if !ok {
		return nil
	}
	var keys []string
	for _, name := range api.ClaimsOf(p) {
		keys = append(keys, p.Namespace+"/"+name)
	}
	return keys
}

func indexService(o api.Object) []string {
	if name := o.GetLabels()[discoveryv1.LabelServiceName]; name != "" {
		return []string{o.GetNamespace() + "/" + name}
	}
	return nil
}
