package oracle

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	uuids     = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	times     = regexp.MustCompile(`\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| \+0000 UTC)?( m=\+[\d.]+)?`)
	addresses = regexp.MustCompile(`\b10\.\d+\.\d+\.\d+\b`)
	ages      = regexp.MustCompile(`^(\d+[smhdy])+$|^<invalid>$`)
	generates = regexp.MustCompile(`"generateName": ?"([^"]+)"`)
)

// replacements are what differs between two runs wherever it stands.
var replacements = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{uuids, "<uid>"},
	{regexp.MustCompile(`kube-api-access-[a-z0-9]{5}\b`), "kube-api-access-<rand>"},
	{regexp.MustCompile(`-token-[a-z0-9]{5}\b`), "-token-<rand>"},
	{regexp.MustCompile(`RV in (precondition|object meta): \d+`), "RV in $1: <rv>"},
	{regexp.MustCompile(`ResourceVersion in (precondition|object meta): \d+`), "ResourceVersion in $1: <rv>"},
	{regexp.MustCompile(`\b0xc0[0-9a-f]{6,}`), "<ptr>"},
	{regexp.MustCompile(`(ResourceVersion in record \()\d+`), "$1<rv>"},
	{regexp.MustCompile(`(resourceVersion\\*"?: ?\\*")\d+`), "$1<rv>"},
	{regexp.MustCompile(`(resource version:? )\d+ \(\d+\)`), "$1<rv> (<rv>)"},
	{regexp.MustCompile(`(Too large resource version: \d+, current: )\d+`), "$1<rv>"},
}

// ageColumns are those of tables that show how long ago something was.
var ageColumns = []string{"Age", "Last Schedule", "Duration", "Last Seen", "First Seen", "Created At"}

// normal takes out of an answer what differs between two runs of the same server.
type normal struct {
	namespace, request string
	keepManaged        bool
	generated          []*regexp.Regexp
	columns            []string // of the last table: the next one may come without
}

func newNormal(namespace, request string, keepManaged bool) *normal {
	n := &normal{namespace: namespace, request: request, keepManaged: keepManaged}
	for _, m := range generates.FindAllStringSubmatch(request, -1) {
		name := n.names(m[1])
		name = name[:min(len(name), 58)]
		n.generated = append(n.generated, regexp.MustCompile(`(`+regexp.QuoteMeta(name)+`)[bcdfghjklmnpqrstvwxz2456789]{5}([^a-z0-9]|$)`))
	}
	return n
}

// names replaces the namespace's name where it stands alone.
func (n *normal) names(s string) string {
	var out strings.Builder
	for {
		i := strings.Index(s, n.namespace)
		if i < 0 {
			return out.String() + s
		}
		end := i + len(n.namespace)
		before := i > 0 && strings.ContainsAny(s[i-1:i], "abcdefghijklmnopqrstuvwxyz0123456789")
		after := end < len(s) && s[end] >= '0' && s[end] <= '9'
		out.WriteString(s[:i])
		if before || after {
			out.WriteString(s[i:end])
		} else {
			out.WriteString("{ns}")
		}
		s = s[end:]
	}
}

func (n *normal) text(s string) string {
	s = uuids.ReplaceAllString(s, "<uid>")
	s = n.names(s)
	for _, r := range replacements {
		s = r.pattern.ReplaceAllString(s, r.with)
	}
	for _, g := range n.generated {
		s = g.ReplaceAllString(s, "$1<rand>$2")
	}
	for _, t := range times.FindAllString(s, -1) {
		if !strings.Contains(n.request, t) {
			s = strings.ReplaceAll(s, t, "<time>")
		}
	}
	for _, a := range addresses.FindAllString(s, -1) {
		if !strings.Contains(n.request, a) {
			s = strings.ReplaceAll(s, a, "<ip>")
		}
	}
	return s
}

