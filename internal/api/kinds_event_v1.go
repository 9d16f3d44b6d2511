package api

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// EventsV1 are Events under the names that group events.k8s.io gives their fields.
var EventsV1 = row[eventsv1.Event, eventsv1.EventList](eventsv1.SchemeGroupVersion, "Event", "events", "ev").with(eventV1Row)

func eventV1Row(k *Kind) {
	viewOf(k, Events, eventToCore, eventFromCore)
	k.Fields = func(o Object) fields.Set {
		set := fields.Set{}
		for name, v := range eventFields(eventToCore(o.(*eventsv1.Event))) {
			set[newNames.Replace(name)] = v
		}
		return set
	}
	k.Columns, k.Cells = eventColumns(), func(o Object, now time.Time) []any {
		return eventCells(eventToCore(o.(*eventsv1.Event)), now)
	}
}

// newNames renames the fields that a selector may name.
var newNames = strings.NewReplacer("involvedObject.", "regarding.", "reportingComponent", "reportingController")

func eventToCore(e *eventsv1.Event) *corev1.Event {
	out := &corev1.Event{
		ObjectMeta: e.ObjectMeta, InvolvedObject: e.Regarding, Reason: e.Reason, Message: e.Note, Source: e.DeprecatedSource,
		FirstTimestamp: e.DeprecatedFirstTimestamp, LastTimestamp: e.DeprecatedLastTimestamp, Count: e.DeprecatedCount, Type: e.Type,
		EventTime: e.EventTime, Action: e.Action, Related: e.Related, ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance,
	}
	if s := e.Series; s != nil {
		out.Series = &corev1.EventSeries{Count: s.Count, LastObservedTime: s.LastObservedTime}
	}
	return out
}

func eventFromCore(e *corev1.Event) *eventsv1.Event {
	out := &eventsv1.Event{
		ObjectMeta: e.ObjectMeta, Regarding: e.InvolvedObject, Reason: e.Reason, Note: e.Message, DeprecatedSource: e.Source,
		DeprecatedFirstTimestamp: e.FirstTimestamp, DeprecatedLastTimestamp: e.LastTimestamp, DeprecatedCount: e.Count, Type: e.Type,
		EventTime: e.EventTime, Action: e.Action, Related: e.Related, ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance,
	}
	if s := e.Series; s != nil {
		out.Series = &eventsv1.EventSeries{Count: s.Count, LastObservedTime: s.LastObservedTime}
	}
	return out
}
