package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"text/tabwriter"

	"shoal/internal/api"
)

type whoCanCmd struct {
	Verb   string `arg:"" help:"get, list, watch, create, update, patch, delete or another verb."`
	What   string `arg:"" help:"KIND, KIND/NAME, or a path that begins with /."`
	Sub    string `name:"subresource" placeholder:"NAME" help:"A subresource of it: log, exec, scale and so on."`
	Output string `short:"o" enum:"table,json" default:"table" help:"table or json."`
}

// Run lists who may do something in the namespace at hand.
func (c whoCanCmd) Run(ctx context.Context, g *Globals, std streams) error {
	q := url.Values{"verb": {c.Verb}}
	if strings.HasPrefix(c.What, "/") {
		q.Set("path", c.What)
	} else {
		kind, name, _ := strings.Cut(c.What, "/")
		k, err := findKind(kind)
		if err != nil {
			return err
		}
		q.Set("group", k.Group)
		q.Set("resource", k.Resource)
		q.Set("subresource", c.Sub)
		q.Set("name", name)
		if k.Namespaced {
			q.Set("namespace", g.Namespace)
		}
	}
	conn, err := g.connect()
	if err != nil {
		return err
	}
	var all []api.Holder
	if err := conn.json(ctx, request{method: "GET", path: "/shoal/v1/who-can", query: q}, &all); err != nil {
		return err
	}
	if c.Output == "json" {
		return json.NewEncoder(std.out).Encode(all)
	}
	w := tabwriter.NewWriter(std.out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "KIND\tNAMESPACE\tNAME\tBY")
	for _, h := range all {
		by := h.Binding
		if by == "" {
			by = "every cluster"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", h.Kind, orDash(h.Namespace), h.Name, by)
	}
	return w.Flush()
}
