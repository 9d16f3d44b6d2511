package api

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/duration"
)

const none = "<none>"

// column describes a column of strings; its description is a sentence or that of an API field.
func column(name, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "string", Description: description}
}

func number(name, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "integer", Description: description}
}

// wide makes columns shown only on request.
func wide(columns ...metav1.TableColumnDefinition) []metav1.TableColumnDefinition {
	for i := range columns {
		columns[i].Priority = 1
	}
	return columns
}

func nameColumn() metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"]}
}

func ageColumn() metav1.TableColumnDefinition {
	return column("Age", metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"])
}

// since is an age as kubectl prints it.
func since(t metav1.Time, now time.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(t.Time))
}

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}

func selectorText(selector map[string]string) string {
	return orNone(labels.FormatLabels(selector))
}

func namespaceColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{nameColumn(), column("Status", "The status of the namespace"), ageColumn()}
}

func namespaceCells(n *corev1.Namespace, now time.Time) []any {
	return []any{n.Name, string(n.Status.Phase), since(n.CreationTimestamp, now)}
}

func replicationControllerColumns() []metav1.TableColumnDefinition {
	spec, status := corev1.ReplicationControllerSpec{}.SwaggerDoc(), corev1.ReplicationControllerStatus{}.SwaggerDoc()
	return append([]metav1.TableColumnDefinition{
		nameColumn(),
		number("Desired", spec["replicas"]),
		number("Current", status["replicas"]),
		number("Ready", status["readyReplicas"]),
		ageColumn(),
	}, templateColumns(column("Selector", spec["selector"]))...)
}

func replicationControllerCells(rc *corev1.ReplicationController, now time.Time) []any {
	template := orZero(rc.Spec.Template)
	containers, images := templateCells(&template)
	return []any{
		rc.Name, int64(orZero(rc.Spec.Replicas)), int64(rc.Status.Replicas), int64(rc.Status.ReadyReplicas), since(rc.CreationTimestamp, now),
		containers, images, labels.FormatLabels(rc.Spec.Selector),
	}
}

func endpointsColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{nameColumn(), column("Endpoints", corev1.Endpoints{}.SwaggerDoc()["subsets"]), ageColumn()}
}

func endpointsCells(e *corev1.Endpoints, now time.Time) []any {
	const most = 3
	var shown []string
	count, more := 0, false
	for _, subset := range e.Subsets {
		if len(subset.Ports) == 0 {
			for _, a := range subset.Addresses {
				if len(shown) == most {
					more = true
				} else {
					shown = append(shown, a.IP)
				}
				count++
			}
			continue
		}
		for _, p := range subset.Ports {
			for _, a := range subset.Addresses {
				if len(shown) == most {
					more = true
				} else {
					shown = append(shown, joinHostPort(a.IP, p.Port))
				}
				count++
			}
		}
	}
	text := orNone(strings.Join(shown, ","))
	if more {
		text = fmt.Sprintf("%s + %d more...", text, count-most)
	}
	return []any{e.Name, text, since(e.CreationTimestamp, now)}
}

func endpointSliceColumns() []metav1.TableColumnDefinition {
	doc := discoveryv1.EndpointSlice{}.SwaggerDoc()
	return []metav1.TableColumnDefinition{
		nameColumn(),
		column("AddressType", doc["addressType"]),
		column("Ports", doc["ports"]),
		column("Endpoints", doc["endpoints"]),
		ageColumn(),
	}
}

func endpointSliceCells(s *discoveryv1.EndpointSlice, now time.Time) []any {
	var ports, addresses []string
	for _, p := range s.Ports {
		switch {
		case p.Port != nil:
			ports = append(ports, fmt.Sprint(*p.Port))
		default:
			ports = append(ports, "*")
		}
	}
	for _, e := range s.Endpoints {
		addresses = append(addresses, e.Addresses...)
	}
	return []any{s.Name, string(s.AddressType), firstThree(ports, "<unset>"), firstThree(addresses, "<unset>"), since(s.CreationTimestamp, now)}
}

func firstThree(list []string, empty string) string {
	switch {
	case len(list) == 0:
		return empty
	case len(list) > 3:
		return fmt.Sprintf("%s + %d more...", strings.Join(list[:3], ","), len(list)-3)
	}
	return strings.Join(list, ",")
}

func configMapColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{nameColumn(), column("Data", corev1.ConfigMap{}.SwaggerDoc()["data"]), ageColumn()}
}

func configMapCells(c *corev1.ConfigMap, now time.Time) []any {
	return []any{c.Name, int64(len(c.Data) + len(c.BinaryData)), since(c.CreationTimestamp, now)}
}

func secretColumns() []metav1.TableColumnDefinition {
	doc := corev1.Secret{}.SwaggerDoc()
	return []metav1.TableColumnDefinition{nameColumn(), column("Type", doc["type"]), column("Data", doc["data"]), ageColumn()}
}

func secretCells(s *corev1.Secret, now time.Time) []any {
	return []any{s.Name, string(s.Type), int64(len(s.Data)), since(s.CreationTimestamp, now)}
}

func serviceAccountColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{nameColumn(), column("Secrets", corev1.ServiceAccount{}.SwaggerDoc()["secrets"]), ageColumn()}
}

func serviceAccountCells(s *corev1.ServiceAccount, now time.Time) []any {
	return []any{s.Name, int64(len(s.Secrets)), since(s.CreationTimestamp, now)}
}
