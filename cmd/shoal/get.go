package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

const tableType = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"

type getCmd struct {
	selection
	Output    string `short:"o" help:"wide, yaml, json, name or jsonpath=EXPRESSION."`
	Watch     bool   `short:"w" help:"Go on with changes."`
	AsOf      uint64 `placeholder:"REVISION" help:"As it was at a revision that is still kept: shoal history, shoal status."`
	NoHeaders bool   `help:"Leave the header line out."`
	Labels    bool   `name:"show-labels" help:"Add a column with the labels."`
}

// selection says which objects a verb is about.
type selection struct {
	Args          []string `arg:"" name:"what" optional:"" help:"KIND, KIND NAME… or KIND/NAME…"`
	Selector      string   `short:"l" help:"Label selector."`
	FieldSelector string   `help:"Field selector."`
	All           bool     `short:"A" name:"all-namespaces" help:"All namespaces."`
}

// object is one existing object.
type object struct {
	target
	namespace string
	uid       types.UID // which one of that name, if it matters
}

// objects finds everything that was selected: what was named, unseen, and what the cluster lists of kinds without names.
func (s selection) objects(ctx context.Context, g *Globals, conn *conn, std streams) ([]object, error) {
	targets, err := parseTargets(s.Args)
	if err != nil {
		return nil, err
	}
	var all []object
	for _, t := range targets {
		if t.name != "" {
			all = append(all, object{target: t, namespace: g.Namespace})
			continue
		}
		var list metav1.PartialObjectMetadataList
		r := request{method: "GET", path: path(t.kind, s.namespace(g), ""), query: s.query()}
		if err := conn.json(ctx, r, &list); err != nil {
			return nil, err
		}
		for _, item := range list.Items {
			all = append(all, object{target: target{t.kind, item.Name}, namespace: item.Namespace})
		}
		if len(list.Items) == 0 {
			fmt.Fprintln(std.err, "No resources found.")
		}
	}
	return all, nil
}

// Validate is called when the command line has been read.
func (s selection) Validate() error {
	if _, err := labels.Parse(s.Selector); err != nil {
		return fmt.Errorf("-l %q is no label selector (%w): for example app=web,tier!=db", s.Selector, err)
	}
	if _, err := fields.ParseSelector(s.FieldSelector); err != nil {
		return fmt.Errorf("--field-selector %q is no field selector (%w): for example spec.nodeName=one", s.FieldSelector, err)
	}
	return nil
}

func (s selection) query() url.Values {
	q := url.Values{}
	if s.Selector != "" {
		q.Set("labelSelector", s.Selector)
	}
	if s.FieldSelector != "" {
		q.Set("fieldSelector", s.FieldSelector)
	}
	return q
}

func (s selection) namespace(g *Globals) string {
	if s.All {
		return ""
	}
	return g.Namespace
}

func (c getCmd) Run(ctx context.Context, g *Globals, std streams) error {
	targets, err := parseTargets(c.Args)
	if err != nil {
		return err
	}
	out, err := newPrinter(std.out, c.Output)
	if err != nil {
		return err
	}
	out.noHeaders, out.showLabels, out.showNamespace = c.NoHeaders, c.Labels, c.All
	out.severalKinds = severalKinds(targets)
	if c.Watch && len(targets) > 1 {
		return usagef("-w follows one kind or one object at a time")
	}
	if c.Watch && c.AsOf != 0 {
		return usagef("-w goes on with what comes, --as-of shows what was: give one of them")
	}
	if c.All && targets[0].name != "" {
		return usagef("an object is asked for by name in one namespace: leave -A out")
	}
	conn, err := g.connect()
	if err != nil {
		return err
	}
	if out.wantsObjects() && !c.Watch {
		return c.objects(ctx, g, conn, targets, out)
	}
	if err := c.tables(ctx, g, conn, targets, out); err != nil {
		return err
	}
	if !out.printed {
		where := " in namespace " + g.Namespace
		if c.All || !targets[0].kind.Namespaced {
			where = ""
		}
		fmt.Fprintf(std.err, "No resources found%s.\n", where)
	}
	return nil
}

// request asks for one target. Only lists can be had as of a revision: one object is then a list of one.
func (c getCmd) request(g *Globals, t target) request {
	q, name := c.query(), t.name
	if c.AsOf != 0 {
		q.Set("resourceVersion", fmt.Sprint(c.AsOf))
		q.Set("resourceVersionMatch", "Exact")
		if name != "" {
			q.Set("fieldSelector", byName(q, name))
			name = ""
		}
	}
	return request{method: "GET", path: path(t.kind, c.namespace(g), name), query: q}
}

