package custom

import (
	"bytes"
	"reflect"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/util/jsonpath"

	"shoal/internal/api"
)

// columns returns the columns of a version: the name and what it asks for, or the age when it asks for nothing.
func columns(asked []apiextensionsv1.CustomResourceColumnDefinition) ([]metav1.TableColumnDefinition, func(api.Object, time.Time) []any) {
	meta := metav1.ObjectMeta{}.SwaggerDoc()
	if len(asked) == 0 {
		asked = []apiextensionsv1.CustomResourceColumnDefinition{{Name: "Age", Type: "date", Description: meta["creationTimestamp"], JSONPath: ".metadata.creationTimestamp"}}
	}
	all := []metav1.TableColumnDefinition{{Name: "Name", Type: "string", Format: "name", Description: meta["name"]}}
	var paths []*jsonpath.JSONPath
	for _, c := range asked {
		p := jsonpath.New(c.Name).AllowMissingKeys(true)
		if p.Parse("{"+c.JSONPath+"}") != nil {
			continue
		}
		description := c.Description
		if description == "" {
			description = "Custom resource definition column (in JSONPath format): " + c.JSONPath
		}
		paths = append(paths, p)
		all = append(all, metav1.TableColumnDefinition{Name: c.Name, Type: c.Type, Format: c.Format, Description: description, Priority: c.Priority})
	}
	return all, func(o api.Object, now time.Time) []any {
		out := []any{o.GetName()}
		for i, p := range paths {
			out = append(out, cell(p, all[i+1].Type, content(o), now))
		}
		return out
	}
}

// cell returns the first value at a path as a column of a type shows it; nil when there is none, or one of another type.
func cell(p *jsonpath.JSONPath, typ string, o map[string]any, now time.Time) any {
	results, err := p.FindResults(o)
	if err != nil || len(results) == 0 || len(results[0]) == 0 {
		return nil
	}
	first := results[0][0]
	if typ == "string" {
		var text bytes.Buffer
		if p.PrintResults(&text, []reflect.Value{first}) != nil {
			return nil
		}
		return text.String()
	}
	switch v := first.Interface().(type) {
	case int64:
		switch typ {
		case "integer":
			return v
		case "number":
			return float64(v)
		}
	case float64:
		switch typ {
		case "integer":
			return int64(v)
		case "number":
			return v
		}
	case bool:
		if typ == "boolean" {
			return v
		}
	case string:
		if typ == "date" {
			var t metav1.Time
			if t.UnmarshalQueryParameter(v) != nil {
				return "<invalid>"
			}
			return duration.HumanDuration(now.Sub(t.Time))
		}
	}
	return nil
}
