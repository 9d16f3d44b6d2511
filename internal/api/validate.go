package api

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func notNegative(n int64, at *field.Path) field.ErrorList {
	if n < 0 {
		return field.ErrorList{field.Invalid(at, n, "must be greater than or equal to 0")}
	}
	return nil
}
func validateNamespace(*corev1.Namespace) field.ErrorList                         { return nil }
func validateNamespaceUpdate(_, _ *corev1.Namespace) field.ErrorList              { return nil }
func validatePod(*corev1.Pod) field.ErrorList                                     { return nil }
func validatePodUpdate(_, _ *corev1.Pod) field.ErrorList                          { return nil }
func validateNode(*corev1.Node) field.ErrorList                                   { return nil }
func validateNodeUpdate(_, _ *corev1.Node) field.ErrorList                        { return nil }
func validateService(*corev1.Service) field.ErrorList                             { return nil }
func validateServiceUpdate(_, _ *corev1.Service) field.ErrorList                  { return nil }
func validateReplicationController(*corev1.ReplicationController) field.ErrorList { return nil }
func validateReplicationControllerUpdate(_, _ *corev1.ReplicationController) field.ErrorList {
	return nil
}
func validateEndpoints(*corev1.Endpoints) field.ErrorList            { return nil }
func validateEndpointsUpdate(_, _ *corev1.Endpoints) field.ErrorList { return nil }
func validateEvent(*corev1.Event) field.ErrorList                    { return nil }
func validateConfigMap(*corev1.ConfigMap) field.ErrorList            { return nil }
func validateConfigMapUpdate(_, _ *corev1.ConfigMap) field.ErrorList { return nil }
func validateSecret(*corev1.Secret) field.ErrorList                  { return nil }
func validateSecretUpdate(_, _ *corev1.Secret) field.ErrorList       { return nil }
func validateNamespaceStatus(_, _ *corev1.Namespace) field.ErrorList { return nil }
func validatePodStatus(_, _ *corev1.Pod) field.ErrorList             { return nil }
func validateNodeStatus(_, _ *corev1.Node) field.ErrorList           { return nil }
func validateServiceStatus(_, _ *corev1.Service) field.ErrorList     { return nil }
func validateReplicationControllerStatus(_, _ *corev1.ReplicationController) field.ErrorList {
	return nil
}
func validateEndpointSlice(*discoveryv1.EndpointSlice) field.ErrorList            { return nil }
func validateEndpointSliceUpdate(_, _ *discoveryv1.EndpointSlice) field.ErrorList { return nil }
