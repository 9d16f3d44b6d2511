package api

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func serviceColumns() []metav1.TableColumnDefinition {
	doc := corev1.ServiceSpec{}.SwaggerDoc()
	return append([]metav1.TableColumnDefinition{
		nameColumn(),
		column("Type", doc["type"]),
		column("Cluster-IP", doc["clusterIP"]),
		column("External-IP", doc["externalIPs"]),
		column("Port(s)", doc["ports"]),
		ageColumn(),
	}, wide(column("Selector", doc["selector"]))...)
}

func serviceCells(s *corev1.Service, now time.Time) []any {
	ip := ""
	if len(s.Spec.ClusterIPs) > 0 {
		ip = s.Spec.ClusterIPs[0]
	}
	var ports []string
	for _, p := range s.Spec.Ports {
		if p.NodePort > 0 {
			ports = append(ports, fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol))
		} else {
			ports = append(ports, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
		}
	}
	return []any{
		s.Name, string(s.Spec.Type), orNone(ip), externalIPs(s), orNone(strings.Join(ports, ",")), since(s.CreationTimestamp, now),
		selectorText(s.Spec.Selector),
	}
}

func externalIPs(s *corev1.Service) string {
	switch s.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort:
		return orNone(strings.Join(s.Spec.ExternalIPs, ","))
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		var points []string
		for _, i := range s.Status.LoadBalancer.Ingress {
			switch {
			case i.IP != "":
				points = append(points, i.IP)
			case i.Hostname != "":
				points = append(points, i.Hostname)
			}
		}
		slices.Sort(points)
		points = append(slices.Compact(points), s.Spec.ExternalIPs...)
		if len(points) == 0 {
			return "<pending>"
		}
		return strings.Join(points, ",")
	}
	return "<unknown>"
}

func joinHostPort(ip string, port int32) string {
	return net.JoinHostPort(ip, strconv.Itoa(int(port)))
}
