package main

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/yaml"

	"shoal/internal/api"
)

type describeCmd struct{ selection }

func (c describeCmd) Run(ctx context.Context, g *Globals, std streams) error {
	conn, err := g.connect()
	if err != nil {
		return err
	}
	all, err := c.objects(ctx, g, conn, std)
	if err != nil {
		return err
	}
	for i, o := range all {
		if i > 0 {
			fmt.Fprintln(std.out)
		}
		if err := conn.describe(ctx, o, std); err != nil {
			return err
		}
	}
	return nil
}

// describe prints an object without the parts that only machines read, and its events.
func (c *conn) describe(ctx context.Context, o object, std streams) error {
	var u unstructured.Unstructured
	if err := c.json(ctx, request{method: "GET", path: path(o.kind, o.namespace, o.name)}, &u.Object); err != nil {
		return err
	}
	uid := string(u.GetUID())
	u.SetManagedFields(nil)
	b, err := yaml.Marshal(u.Object)
	if err != nil {
		return err
	}
	if _, err := std.out.Write(b); err != nil {
		return err
	}
	q := url.Values{"fieldSelector": {"involvedObject.uid=" + uid}}
	if o.kind == api.Nodes {
		q.Set("fieldSelector", "involvedObject.kind=Node,involvedObject.name="+o.name)
	}
	events, err := c.events(ctx, u.GetNamespace(), q)
	if err != nil {
		return err
	}
	if len(events) == 0 {
		_, err = fmt.Fprintln(std.out, "events: none")
		return err
	}
	fmt.Fprintln(std.out, "events:")
	return printEvents(std, events, false)
}

type eventsCmd struct{ selection }

func (c eventsCmd) Run(ctx context.Context, g *Globals, std streams) error {
	conn, err := g.connect()
	if err != nil {
		return err
	}
	events, err := conn.events(ctx, c.namespace(g), c.query())
	if err != nil {
		return err
	}
	if len(events) == 0 {
		fmt.Fprintln(std.err, "No events found.")
		return nil
	}
	return printEvents(std, events, true)
}

func (c *conn) events(ctx context.Context, namespace string, q url.Values) ([]corev1.Event, error) {
	var list corev1.EventList
	if err := c.json(ctx, request{method: "GET", path: path(api.Events, namespace, ""), query: q}, &list); err != nil {
		return nil, err
	}
	slices.SortStableFunc(list.Items, func(a, b corev1.Event) int { return cmp.Compare(lastSeen(a).UnixNano(), lastSeen(b).UnixNano()) })
	return list.Items, nil
}

func lastSeen(e corev1.Event) time.Time {
	for _, t := range []time.Time{e.LastTimestamp.Time, e.EventTime.Time} {
		if !t.IsZero() {
			return t
		}
	}
	return e.CreationTimestamp.Time
}

func printEvents(std streams, events []corev1.Event, object bool) error {
	w := tabwriter.NewWriter(std.out, 0, 8, 3, ' ', 0)
	head := "LAST SEEN\tTYPE\tREASON"
	if object {
		head += "\tOBJECT"
	}
	fmt.Fprintln(w, head+"\tMESSAGE")
	for _, e := range events {
		age := duration.HumanDuration(time.Since(lastSeen(e)))
		if e.Count > 1 {
			age = fmt.Sprintf("%s (x%d)", age, e.Count)
		}
		fmt.Fprintf(w, "%s\t%s\t%s", age, e.Type, e.Reason)
		if object {
			fmt.Fprintf(w, "\t%s/%s", e.InvolvedObject.Kind, e.InvolvedObject.Name)
		}
		fmt.Fprintf(w, "\t%s\n", e.Message)
	}
	return w.Flush()
}
