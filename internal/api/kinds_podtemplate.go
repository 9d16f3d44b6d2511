package api

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// PodTemplates is the row of templates that stand alone. Controllers keep their own inside them.
var PodTemplates = row[corev1.PodTemplate, corev1.PodTemplateList](corev1.SchemeGroupVersion, "PodTemplate", "podtemplates").with(podTemplateRow)

func podTemplateRow(k *Kind) {
	k.Default = on(func(t *corev1.PodTemplate) { defaultPodSpec(&t.Template.Spec) })
	k.Validate = check(validateStandaloneTemplate)
	k.ValidateUpdate = compare(func(updated, _ *corev1.PodTemplate) field.ErrorList { return validateStandaloneTemplate(updated) })
	k.Columns, k.Cells = podTemplateColumns(), cells(podTemplateCells)
	k.Generation = true
}

func validateStandaloneTemplate(t *corev1.PodTemplate) field.ErrorList {
	return validatePodTemplate(&t.Template, field.NewPath("template"))
}

func podTemplateColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		nameColumn(),
		column("Containers", "Names of each container in the template."),
		column("Images", "Images referenced by each container in the template."),
		column("Pod Labels", "The labels for the pod template."),
	}
}

func podTemplateCells(t *corev1.PodTemplate, _ time.Time) []any {
	var names, images []string
	for i := range t.Template.Spec.Containers {
		names = append(names, t.Template.Spec.Containers[i].Name)
		images = append(images, t.Template.Spec.Containers[i].Image)
	}
	return []any{t.Name, strings.Join(names, ","), strings.Join(images, ","), labels.FormatLabels(t.Template.Labels)}
}
