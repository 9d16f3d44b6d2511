package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/jsonpath"
	"sigs.k8s.io/yaml"
)

type waitCmd struct {
	selection
	For     string        `required:"" help:"condition=NAME, condition=NAME=STATUS, delete, or jsonpath={.path}=VALUE."`
	Timeout time.Duration `default:"30s" help:"How long to wait."`
}

func (c waitCmd) Run(ctx context.Context, g *Globals, std streams) error {
	met, err := parseCondition(c.For)
	if err != nil {
		return err
	}
	conn, err := g.connect()
	if err != nil {
		return err
	}
	deadline := time.Now().Add(c.Timeout)
	all, err := c.objects(ctx, g, conn, std)
	if err != nil {
		return err
	}
	var errs []error
	for _, o := range all {
		if err := conn.until(ctx, o, deadline, met); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(std.out, shown(o.kind, o.name), "condition met")
	}
	return errors.Join(errs...)
}

// deleted is the type of a watch's event about an object that is gone.
const deleted = "DELETED"

// condition says whether an object, after an event of a type, is what is waited for. Nil waits until it is gone.
type condition func(event string, o map[string]any) bool

func parseCondition(s string) (condition, error) {
	if s == "delete" {
		return nil, nil
	}
	if expr, ok := strings.CutPrefix(s, "jsonpath="); ok {
		i := strings.LastIndex(expr, "}=")
		if i < 0 {
			return nil, usagef("--for=jsonpath wants {.path}=VALUE, not %q", expr)
		}
		p := jsonpath.New("--for").AllowMissingKeys(true)
		if err := p.Parse(expr[:i+1]); err != nil {
			return nil, usagef("--for: %v", err)
		}
		return func(event string, o map[string]any) bool {
			var b strings.Builder
			return event != deleted && p.Execute(&b, o) == nil && b.String() == expr[i+2:]
		}, nil
	}
	name, ok := strings.CutPrefix(s, "condition=")
	if !ok {
		return nil, usagef("--for=%s is unknown: use condition=Ready, delete or jsonpath={.status.phase}=Running", s)
	}
	name, want, has := strings.Cut(name, "=")
	if !has {
		want = "True"
	}
	return func(event string, o map[string]any) bool {
		if event == deleted {
			return false
		}
		conditions, _, _ := unstructured.NestedSlice(o, "status", "conditions")
		for _, c := range conditions {
			m, _ := c.(map[string]any)
			if strings.EqualFold(fmt.Sprint(m["type"]), name) {
				return strings.EqualFold(fmt.Sprint(m["status"]), want)
			}
		}
		return false
	}, nil
}

// until watches one object until met holds, which it may still have to be created for. A zero deadline waits as long as ctx.
func (c *conn) until(ctx context.Context, o object, deadline time.Time, met condition) error {
	if !deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	for {
		done, err := c.watchOnce(ctx, o, met)
		switch {
		case done:
			return nil
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return fmt.Errorf("timed out waiting for %s", shown(o.kind, o.name))
		case err != nil:
			return err
		}
	}
}

// watchOnce reads the object and follows it until the server ends the watch.
func (c *conn) watchOnce(ctx context.Context, o object, met condition) (bool, error) {
	var now unstructured.Unstructured
	err := c.json(ctx, request{method: "GET", path: path(o.kind, o.namespace, o.name)}, &now.Object)
	switch missing := apierrors.IsNotFound(err); {
	case missing && met == nil:
		return true, nil
	case err != nil && !missing:
		return false, err
	case !missing && met == nil && o.uid != "" && o.uid != now.GetUID():
		return true, nil
	case !missing && met != nil && met("", now.Object):
		return true, nil
	}
	resp, err := c.do(ctx, request{method: "GET", path: path(o.kind, o.namespace, ""), query: url.Values{
		"watch": {"true"}, "resourceVersion": {now.GetResourceVersion()}, "fieldSelector": {"metadata.name=" + o.name},
	}})
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var ev struct {
			Type   string         `json:"type"`
			Object map[string]any `json:"object"`
		}
		if dec.Decode(&ev) != nil {
			return false, nil // the watch ended: look again
		}
		uid, _, _ := unstructured.NestedString(ev.Object, "metadata", "uid")
		switch {
		case met == nil && (ev.Type == deleted || uid != "" && uid != string(now.GetUID())):
			return true, nil
		case met != nil && met(ev.Type, ev.Object):
			return true, nil
		case met != nil && ev.Type == deleted:
			return false, fmt.Errorf("%s was deleted", shown(o.kind, o.name))
		}
	}
}

func yamlToJSON(s string) (string, error) {
	b, err := yaml.YAMLToJSON([]byte(s))
	return string(b), err
}