// value is v, which stands under key, without what differs.
func (n *normal) value(v any, key string) any {
	switch v := v.(type) {
	case map[string]any:
		return n.object(v)
	case []any:
		out := make([]any, 0, len(v))
		for _, e := range v {
			if !published(e) {
				out = append(out, n.value(e, key))
			}
		}
		return out
	case string:
		return n.word(v, key)
	case float64:
		if (key == "nodePort" || key == "healthCheckNodePort") && !strings.Contains(n.request, strconv.Itoa(int(v))) {
			return "<port>"
		}
	}
	return v
}

// published reports whether v is, or is about, the ConfigMap that a controller makes in every namespace: it did not run
// where the answers were recorded.
func published(v any) bool {
	const name = "kube-root-ca.crt"
	o, _ := v.(map[string]any)
	if of, ok := o["object"].(map[string]any); ok && published(of) {
		return true
	}
	if cells, _ := o["cells"].([]any); len(cells) > 0 && cells[0] == name {
		return true
	}
	meta, _ := o["metadata"].(map[string]any)
	return meta["name"] == name
}

func (n *normal) word(s, key string) string {
	switch {
	case key == "storageVersionHash" && strings.Contains(n.request, n.namespace):
		return "<hash>"
	case key == "token" && len(s) > 100:
		return "<token>"
	case (key == "clusterIP" || key == "clusterIPs") && s != "" && s != "None" && !strings.Contains(n.request, s):
		return "<ip>"
	}
	return n.text(s)
}

func (n *normal) object(o map[string]any) map[string]any {
	meta, _ := o["metadata"].(map[string]any)
	out := make(map[string]any, len(o))
	for k, v := range o {
		switch rows, isRows := v.([]any); {
		case k == "metadata" && meta != nil:
			out[k] = n.value(n.metadata(meta), k)
		case k == "rows" && o["kind"] == "Table" && isRows:
			out[k] = n.value(n.rows(o, rows), k)
		default:
			out[n.text(k)] = n.value(v, k)
		}
	}
	return out
}

func (n *normal) metadata(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		switch k {
		case "uid", "resourceVersion", "creationTimestamp", "selfLink":
		case "managedFields":
			if n.keepManaged {
				out[k] = untimed(v)
			}
		case "continue":
			if out[k] = v; v != "" {
				out[k] = "<continue>"
			}
		default:
			out[k] = v
		}
	}
	prefix, _ := m["generateName"].(string)
	if name, _ := m["name"].(string); prefix != "" && strings.HasPrefix(name, prefix) {
		out["name"] = prefix + "<rand>"
	}
	return out
}

func untimed(fields any) any {
	list, _ := fields.([]any)
	out := make([]any, len(list))
	for i := range list {
		kept := map[string]any{}
		entry, _ := list[i].(map[string]any)
		for k, v := range entry {
			if k != "time" {
				kept[k] = v
			}
		}
		out[i] = kept
	}
	return out
}

func (n *normal) rows(table map[string]any, rows []any) []any {
	if columns, _ := table["columnDefinitions"].([]any); len(columns) > 0 {
		n.columns = nil
		for _, c := range columns {
			def, _ := c.(map[string]any)
			name, _ := def["name"].(string)
			n.columns = append(n.columns, name)
		}
	}
	out := make([]any, len(rows))
	for i := range rows {
		row := map[string]any{}
		given, _ := rows[i].(map[string]any)
		for k, v := range given {
			row[k] = v
		}
		cells, _ := row["cells"].([]any)
		cells = slices.Clone(cells)
		for j, c := range cells {
			if s, ok := c.(string); ok && j < len(n.columns) && slices.Contains(ageColumns, n.columns[j]) && ages.MatchString(s) {
				cells[j] = "<age>"
			}
		}
		row["cells"] = cells
		out[i] = row
	}
	return out
}

// key orders values of any shape.
func key(v any) string {
	b, _ := json.Marshal(v) // maps come sorted
	return string(b)
}
