package api

import (
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
)

// agreement runs the recorded sequences of a file and reports cases that differ and are not expected to.
func agreement(t *testing.T, file string, expected map[string]string, atLeast float64) {
	t.Helper()
	var s *server
	seq, total, agreed := "", 0, 0
	for _, r := range readRecorded(t, file) {
		if r.Seq != seq {
			s, seq = newServer(), r.Seq
		}
		if r.Request.Raw != nil {
			continue
		}
		reason, known := expected[r.ID]
		if strings.HasSuffix(reason, "to answer") {
			t.Logf("%s is %s", r.ID, reason)
		} else {
			total++
		}
		got, err := s.do(&r)
		diff := ""
		if err != nil {
			diff = err.Error()
		} else {
			diff = compareAnswers(r.Response, got)
		}
		switch {
		case diff == "" && known:
			t.Errorf("%s agrees now: it is no difference any more", r.ID)
			agreed++
		case diff == "":
			agreed++
		case known:
			t.Logf("%s differs: %s", r.ID, reason)
		default:
			t.Errorf("%s: %s", r.ID, diff)
		}
	}
	share := 100 * float64(agreed) / float64(total)
	t.Logf("%s: %d of %d agree (%.1f %%)", file, agreed, total, share)
	if share < atLeast {
		t.Errorf("only %.1f %% agree, want %.1f %%", share, atLeast)
	}
}

func compareAnswers(want, got answer) string {
	if want.Code != got.Code {
		return fmt.Sprintf("code %d, want %d; causes %v, want %v", got.Code, want.Code, got.Causes, want.Causes)
	}
	// Kubernetes looks at metadata more than once in an update and says everything as often; once is enough.
	if w, g := causes(want), causes(got); !slices.Equal(w, g) {
		return fmt.Sprintf("causes %v, want %v", g, w)
	}
	if want.Object == nil || want.Code >= 300 {
		return ""
	}
	expected := withoutAdmission(want.Object)
	withoutNewerColumns(expected, got.Object)
	byName(expected)
	byName(got.Object)
	return missing(expected, got.Object, "")
}

func causes(a answer) []string {
	var all []string
	for _, c := range a.Causes {
		all = append(all, c.Field+" "+c.Reason)
	}
	sort.Strings(all)
	return slices.Compact(all)
}

// withoutAdmission removes what plugins, not this package, put into a recorded object.
func withoutAdmission(o any) any {
	m, ok := o.(map[string]any)
	if !ok {
		return o
	}
	spec, _ := m["spec"].(map[string]any)
	switch m["kind"] {
	case "Pod":
		for _, name := range []string{"tolerations", "priority", "preemptionPolicy", "serviceAccount", "serviceAccountName"} {
			delete(spec, name)
		}
		dropTokenVolume(spec, "volumes")
		for _, list := range []string{"containers", "initContainers"} {
			items, _ := spec[list].([]any)
			for _, c := range items {
				dropTokenVolume(c.(map[string]any), "volumeMounts")
			}
		}
		delete(m["metadata"].(map[string]any), "generation")
	case "PersistentVolume", "PersistentVolumeClaim":
		delete(m["metadata"].(map[string]any), "finalizers")
	case "Node":
		delete(spec, "taints")
	case "Job":
		newJobSelector(spec)
	case "Table":
		delete(m, "metadata")
		newRestarts(m)
	}
	return m
}

// newJobSelector gives the label by which a job selects its pods the prefix that it has got since.
func newJobSelector(spec map[string]any) {
	selector, _ := spec["selector"].(map[string]any)
	matched, _ := selector["matchLabels"].(map[string]any)
	if uid, ok := matched[oldControllerUIDLabel]; ok {
		delete(matched, oldControllerUIDLabel)
		matched[batchv1.ControllerUidLabel] = uid
	}
}

// newRestarts turns the number of restarts into the text that it has become since.
func newRestarts(table map[string]any) {
	columns, _ := table["columnDefinitions"].([]any)
	for i, c := range columns {
		c := c.(map[string]any)
		if c["name"] != "Restarts" {
			continue
		}
		c["type"] = "string"
		rows, _ := table["rows"].([]any)
		for _, r := range rows {
			cells := r.(map[string]any)["cells"].([]any)
			if cells[i] != 0.0 {
				cells[i] = fmt.Sprintf("%v<restarts>", cells[i])
			} else {
				cells[i] = "0"
			}
		}
	}
}

