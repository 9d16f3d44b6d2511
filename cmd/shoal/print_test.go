package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"shoal/internal/api"
)

func podTable(names ...string) *metav1.Table {
	t := &metav1.Table{ColumnDefinitions: []metav1.TableColumnDefinition{{Name: "Name"}, {Name: "Status"}, {Name: "Node", Priority: 1}}}
	for _, n := range names {
		t.Rows = append(t.Rows, metav1.TableRow{
			Cells:  []any{n, "Running", nil},
			Object: runtime.RawExtension{Raw: []byte(`{"metadata":{"name":"` + n + `","namespace":"ns","resourceVersion":"7","labels":{"b":"2","a":"1"}}}`)},
		})
	}
	return t
}

func TestTables(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*printer)
		want string
	}{
		{"plain", func(*printer) {}, "NAME    STATUS\nweb-1   Running\nb       Running\n"},
		{"wide", func(p *printer) { p.form = "wide" }, "NAME    STATUS    NODE\nweb-1   Running   <none>\nb       Running   <none>\n"},
		{"no headers", func(p *printer) { p.noHeaders = true }, "web-1   Running\nb       Running\n"},
		{"labels", func(p *printer) { p.showLabels = true }, "NAME    STATUS    LABELS\nweb-1   Running   a=1,b=2\nb       Running   a=1,b=2\n"},
		{"namespaces", func(p *printer) { p.showNamespace = true }, "NAMESPACE   NAME    STATUS\nns          web-1   Running\nns          b       Running\n"},
		{"several kinds", func(p *printer) { p.severalKinds = true }, "NAME        STATUS\npod/web-1   Running\npod/b       Running\n"},
	} {
		var b bytes.Buffer
		p, err := newPrinter(&b, "")
		if err != nil {
			t.Fatal(err)
		}
		c.set(p)
		if err := p.table(api.Pods, podTable("web-1", "b")); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, b.String()); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func TestChangesPrintTheHeaderOnceAndReturnTheLastRevision(t *testing.T) {
	var stream bytes.Buffer
	enc := json.NewEncoder(&stream)
	for _, typ := range []string{"ADDED", "MODIFIED"} {
		_ = enc.Encode(map[string]any{"type": typ, "object": podTable("web")})
	}
	_ = enc.Encode(map[string]any{"type": "BOOKMARK", "object": &metav1.Table{ListMeta: metav1.ListMeta{ResourceVersion: "9"}}})
	var b bytes.Buffer
	p, _ := newPrinter(&b, "")
	rv, err := p.changes(api.Pods, json.NewDecoder(&stream), "1")
	if !errors.Is(err, io.EOF) || rv != "9" {
		t.Errorf("ended at %s with %v", rv, err)
	}
	if want := "NAME   STATUS\nweb    Running\nweb   Running\n"; b.String() != want {
		t.Errorf("got %q", b.String())
	}
	gone := `{"type":"ERROR","object":{"kind":"Status","status":"Failure","code":410,"reason":"Expired","message":"too old"}}`
	if _, err := p.changes(api.Pods, json.NewDecoder(strings.NewReader(gone)), "1"); err == nil || err.Error() != "too old" {
		t.Errorf("an error event: %v", err)
	}
}

func TestObjects(t *testing.T) {
	pod := unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "web"}}}
	for form, want := range map[string]string{
		"name":                         "pod/web\n",
		"jsonpath={.metadata.name}":    "web",
		"jsonpath=.metadata.name":      "web",
		"jsonpath={.metadata.missing}": "",
		"yaml":                         "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n",
	} {
		var b bytes.Buffer
		p, err := newPrinter(&b, form)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.objects([]unstructured.Unstructured{pod}, true); err != nil || b.String() != want {
			t.Errorf("-o %s: %q, %v", form, b.String(), err)
		}
	}
	var b bytes.Buffer
	p, _ := newPrinter(&b, "jsonpath={.items[*].metadata.name}")
	if err := p.objects([]unstructured.Unstructured{pod, pod}, false); err != nil || b.String() != "web web" {
		t.Errorf("a list: %q, %v", b.String(), err)
	}
	for _, form := range []string{"frob", "jsonpath={.a"} {
		var usage usageError
		if _, err := newPrinter(io.Discard, form); !errors.As(err, &usage) {
			t.Errorf("-o %s: %v", form, err)
		}
	}
}

func TestResolve(t *testing.T) {
	e := &endpoints{byName: map[string]string{"peer-1": "https://10.0.0.1:6443"}, order: []string{"peer-1"}}
	for in, want := range map[string]string{
		"peer-1":              "https://10.0.0.1:6443",
		"10.0.0.2":            "https://10.0.0.2:6443",
		"10.0.0.2:7443":       "https://10.0.0.2:7443",
		"https://10.0.0.2:1/": "https://10.0.0.2:1",
		"fe80::1":             "https://[fe80::1]:6443",
		"[fe80::1]":           "https://[fe80::1]:6443",
		"host.example":        "https://host.example:6443",
		"ftp://x":             "",
		"":                    "",
		"a b":                 "",
		"ht!tp://x/y":         "",
	} {
		got, err := e.resolve(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestCheckProgramsNamesWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	if err := checkPrograms(dir); err == nil || !strings.Contains(err.Error(), "apt-get install -y --no-install-recommends containerd runc iptables") {
		t.Errorf("all missing: %v", err)
	}
	path := t.TempDir() + ":" + dir
	for _, n := range needed {
		writeProgram(t, dir, n.program, 0o755)
	}
	if err := checkPrograms(path); err != nil {
		t.Errorf("all there: %v", err)
	}
	writeProgram(t, dir, "runc", 0o644)
	if err := checkPrograms(path); err == nil || !strings.HasPrefix(err.Error(), "missing: runc; install with: ") || !strings.HasSuffix(err.Error(), " runc") {
		t.Errorf("runc is no program: %v", err)
	}
}

func TestSearchPathEndsWithTheSystemsDirectories(t *testing.T) {
	if got := searchPath("/opt/bin:/usr/bin"); got != "/opt/bin:/usr/bin:/usr/local/sbin:/usr/sbin:/sbin:/bin" {
		t.Error(got)
	}
}

func writeProgram(t *testing.T, dir, name string, mode os.FileMode) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := errors.Join(os.WriteFile(file, nil, mode), os.Chmod(file, mode)); err != nil {
		t.Fatal(err)
	}
}
