package oracle

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Difference is one thing that was recorded otherwise.
type Difference struct {
	What      string // a path in the answer
	Want, Got any
}

func (d Difference) String() string {
	return fmt.Sprintf("%s: recorded %s, got %s", d.What, short(d.Want), short(d.Got))
}

func short(v any) string {
	s := key(v)
	if len(s) > 160 {
		s = s[:160] + "…"
	}
	return s
}

// absent stands for a field that is not there.
const absent = "<absent>"

func compare(c *Case, got *Answer) []Difference {
	want := &c.Response
	var d differences
	d.differ("code", want.Code, got.Code)
	if want.Reason != nil || got.Reason != nil {
		d.differ("reason", deref(want.Reason), deref(got.Reason))
		fields := func(a *Answer) []string { return causes(a, func(c Cause) string { return c.Field }) }
		reasons := func(a *Answer) []string { return causes(a, func(c Cause) string { return c.Field + ": " + c.Reason }) }
		if !slices.Equal(fields(want), fields(got)) {
			d.add("causes.field", fields(want), fields(got))
		} else if !slices.Equal(reasons(want), reasons(got)) {
			d.add("causes.reason", reasons(want), reasons(got))
		}
	}
	if want.Code != got.Code {
		return d
	}
	if want.Object != nil {
		a, b := want.Object, got.Object
		if strings.HasPrefix(c.Group, "discovery") {
			a, b = byName(a), byName(b)
		}
		d.loose("object", a, b)
	}
	if want.Events != nil {
		if a, b := types(want.Events), types(got.Events); !slices.Equal(a, b) {
			d.add("events.type", a, b)
		} else {
			d.loose("events", want.Events, got.Events)
		}
	}
	if want.Text != nil && want.Code < 300 && *want.Text != deref(got.Text) {
		d.add("text", *want.Text, deref(got.Text))
	}
	d.differ("header.content-type", want.Headers["content-type"], got.Headers["content-type"])
	return d
}

func deref(s *string) string {
	if s == nil {
		return absent
	}
	return *s
}

func causes(a *Answer, f func(Cause) string) []string {
	var out []string
	for _, c := range a.Causes {
		out = append(out, f(c))
	}
	slices.Sort(out)
	return out
}

func types(events []any) []string {
	var out []string
	for _, e := range events {
		m, _ := e.(map[string]any)
		t, _ := m["type"].(string)
		out = append(out, t)
	}
	return out
}

// byName makes the lists of a discovery document maps: their order does not matter.
func byName(o any) any {
	m, ok := o.(map[string]any)
	if !ok {
		return o
	}
	m = maps.Clone(m)
	for _, k := range []string{"resources", "groups"} {
		list, ok := m[k].([]any)
		if !ok {
			continue
		}
		named := map[string]any{}
		for _, e := range list {
			entry, _ := e.(map[string]any)
			name, _ := entry["name"].(string)
			named[name] = e
		}
		m[k] = named
	}
	return m
}

type differences []Difference

func (d *differences) add(what string, want, got any) {
	*d = append(*d, Difference{what, want, got})
}

func (d *differences) differ(what string, want, got any) {
	if want != got {
		d.add(what, want, got)
	}
}

// loose demands that what was recorded is there and equal.
func (d *differences) loose(path string, want, got any) {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			break
		}
		for _, k := range slices.Sorted(maps.Keys(w)) {
			v, ok := g[k]
			switch {
			case ok:
				d.loose(path+"."+k, w[k], v)
			case !empty(w[k]):
				d.add(path+"."+k, w[k], absent)
			}
		}
		return
	case []any:
		g, ok := got.([]any)
		if !ok {
			break
		}
		if len(w) != len(g) {
			d.add(path, fmt.Sprintf("length %d", len(w)), fmt.Sprintf("length %d", len(g)))
		}
		for i := range min(len(w), len(g)) {
			d.loose(fmt.Sprintf("%s[%d]", path, i), w[i], g[i])
		}
		return
	}
	if empty(want) && empty(got) {
		return
	}
	if key(want) != key(got) {
		d.add(path, want, got)
	}
}

func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// sortList orders a list where the recorded server had no order.
func sortList(list []any, f func(any) string) {
	slices.SortStableFunc(list, func(a, b any) int { return cmp.Compare(f(a), f(b)) })
}
