// Package quota counts what the objects of a namespace take from its ResourceQuotas. It holds a ledger in memory, for the length of one term, of
// what there is and of what is being written; since only the Master writes, nothing else can be. What can be limited, and how it is counted, are
// Kubernetes' rules.
package quota

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"shoal/internal/api"
)

// Usage returns what an object takes while it exists, under every name that a quota may have for it. The result is the caller's.
func Usage(k *api.Kind, o api.Object) corev1.ResourceList {
	one := *resource.NewQuantity(1, resource.DecimalSI)
	u := corev1.ResourceList{corev1.ResourceName("count/" + k.GVR().GroupResource().String()): one}
	switch o := o.(type) {
	case *corev1.ConfigMap:
		u[corev1.ResourceConfigMaps] = one
	case *corev1.Secret:
		u[corev1.ResourceSecrets] = one
	case *corev1.ReplicationController:
		u[corev1.ResourceReplicationControllers] = one
	case *corev1.ResourceQuota:
		u[corev1.ResourceQuotas] = one
	case *corev1.Service:
		ofService(u, o)
	case *corev1.PersistentVolumeClaim:
		ofClaim(u, o)
	case *corev1.Pod:
		if !api.IsPodTerminal(o) {
			u[corev1.ResourcePods] = one
			ofPod(u, o)
		}
	}
	return u
}

// ofPod adds what the containers of a pod ask for.
func ofPod(u corev1.ResourceList, p *corev1.Pod) {
	for name, q := range api.PodRequests(p) {
		switch {
		case name == corev1.ResourceCPU, name == corev1.ResourceMemory, name == corev1.ResourceEphemeralStorage,
			strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix):
			u[name] = q
		case !strings.Contains(string(name), "/"):
			continue
		}
		u[corev1.DefaultResourceRequestsPrefix+name] = q
	}
	for name, q := range api.PodLimits(p) {
		switch name {
		case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
			u["limits."+name] = q
		}
	}
}

func ofService(u corev1.ResourceList, s *corev1.Service) {
	ports := int64(0)
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		ports = int64(len(s.Spec.Ports))
	case corev1.ServiceTypeLoadBalancer:
		u[corev1.ResourceServicesLoadBalancers] = *resource.NewQuantity(1, resource.DecimalSI)
		for _, p := range s.Spec.Ports {
			if s.Spec.AllocateLoadBalancerNodePorts == nil || *s.Spec.AllocateLoadBalancerNodePorts || p.NodePort != 0 {
				ports++
			}
		}
	}
	u[corev1.ResourceServices] = *resource.NewQuantity(1, resource.DecimalSI)
	u[corev1.ResourceServicesNodePorts] = *resource.NewQuantity(ports, resource.DecimalSI)
}

// ofClaim adds what a claim asks for, once more under the name of its class.
func ofClaim(u corev1.ResourceList, c *corev1.PersistentVolumeClaim) {
	one := *resource.NewQuantity(1, resource.DecimalSI)
	u[corev1.ResourcePersistentVolumeClaims] = one
	class := c.Annotations[corev1.BetaStorageClassAnnotation]
	if class == "" && c.Spec.StorageClassName != nil {
		class = *c.Spec.StorageClassName
	}
	suffix := corev1.ResourceName(".storageclass.storage.k8s.io/")
	if class != "" {
		u[corev1.ResourceName(class)+suffix+corev1.ResourcePersistentVolumeClaims] = one
	}
	if q, ok := c.Spec.Resources.Requests[corev1.ResourceStorage]; ok {
		u[corev1.ResourceRequestsStorage] = q.DeepCopy()
		if class != "" {
			u[corev1.ResourceName(class)+suffix+corev1.ResourceRequestsStorage] = q.DeepCopy()
		}
	}
}

// mustBeGiven are the amounts that each container has to give when a quota limits them.
var mustBeGiven = []corev1.ResourceName{
	corev1.ResourceCPU, corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory,
}

// missing returns what a pod does not say that hard limits, and which of its containers do not; empty when nothing is missing.
func missing(hard corev1.ResourceList, p *corev1.Pod) string {
	var all []string
	for _, name := range mustBeGiven {
		if _, limited := hard[name]; !limited {
			continue
		}
		var containers []string
		for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
			for i := range list {
				if !gives(&list[i].Resources, name) && (p.Spec.Resources == nil || !gives(p.Spec.Resources, name)) {
					containers = append(containers, list[i].Name)
				}
			}
		}
		if len(containers) > 0 {
			all = append(all, string(name)+" for: "+strings.Join(containers, ","))
		}
	}
	return strings.Join(all, "; ")
}

// gives reports whether r has the amount that a quota knows by a name.
func gives(r *corev1.ResourceRequirements, name corev1.ResourceName) bool {
	of := r.Requests
	plain, isLimit := strings.CutPrefix(string(name), "limits.")
	if isLimit {
		of = r.Limits
	}
	_, ok := of[corev1.ResourceName(strings.TrimPrefix(plain, corev1.DefaultResourceRequestsPrefix))]
	return ok
}
