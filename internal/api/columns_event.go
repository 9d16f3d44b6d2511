package api

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func eventColumns() []metav1.TableColumnDefinition {
	doc, source := corev1.Event{}.SwaggerDoc(), corev1.Event{}.SwaggerDoc()["source"]
	subobject, from := column("Subobject", corev1.ObjectReference{}.SwaggerDoc()["fieldPath"]), column("Source", source)
	first, count, name := column("First Seen", doc["firstTimestamp"]), column("Count", doc["count"]), nameColumn()
	subobject.Priority, from.Priority, first.Priority, count.Priority, name.Priority = 1, 1, 1, 1, 1
	return []metav1.TableColumnDefinition{
		column("Last Seen", doc["lastTimestamp"]),
		column("Type", doc["type"]),
		column("Reason", doc["reason"]),
		column("Object", doc["involvedObject"]),
		subobject, from,
		column("Message", strings.TrimSpace(doc["message"])),
		first, count, name,
	}
}

func eventCells(e *corev1.Event, now time.Time) []any {
	first := since(e.FirstTimestamp, now)
	if e.FirstTimestamp.IsZero() {
		first = since(metav1.Time(e.EventTime), now)
	}
	last := since(e.LastTimestamp, now)
	if e.LastTimestamp.IsZero() {
		last = first
	}
	count := e.Count
	switch {
	case e.Series != nil:
		last = since(metav1.Time(e.Series.LastObservedTime), now)
		count = e.Series.Count
	case count == 0:
		count = 1
	}
	object := strings.ToLower(e.InvolvedObject.Kind)
	if e.InvolvedObject.Name != "" {
		object += "/" + e.InvolvedObject.Name
	}
	return []any{
		last, e.Type, e.Reason, object, e.InvolvedObject.FieldPath, eventSource(e), strings.TrimSpace(e.Message),
		first, int64(count), e.Name,
	}
}

func eventSource(e *corev1.Event) string {
	component, instance := e.Source.Component, e.Source.Host
	if component == "" {
		component = e.ReportingController
	}
	if instance == "" {
		instance = e.ReportingInstance
	}
	if instance == "" {
		return component
	}
	return component + ", " + instance
}
