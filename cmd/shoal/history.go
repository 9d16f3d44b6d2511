package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"

	"shoal/internal/api"
)

type historyCmd struct {
	Kind   string `arg:"" help:"KIND, or KIND/NAME."`
	Name   string `arg:"" optional:"" help:"NAME"`
	Output string `short:"o" enum:"table,json" default:"table" help:"table or json."`
}

// Run shows what changed in an object, as far back as revisions are kept.
func (c historyCmd) Run(ctx context.Context, g *Globals, std streams) error {
	args := []string{c.Kind}
	if c.Name != "" {
		args = append(args, c.Name)
	}
	targets, err := parseTargets(args)
	if err != nil {
		return err
	}
	t := targets[0]
	if len(targets) > 1 || t.name == "" {
		return usagef("history is about one object: shoal history KIND NAME")
	}
	conn, err := g.connect()
	if err != nil {
		return err
	}
	q := url.Values{"group": {t.kind.Group}, "version": {t.kind.Version}, "resource": {t.kind.Resource}, "name": {t.name}}
	if t.kind.Namespaced {
		q.Set("namespace", g.Namespace)
	}
	var h api.History
	if err := conn.json(ctx, request{method: "GET", path: "/shoal/v1/history", query: q}, &h); err != nil {
		return err
	}
	if c.Output == "json" {
		return json.NewEncoder(std.out).Encode(h)
	}
	return tellHistory(std.out, h, t.kind == api.Secrets)
}

// tellHistory writes a line a change, the newest first; for secrets without the values.
func tellHistory(out io.Writer, h api.History, secret bool) error {
	w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "REVISION\tCHANGE")
	for i, r := range h.Revisions {
		change := ""
		switch {
		case r.Deleted:
			change = "deleted"
		case r.Created:
			change = "created"
		case i+1 == len(h.Revisions):
			change = fmt.Sprintf("(before revision %d, back to which everything is kept)", h.Oldest)
		default:
			lines, err := changes(h.Revisions[i+1].Object, r.Object, secret)
			if err != nil {
				return err
			}
			change = strings.Join(lines, "; ")
		}
		fmt.Fprintf(w, "%d\t%s\n", r.Revision, change)
	}
	return w.Flush()
}

// maxChanges is how many fields a line names.
const maxChanges = 6

// changes says which fields differ, and how; of a secret's data only which.
func changes(before, after json.RawMessage, secret bool) ([]string, error) {
	var a, b any
	if err := json.Unmarshal(before, &a); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(after, &b); err != nil {
		return nil, err
	}
	was, is := map[string]any{}, map[string]any{}
	flatten(was, "", a)
	flatten(is, "", b)
	var lines []string
	all := maps.Clone(was)
	maps.Copy(all, is)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		old, had := was[path]
		now, has := is[path]
		switch {
		case bookkeeping(path) || reflect.DeepEqual(old, now) && had == has:
		case secret && strings.HasPrefix(path, "data."):
			lines = append(lines, path+" changed")
		case !had:
			lines = append(lines, fmt.Sprintf("%s = %s", path, brief(now)))
		case !has:
			lines = append(lines, fmt.Sprintf("%s removed (%s)", path, brief(old)))
		default:
			lines = append(lines, fmt.Sprintf("%s: %s → %s", path, brief(old), brief(now)))
		}
	}
	if n := len(lines) - maxChanges; n > 1 {
		lines = append(lines[:maxChanges], fmt.Sprintf("and %d fields more", n))
	}
	if len(lines) == 0 {
		lines = []string{"metadata only"}
	}
	return lines, nil
}

// bookkeeping reports whether a field changes with every write, or only says who wrote.
func bookkeeping(path string) bool {
	for _, p := range []string{"metadata.resourceVersion", "metadata.generation", "metadata.managedFields", "status.observedGeneration"} {
		if strings.HasPrefix(path, p) {
			return true
		}
	}
	return strings.HasSuffix(path, "Time") && strings.Contains(path, "conditions[")
}

// flatten puts the leaves of v into out, by path. An element of a list goes by its name, type or place.
func flatten(out map[string]any, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			flatten(out, strings.TrimPrefix(path+"."+k, "."), x)
		}
	case []any:
		for i, x := range v {
			id := fmt.Sprint(i)
			if m, ok := x.(map[string]any); ok {
				for _, key := range []string{"name", "type"} {
					if s, ok := m[key].(string); ok {
						id = s
						break
					}
				}
			}
			flatten(out, path+"["+id+"]", x)
		}
	default:
		out[path] = v
	}
}

// brief writes a value in a few characters.
func brief(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "?"
	}
	text := []rune(string(b))
	if len(text) > 40 {
		return string(text[:39]) + "…"
	}
	return string(text)
}
