package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"shoal/internal/api"
)

// manifest is one object of a file, with the place to name in errors.
type manifest struct {
	kind   *api.Kind
	object unstructured.Unstructured
	where  string // FILE:LINE
}

// files is the -f flag of several verbs.
type files struct {
	Filename  []string `short:"f" name:"filename" placeholder:"FILE" help:"File, directory of files, or - for standard input."`
	Recursive bool     `short:"R" help:"Read directories below directories too."`
}

// read returns every object of every file, in order. Nothing is sent before all files have been read.
func (f files) read(stdin io.Reader) ([]manifest, error) {
	var all []manifest
	for _, name := range f.Filename {
		if name == "-" {
			b, err := io.ReadAll(stdin)
			if err != nil {
				return nil, err
			}
			ms, err := parseManifests("standard input", b)
			if err != nil {
				return nil, err
			}
			all = append(all, ms...)
			continue
		}
		paths, err := f.expand(name)
		if err != nil {
			return nil, err
		}
		for _, p := range paths {
			b, err := os.ReadFile(p)
			if err != nil {
				return nil, err
			}
			ms, err := parseManifests(p, b)
			if err != nil {
				return nil, err
			}
			all = append(all, ms...)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no objects in %s", strings.Join(f.Filename, ", "))
	}
	return all, nil
}

func (f files) expand(name string) ([]string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	var paths []string
	err = filepath.WalkDir(name, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && p != name && !f.Recursive {
			return filepath.SkipDir
		}
		if slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(p)) {
			paths = append(paths, p)
		}
		return nil
	})
	return paths, err
}

// parseManifests splits a YAML stream (JSON is YAML) into objects; a List counts as its items.
func parseManifests(file string, b []byte) ([]manifest, error) {
	var all []manifest
	line := 1
	for _, doc := range splitDocuments(b) {
		start := line + leadingBlank(doc)
		line += bytes.Count(doc, []byte("\n"))
		if len(bytes.TrimSpace(doc)) == 0 {
			continue
		}
		where := fmt.Sprintf("%s:%d", file, start)
		var o map[string]any
		if err := yaml.Unmarshal(doc, &o); err != nil {
			return nil, fmt.Errorf("%s: not YAML: %w", where, err)
		}
		if len(o) == 0 {
			continue
		}
		ms, err := toManifests(where, o)
		if err != nil {
			return nil, err
		}
		all = append(all, ms...)
	}
	return all, nil
}

func toManifests(where string, o map[string]any) ([]manifest, error) {
	u := unstructured.Unstructured{Object: o}
	if u.GetKind() == "" || u.GetAPIVersion() == "" {
		return nil, fmt.Errorf("%s: apiVersion and kind are needed, for example: apiVersion: v1, kind: Pod", where)
	}
	if items, ok := o["items"].([]any); ok && strings.HasSuffix(u.GetKind(), "List") {
		var all []manifest
		for i, item := range items {
			m, ok := item.(map[string]any)
			if !ok {
				return nil, fmt.Errorf("%s: items[%d] is not an object", where, i)
			}
			ms, err := toManifests(where, m)
			if err != nil {
				return nil, err
			}
			all = append(all, ms...)
		}
		return all, nil
	}
	gvk := u.GroupVersionKind()
	for _, k := range api.Kinds() {
		if k.GroupVersionKind == gvk {
			if u.GetName() == "" && u.GetGenerateName() == "" {
				return nil, fmt.Errorf("%s: metadata.name is missing", where)
			}
			return []manifest{{kind: k, object: u, where: where}}, nil
		}
	}
	return nil, fmt.Errorf("%s: no kind %q in version %q: is one of them misspelt? (the kinds are %s; kubectl also applies those that CustomResourceDefinitions define)", where, gvk.Kind, u.GetAPIVersion(), strings.Join(kindNames(), ", "))
}

// splitDocuments cuts a stream at lines that are "---", keeping every line so that positions can be counted.
func splitDocuments(b []byte) [][]byte {
	var docs [][]byte
	var doc []byte
	for line := range bytes.Lines(b) {
		if bytes.HasPrefix(line, []byte("---")) && len(bytes.TrimSpace(bytes.TrimPrefix(line, []byte("---")))) == 0 {
			docs = append(docs, doc)
			doc = []byte("\n")
			continue
		}
		doc = append(doc, line...)
	}
	return append(docs, doc)
}

func leadingBlank(doc []byte) int {
	n := 0
	for line := range bytes.Lines(doc) {
		text := bytes.TrimSpace(line)
		if len(text) > 0 && text[0] != '#' {
			return n
		}
		n++
	}
	return 0
}

// place gives the object the namespace of the command line when it names none; naming another one is an error.
func (m *manifest) place(g *Globals, explicit bool) error {
	if !m.kind.Namespaced {
		return nil
	}
	switch ns := m.object.GetNamespace(); {
	case ns == "":
		m.object.SetNamespace(g.Namespace)
	case explicit && ns != g.Namespace:
		return fmt.Errorf("%s: the object is for namespace %q, the command for %q: leave -n out or change metadata.namespace", m.where, ns, g.Namespace)
	}
	return nil
}

// in puts the manifest's place before err.
func (m *manifest) in(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %s: %w", m.where, shown(m.kind, m.object.GetName()), err)
}

func (f files) required() error {
	if len(f.Filename) == 0 {
		return usagef("name a file: -f FILE (or -f - for standard input)")
	}
	return nil
}

var errPartly = errors.New("not everything was done; what was printed before is")
