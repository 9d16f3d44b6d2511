package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/jsonpath"
	"sigs.k8s.io/yaml"

	"shoal/internal/api"
)

// printer writes objects in the form -o asked for.
type printer struct {
	w             io.Writer
	form          string // "", wide, yaml, json, name, jsonpath
	path          *jsonpath.JSONPath
	noHeaders     bool
	showLabels    bool
	showNamespace bool
	severalKinds  bool
	printed       bool
	columns       int // of the last header printed, so that watches print it once
}

func newPrinter(w io.Writer, form string) (*printer, error) {
	p := &printer{w: w, form: form}
	if expr, ok := strings.CutPrefix(form, "jsonpath="); ok {
		p.form, p.path = "jsonpath", jsonpath.New("-o").AllowMissingKeys(true)
		if !strings.Contains(expr, "{") {
			expr = "{" + expr + "}"
		}
		if err := p.path.Parse(expr); err != nil {
			return nil, usagef("-o jsonpath: %v", err)
		}
		return p, nil
	}
	if !slices.Contains([]string{"", "wide", "yaml", "json", "name"}, form) {
		return nil, usagef("-o %s is unknown: use wide, yaml, json, name or jsonpath='{.items[*].metadata.name}'", form)
	}
	return p, nil
}

// wantsObjects reports whether whole objects are needed instead of the server's table.
func (p *printer) wantsObjects() bool { return p.form != "" && p.form != "wide" }

func (p *printer) table(k *api.Kind, t *metav1.Table) error {
	if len(t.Rows) == 0 {
		return nil
	}
	if p.printed && p.severalKinds {
		fmt.Fprintln(p.w)
	}
	p.printed = true
	tw := tabwriter.NewWriter(p.w, 0, 8, 3, ' ', 0)
	if !p.noHeaders && p.columns != len(t.ColumnDefinitions) {
		p.header(tw, t)
	}
	if !p.severalKinds {
		p.columns = len(t.ColumnDefinitions)
	}
	for _, row := range t.Rows {
		if err := p.row(tw, k, t, row); err != nil {
			return err
		}
	}
	return tw.Flush()
}

func (p *printer) header(w io.Writer, t *metav1.Table) {
	var cells []string
	if p.showNamespace {
		cells = append(cells, "NAMESPACE")
	}
	for _, c := range t.ColumnDefinitions {
		if c.Priority == 0 || p.form == "wide" {
			cells = append(cells, strings.ToUpper(c.Name))
		}
	}
	if p.showLabels {
		cells = append(cells, "LABELS")
	}
	fmt.Fprintln(w, strings.Join(cells, "\t"))
}

func (p *printer) row(w io.Writer, k *api.Kind, t *metav1.Table, row metav1.TableRow) error {
	var meta metav1.PartialObjectMetadata
	if len(row.Object.Raw) > 0 {
		if err := json.Unmarshal(row.Object.Raw, &meta); err != nil {
			return fmt.Errorf("row of the table: %w", err)
		}
	}
	var cells []string
	if p.showNamespace {
		cells = append(cells, meta.Namespace)
	}
	for i, c := range t.ColumnDefinitions {
		if i >= len(row.Cells) || c.Priority != 0 && p.form != "wide" {
			continue
		}
		cell := fmt.Sprint(row.Cells[i])
		if row.Cells[i] == nil {
			cell = "<none>"
		}
		if i == 0 && p.severalKinds {
			cell = shown(k, cell)
		}
		cells = append(cells, cell)
	}
	if p.showLabels {
		var pairs []string
		for key, v := range meta.Labels {
			pairs = append(pairs, key+"="+v)
		}
		slices.Sort(pairs)
		cells = append(cells, orNone(strings.Join(pairs, ",")))
	}
	_, err := fmt.Fprintln(w, strings.Join(cells, "\t"))
	return err
}

func orNone(s string) string {
	if s == "" {
		return "<none>"
	}
	return s
}

// changes prints watch events and returns the last revision seen.
func (p *printer) changes(k *api.Kind, dec *json.Decoder, rv string) (string, error) {
	for {
		var ev struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		if err := dec.Decode(&ev); err != nil {
			return rv, err
		}
		if ev.Type == "ERROR" {
			var s metav1.Status
			if err := json.Unmarshal(ev.Object, &s); err != nil {
				return rv, err
			}
			return rv, &apierrors.StatusError{ErrStatus: s}
		}
		var t metav1.Table
		if err := json.Unmarshal(ev.Object, &t); err != nil {
			return rv, err
		}
		for _, row := range t.Rows {
			var meta metav1.PartialObjectMetadata
			if json.Unmarshal(row.Object.Raw, &meta) == nil && meta.ResourceVersion != "" {
				rv = meta.ResourceVersion
			}
		}
		if t.ResourceVersion != "" {
			rv = t.ResourceVersion
		}
		if ev.Type == "BOOKMARK" {
			continue
		}
		if p.form == "name" {
			for _, row := range t.Rows {
				fmt.Fprintln(p.w, shown(k, fmt.Sprint(row.Cells[0])))
			}
			continue
		}
		if err := p.table(k, &t); err != nil {
			return rv, err
		}
	}
}

// objects prints whole objects.
func (p *printer) objects(items []unstructured.Unstructured, single bool) error {
	var whole any = list(items)
	if single {
		whole = items[0].Object
	}
	switch p.form {
	case "name":
		for _, o := range items {
			fmt.Fprintln(p.w, resourceName(o))
		}
		return nil
	case "jsonpath":
		return p.path.Execute(p.w, whole)
	case "json":
		b, err := json.MarshalIndent(whole, "", "    ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(p.w, string(b))
		return err
	case "yaml":
		b, err := yaml.Marshal(whole)
		if err != nil {
			return err
		}
		_, err = p.w.Write(b)
		return err
	}
	return errors.New("a table is not made of objects")
}

func list(items []unstructured.Unstructured) map[string]any {
	all := make([]any, 0, len(items))
	for _, o := range items {
		all = append(all, o.Object)
	}
	return map[string]any{"apiVersion": "v1", "kind": "List", "metadata": map[string]any{"resourceVersion": ""}, "items": all}
}

// resourceName is the form -o name and messages use: pod/web-1.
func resourceName(o unstructured.Unstructured) string {
	kind := strings.ToLower(schema.FromAPIVersionAndKind(o.GetAPIVersion(), o.GetKind()).GroupKind().String())
	return kind + "/" + o.GetName()
}