// byName adds a name to a query's field selector.
func byName(q url.Values, name string) string {
	return strings.TrimPrefix(q.Get("fieldSelector")+",metadata.name="+name, ",")
}

// tooOld says what else there is when a revision is not kept any more.
func (c getCmd) tooOld(err error) error {
	if c.AsOf != 0 && apierrors.IsResourceExpired(err) {
		return fmt.Errorf("revision %d is not kept any more: shoal history KIND NAME says what is; older states are in backups", c.AsOf)
	}
	return err
}

func (c getCmd) notThen(t target) error {
	return fmt.Errorf("there was no %s at revision %d", shown(t.kind, t.name), c.AsOf)
}

func severalKinds(targets []target) bool {
	for _, t := range targets {
		if t.kind != targets[0].kind {
			return true
		}
	}
	return false
}

// tables prints the server's tables, one for objects of a kind that come one after the other, and then, of a single target, its changes.
func (c getCmd) tables(ctx context.Context, g *Globals, conn *conn, targets []target, out *printer) error {
	var errs []error
	var table metav1.Table
	for i, t := range targets {
		one, err := c.table(ctx, g, conn, t)
		if err != nil {
			errs = append(errs, err)
		} else {
			one.Rows = append(table.Rows, one.Rows...)
			table = one
		}
		if i+1 < len(targets) && targets[i+1].kind == t.kind {
			continue
		}
		errs = append(errs, out.table(t.kind, &table))
		table.Rows = nil
	}
	if err := errors.Join(errs...); err != nil || !c.Watch {
		return err
	}
	return c.follow(ctx, g, conn, targets[0], table.ResourceVersion, out)
}

// table asks for one target.
func (c getCmd) table(ctx context.Context, g *Globals, conn *conn, t target) (table metav1.Table, err error) {
	r := c.request(g, t)
	r.accept = tableType
	if err := conn.json(ctx, r, &table); err != nil {
		return table, c.tooOld(err)
	}
	if len(table.Rows) == 0 && c.AsOf != 0 && t.name != "" {
		return table, c.notThen(t)
	}
	return table, nil
}

// follow prints changes until the user ends it. The server ends long watches now and then: it goes on where it was.
func (c getCmd) follow(ctx context.Context, g *Globals, conn *conn, t target, rv string, out *printer) error {
	for ctx.Err() == nil {
		q := c.query()
		q.Set("watch", "true")
		q.Set("allowWatchBookmarks", "true")
		q.Set("resourceVersion", rv)
		if t.name != "" {
			q.Set("fieldSelector", byName(q, t.name))
		}
		resp, err := conn.do(ctx, request{method: "GET", path: path(t.kind, c.namespace(g), ""), query: q, accept: tableType})
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		body := &breakable{Reader: resp.Body}
		rv, err = out.changes(t.kind, json.NewDecoder(body), rv)
		_ = resp.Body.Close()
		if err != nil && !body.broke && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// breakable knows whether reading has ended, well or not: another peer may have the rest.
type breakable struct {
	io.Reader
	broke bool
}

func (b *breakable) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.broke = b.broke || err != nil
	return n, err
}

// objects prints whole objects: one as itself, several as a list.
func (c getCmd) objects(ctx context.Context, g *Globals, conn *conn, targets []target, out *printer) error {
	var items []unstructured.Unstructured
	single := len(targets) == 1 && targets[0].name != ""
	for _, t := range targets {
		r := c.request(g, t)
		if t.name != "" && c.AsOf == 0 {
			var o unstructured.Unstructured
			if err := conn.json(ctx, r, &o.Object); err != nil {
				return err
			}
			items = append(items, o)
			continue
		}
		var list unstructured.UnstructuredList
		resp, err := conn.do(ctx, r)
		if err != nil {
			return c.tooOld(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return err
		}
		if err := list.UnmarshalJSON(b); err != nil {
			return err
		}
		if len(list.Items) == 0 && t.name != "" {
			return c.notThen(t)
		}
		for _, item := range list.Items {
			item.SetGroupVersionKind(t.kind.GroupVersionKind)
			items = append(items, item)
		}
	}
	return out.objects(items, single)
}
