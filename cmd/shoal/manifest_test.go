package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSplitDocumentsKeepsEveryLine(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
	}{
		{"", []string{""}},
		{"a: 1\n", []string{"a: 1\n"}},
		{"a: 1\n---\nb: 2\n", []string{"a: 1\n", "\nb: 2\n"}},
		{"---\na: 1\n---  \nb: 2", []string{"", "\na: 1\n", "\nb: 2"}},
		{"a: |\n  ---\n  x\n", []string{"a: |\n  ---\n  x\n"}},
		{"a: 1\n--- # not alone\n", []string{"a: 1\n--- # not alone\n"}},
	} {
		var got []string
		for _, d := range splitDocuments([]byte(c.in)) {
			got = append(got, string(d))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%q: %s", c.in, diff)
		}
	}
}

func TestManifestsKnowTheirLines(t *testing.T) {
	const text = `# a comment

apiVersion: v1
kind: Pod
metadata: {name: a}
---
---
# another

apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: b}}
- {apiVersion: v1, kind: Pod, metadata: {generateName: c-}}
`
	ms, err := parseManifests("f.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range ms {
		got = append(got, m.where+" "+shown(m.kind, m.object.GetName()+m.object.GetGenerateName()))
	}
	if diff := cmp.Diff([]string{"f.yaml:3 pod/a", "f.yaml:10 service/b", "f.yaml:10 pod/c-"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestManifestErrorsNameThePlace(t *testing.T) {
	for text, want := range map[string]string{
		"\nkind: [\n":                              "f.yaml:2: not YAML",
		"metadata: {name: a}\n":                    "f.yaml:1: apiVersion and kind",
		"apiVersion: v1\nkind: Pod\n":              "f.yaml:1: metadata.name",
		"apiVersion: v2\nkind: Pod\n":              `f.yaml:1: no kind "Pod" in version "v2"`,
		"apiVersion: v1\nkind: L\nitems: 1":        `no kind "L"`,
		"apiVersion: v1\nkind: List\nitems: [1]\n": "f.yaml:1: items[0]",
	} {
		_, err := parseManifests("f.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestFilesOfADirectory(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.yaml", "a.json", "c.txt", "deep/d.yml"} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"`+name[:1]+`"}}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for recursive, want := range map[bool]string{false: "ab", true: "abd"} {
		ms, err := files{Filename: []string{dir}, Recursive: recursive}.read(nil)
		got := ""
		for _, m := range ms {
			got += m.object.GetName()
		}
		if err != nil || got != want {
			t.Errorf("recursive %v: %q, %v", recursive, got, err)
		}
	}
	if _, err := (files{Filename: []string{filepath.Join(dir, "c.txt")}}).read(nil); err != nil {
		t.Errorf("a file that is named is read whatever it is called: %v", err)
	}
	if _, err := (files{Filename: []string{t.TempDir()}}).read(nil); err == nil || !strings.Contains(err.Error(), "no objects in") {
		t.Errorf("an empty directory: %v", err)
	}
}

func TestPlace(t *testing.T) {
	for _, c := range []struct {
		own, flag string
		explicit  bool
		want      string // "" is an error
	}{
		{"", "default", false, "default"},
		{"", "team", true, "team"},
		{"team", "default", false, "team"},
		{"team", "team", true, "team"},
		{"team", "other", true, ""},
	} {
		ms, err := parseManifests("f", []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: "+c.own+"}\n"))
		if err != nil {
			t.Fatal(err)
		}
		err = ms[0].place(&Globals{Namespace: c.flag}, c.explicit)
		if got := ms[0].object.GetNamespace(); c.want == "" && err == nil || c.want != "" && (err != nil || got != c.want) {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}

func TestParseTargets(t *testing.T) {
	for args, want := range map[string]string{
		"pods":                            "pod/",
		"po":                              "pod/",
		"Pod":                             "pod/",
		"pods.v1":                         "pod/",
		"pods a b":                        "pod/a pod/b",
		"pod/a svc/b":                     "pod/a service/b",
		"pods,svc":                        "pod/ service/",
		"rc,pods web":                     "replicationcontroller/web pod/web",
		"endpointslices.discovery.k8s.io": "endpointslice/",
		"deploy,sts.apps,ds,rs web":       "deployment/web statefulset/web daemonset/web replicaset/web",
		"jobs.batch,cj":                   "job/ cronjob/",
	} {
		targets, err := parseTargets(strings.Fields(args))
		var got []string
		for _, g := range targets {
			got = append(got, shown(g.kind, g.name))
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q, %v; want %q", args, got, err, want)
		}
	}
	for _, args := range []string{"", "frobs", "pod/a b", "pod/", "/a", "pods,frobs", "pods.apps"} {
		_, err := parseTargets(strings.Fields(args))
		var usage usageError
		if !errors.As(err, &usage) {
			t.Errorf("%q: %v is no usage error", args, err)
		}
	}
}

func FuzzManifests(f *testing.F) {
	for _, s := range []string{"", "---\n", "a: 1\n---\nb: 2\n", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n", "{}", "[]", "- 1\n", "\t", "kind: List\napiVersion: v1\nitems: [{}]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ms, err := parseManifests("f", b)
		if err != nil && (len(ms) > 0 || !strings.HasPrefix(err.Error(), "f:")) {
			t.Errorf("%d objects with error %v", len(ms), err)
		}
	})
}
