package api

import (
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// templateColumns are shown on request for what makes pods from a template.
func templateColumns(more ...metav1.TableColumnDefinition) []metav1.TableColumnDefinition {
	return wide(append([]metav1.TableColumnDefinition{
		column("Containers", "Names of each container in the template."),
		column("Images", "Images referenced by each container in the template."),
	}, more...)...)
}

func templateCells(t *corev1.PodTemplateSpec) (containers, images string) {
	var names, refs []string
	for i := range t.Spec.Containers {
		names = append(names, t.Spec.Containers[i].Name)
		refs = append(refs, t.Spec.Containers[i].Image)
	}
	return strings.Join(names, ","), strings.Join(refs, ",")
}

func deploymentColumns() []metav1.TableColumnDefinition {
	status := appsv1.DeploymentStatus{}.SwaggerDoc()
	return slices.Concat([]metav1.TableColumnDefinition{
		nameColumn(),
		column("Ready", "Number of the pod with ready state"),
		column("Up-to-date", status["updatedReplicas"]),
		column("Available", status["availableReplicas"]),
		ageColumn(),
	}, templateColumns(column("Selector", appsv1.DeploymentSpec{}.SwaggerDoc()["selector"])))
}

func deploymentCells(d *appsv1.Deployment, now time.Time) []any {
	containers, images := templateCells(&d.Spec.Template)
	chosen := "<invalid>"
	if s, err := metav1.LabelSelectorAsSelector(d.Spec.Selector); err == nil {
		chosen = s.String()
	}
	return []any{
		d.Name, fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, orZero(d.Spec.Replicas)), int64(d.Status.UpdatedReplicas), int64(d.Status.AvailableReplicas),
		since(d.CreationTimestamp, now), containers, images, chosen,
	}
}

func replicaSetColumns() []metav1.TableColumnDefinition {
	spec, status := appsv1.ReplicaSetSpec{}.SwaggerDoc(), appsv1.ReplicaSetStatus{}.SwaggerDoc()
	return slices.Concat([]metav1.TableColumnDefinition{
		nameColumn(),
		number("Desired", spec["replicas"]),
		number("Current", status["replicas"]),
		number("Ready", status["readyReplicas"]),
		ageColumn(),
	}, templateColumns(column("Selector", spec["selector"])))
}

func replicaSetCells(rs *appsv1.ReplicaSet, now time.Time) []any {
	containers, images := templateCells(&rs.Spec.Template)
	return []any{
		rs.Name, int64(orZero(rs.Spec.Replicas)), int64(rs.Status.Replicas), int64(rs.Status.ReadyReplicas), since(rs.CreationTimestamp, now),
		containers, images, metav1.FormatLabelSelector(rs.Spec.Selector),
	}
}

func daemonSetColumns() []metav1.TableColumnDefinition {
	status := appsv1.DaemonSetStatus{}.SwaggerDoc()
	return slices.Concat([]metav1.TableColumnDefinition{
		nameColumn(),
		number("Desired", status["desiredNumberScheduled"]),
		number("Current", status["currentNumberScheduled"]),
		number("Ready", status["numberReady"]),
		number("Up-to-date", status["updatedNumberScheduled"]),
		number("Available", status["numberAvailable"]),
		column("Node Selector", corev1.PodSpec{}.SwaggerDoc()["nodeSelector"]),
		ageColumn(),
	}, templateColumns(column("Selector", appsv1.DaemonSetSpec{}.SwaggerDoc()["selector"])))
}

func daemonSetCells(d *appsv1.DaemonSet, now time.Time) []any {
	containers, images := templateCells(&d.Spec.Template)
	s := &d.Status
	return []any{
		d.Name, int64(s.DesiredNumberScheduled), int64(s.CurrentNumberScheduled), int64(s.NumberReady), int64(s.UpdatedNumberScheduled), int64(s.NumberAvailable),
		labels.FormatLabels(d.Spec.Template.Spec.NodeSelector), since(d.CreationTimestamp, now), containers, images, metav1.FormatLabelSelector(d.Spec.Selector),
	}
}

func statefulSetColumns() []metav1.TableColumnDefinition {
	return slices.Concat([]metav1.TableColumnDefinition{nameColumn(), column("Ready", "Number of the pod with ready state"), ageColumn()}, templateColumns())
}

func statefulSetCells(s *appsv1.StatefulSet, now time.Time) []any {
	containers, images := templateCells(&s.Spec.Template)
	return []any{s.Name, fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, orZero(s.Spec.Replicas)), since(s.CreationTimestamp, now), containers, images}
}

func controllerRevisionColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		nameColumn(),
		column("Controller", "Controller of the object"),
		column("Revision", appsv1.ControllerRevision{}.SwaggerDoc()["revision"]),
		ageColumn(),
	}
}

func controllerRevisionCells(r *appsv1.ControllerRevision, now time.Time) []any {
	owner := none
	if ref := metav1.GetControllerOfNoCopy(r); ref != nil {
		gk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind).GroupKind()
		owner = strings.ToLower(gk.String()) + "/" + ref.Name
	}
	return []any{r.Name, owner, r.Revision, since(r.CreationTimestamp, now)}
}
