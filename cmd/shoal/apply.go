package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type applyCmd struct {
	files
	DryRun string `enum:"none,server" default:"none" help:"server: check everything, change nothing."`
	Force  bool   `name:"force-conflicts" help:"Take over fields that another manager owns."`
	Output string `short:"o" help:"name, json or yaml instead of a line each."`
}

// Run makes every object what its file says, by server-side apply. Objects that cannot be applied do not keep the others
// from being applied.
func (c applyCmd) Run(ctx context.Context, g *Globals, std streams) error {
	if err := c.required(); err != nil {
		return err
	}
	all, err := c.read(std.in)
	if err != nil {
		return err
	}
	conn, err := g.connect()
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range all {
		if err := m.place(g, g.Namespace != "default"); err != nil {
			return err
		}
		done, err := c.one(ctx, conn, m)
		if err != nil {
			errs = append(errs, m.in(plain(err)))
			continue
		}
		if c.Output == "name" {
			done = ""
		}
		fmt.Fprintln(std.out, trimmed(shown(m.kind, m.object.GetName())+" "+done))
	}
	if len(errs) > 0 && len(errs) < len(all) {
		errs = append(errs, errPartly)
	}
	return errors.Join(errs...)
}

// plain leaves out of an error what only says how the server goes about an apply.
func plain(err error) error {
	text, found := strings.CutPrefix(err.Error(), "failed to create typed patch object (")
	if _, rest, ok := strings.Cut(text, "): "); found && ok {
		if where, ok := strings.CutSuffix(rest, ": field not declared in schema"); ok {
			return fmt.Errorf("unknown field %s", where)
		}
		return errors.New(rest)
	}
	return err
}

// one applies an object and says what that did: created, configured or unchanged.
func (c applyCmd) one(ctx context.Context, conn *conn, m manifest) (string, error) {
	at := path(m.kind, m.object.GetNamespace(), m.object.GetName())
	var before metav1.PartialObjectMetadata
	err := conn.json(ctx, request{method: "GET", path: at, accept: "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"}, &before)
	if err != nil && !apierrors.IsNotFound(err) {
		return "", err
	}
	body, err := json.Marshal(m.object.Object)
	if err != nil {
		return "", err
	}
	q := url.Values{"fieldManager": {"shoal"}, "fieldValidation": {"Strict"}}
	if c.Force {
		q.Set("force", "true")
	}
	suffix := ""
	if c.DryRun == "server" {
		q.Set("dryRun", "All")
		suffix = " (dry run)"
	}
	resp, err := conn.do(ctx, request{method: "PATCH", path: at, query: q, ctype: "application/apply-patch+yaml", accept: "application/json", body: body})
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var after metav1.PartialObjectMetadata
	if err := json.NewDecoder(resp.Body).Decode(&after); err != nil {
		return "", err
	}
	switch {
	case resp.StatusCode == http.StatusCreated || before.UID == "":
		return "created" + suffix, nil
	case before.ResourceVersion == after.ResourceVersion:
		return "unchanged" + suffix, nil
	}
	return "configured" + suffix, nil
}

func trimmed(s string) string {
	for len(s) > 0 && s[len(s)-1] == ' ' {
		s = s[:len(s)-1]
	}
	return s
}

type createCmd struct {
	files
	Args   []string `arg:"" optional:"" help:"namespace NAME"`
	DryRun string   `enum:"none,server" default:"none" help:"server: check everything, change nothing."`
}

func (c createCmd) Run(ctx context.Context, g *Globals, std streams) error {
	all, err := c.manifests(std)
	if err != nil {
		return err
	}
	conn, err := g.connect()
	if err != nil {
		return err
	}
	q := url.Values{"fieldManager": {"shoal"}, "fieldValidation": {"Strict"}}
	if c.DryRun == "server" {
		q.Set("dryRun", "All")
	}
	var errs []error
	for _, m := range all {
		if err := m.place(g, g.Namespace != "default"); err != nil {
			return err
		}
		body, err := json.Marshal(m.object.Object)
		if err != nil {
			return err
		}
		var made metav1.PartialObjectMetadata
		err = conn.json(ctx, request{method: "POST", path: path(m.kind, m.object.GetNamespace(), ""), query: q, ctype: "application/json", body: body}, &made)
		if err != nil {
			errs = append(errs, m.in(err))
			continue
		}
		fmt.Fprintln(std.out, shown(m.kind, made.Name), "created")
	}
	return errors.Join(errs...)
}

func (c createCmd) manifests(std streams) ([]manifest, error) {
	if len(c.Args) == 0 {
		if err := c.required(); err != nil {
			return nil, err
		}
		return c.read(std.in)
	}
	if len(c.Args) != 2 || c.Args[0] != "namespace" && c.Args[0] != "ns" {
		return nil, usagef("create takes -f FILE, or: namespace NAME")
	}
	return toManifests("command line", map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": c.Args[1]},
	})
}