// byName sorts a table's rows by their first cell, since lists have no promised order.
func byName(table any) {
	m, _ := table.(map[string]any)
	rows, _ := m["rows"].([]any)
	name := func(v any) string { return fmt.Sprint(v.(map[string]any)["cells"]) }
	sort.SliceStable(rows, func(i, j int) bool { return name(rows[i]) < name(rows[j]) })
}

func dropTokenVolume(of map[string]any, field string) {
	items, _ := of[field].([]any)
	items = slices.DeleteFunc(items, func(v any) bool {
		name, _ := v.(map[string]any)["name"].(string)
		return strings.HasPrefix(name, "kube-api-access-")
	})
	if len(items) == 0 {
		delete(of, field)
	} else {
		of[field] = items
	}
}

// missing names the first field of want that got lacks or has with another value; got may have more fields.
func missing(want, got any, at string) string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s is %v, want an object", at, got)
		}
		for _, name := range sortedKeys(w) {
			if w[name] == nil || (g[name] == nil && isEmpty(w[name])) {
				continue
			}
			if diff := missing(w[name], g[name], at+"."+name); diff != "" {
				return diff
			}
		}
	case []any:
		g, ok := got.([]any)
		if !ok && len(w) > 0 || len(g) != len(w) {
			return fmt.Sprintf("%s is %v, want %v", at, got, want)
		}
		for i := range w {
			if diff := missing(w[i], g[i], fmt.Sprintf("%s[%d]", at, i)); diff != "" {
				return diff
			}
		}
	default:
		if !matches(want, got) {
			return fmt.Sprintf("%s is %v, want %v", at, got, want)
		}
	}
	return ""
}

func isEmpty(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	case string:
		return v == ""
	}
	return false
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// matches compares leaves; a placeholder stands for any text.
func matches(want, got any) bool {
	w, ok := want.(string)
	if !ok {
		return reflect.DeepEqual(want, got)
	}
	w = strings.ReplaceAll(w, "{ns}", testNamespace)
	g := fmt.Sprint(got)
	for _, p := range []string{"<ip>", "<port>", "<age>", "<rand>", "<time>", "<restarts>", "<uid>"} {
		if before, after, ok := strings.Cut(w, p); ok {
			return got != nil && strings.HasPrefix(g, before) && (strings.Contains(after, "<") || strings.HasSuffix(g, after))
		}
	}
	return w == got
}

func TestRecordedDefaults(t *testing.T) {
	agreement(t, "default", map[string]string{
		"default-hpa2/behavior": "newer servers leave out a count of zero",
	}, 98)
}

func TestRecordedValidation(t *testing.T) {
	const (
		registry  = "the registry's to answer"
		allocator = "the allocator's to answer"
		admission = "an admission plugin's to answer"
	)
	agreement(t, "validation", map[string]string{
		"invalid-configmap/meta-rv-set":   registry,
		"invalid-pod/meta-rv-set":         registry,
		"immutable-pod/rv-bad":            registry,
		"invalid-namespace/exists":        registry,
		"taken/free":                      registry,
		"invalid-service/clusterip-taken": allocator,
		"invalid-service/nodeport-out":    allocator,
		"taken/nodeport-taken":            allocator,
		"taken/clusterip-taken":           allocator,
		"taken/nodeport-free-again":       allocator,
		"invalid-pod/sa-missing":          admission,
		"invalid-pod/priority-missing":    admission,
		"invalid-pod/priority-set":        admission,
		"invalid-pod/runtimeclass":        admission,
		"invalid-pod/meta-ownerref-empty": "the library now says required, with the index",
		"invalid-service/lbclass-type":    "the field did not exist then and was dropped",

		"immutable-persistentvolumeclaim/storage-down": "newer servers compare with the capacity that the claim has",
		"immutable-priorityclass/value":                "newer servers spell the field as it is",
		"immutable-persistentvolumeclaim/class":        "newer servers let a claim get its class once",
	}, 98)
}

func TestRecordedTables(t *testing.T) {
	agreement(t, "table", map[string]string{
		"table-workloads/quota-table": "newer servers show the age last",
	}, 98)
}
