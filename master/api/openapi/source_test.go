package openapi

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// sources are the files of the packages that types come from, as far as comments say what facts.txt has.
type sources struct {
	structs map[string]map[string]marks // by package.Type and Go field; "." is the type
	consts  map[string]string           // by package.Name
	enums   map[string][]string         // by package.Type, for those that are marked
}

// marks are the lines of a comment that begin with a plus.
type marks map[string][]string

func readSources(t *testing.T, packages []string) *sources {
	t.Helper()
	args := append([]string{"list", "-f", "{{.ImportPath}} {{.Dir}}"}, packages...)
	out, err := exec.CommandContext(t.Context(), "go", args...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	s := &sources{structs: map[string]map[string]marks{}, consts: map[string]string{}, enums: map[string][]string{}}
	for line := range strings.Lines(string(out)) {
		pkg, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("no sources of %s in %s: %v", pkg, dir, err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") || strings.Contains(path, "generated") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range file.Decls {
				if g, ok := d.(*ast.GenDecl); ok {
					s.declaration(pkg, g)
				}
			}
		}
	}
	return s
}

func (s *sources) declaration(pkg string, g *ast.GenDecl) {
	for _, spec := range g.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			doc := spec.Doc
			if doc == nil {
				doc = g.Doc
			}
			fields := map[string]marks{".": marksOf(doc)}
			s.structs[pkg+"."+spec.Name.Name] = fields
			if st, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range st.Fields.List {
					for _, n := range f.Names {
						fields[n.Name] = marksOf(f.Doc)
					}
				}
			}
		case *ast.ValueSpec:
			s.constants(pkg, spec)
		}
	}
}

func (s *sources) constants(pkg string, spec *ast.ValueSpec) {
	for i, n := range spec.Names {
		if i >= len(spec.Values) {
			continue
		}
		typ, expr := spec.Type, spec.Values[i]
		if call, ok := expr.(*ast.CallExpr); ok && len(call.Args) == 1 {
			typ, expr = call.Fun, call.Args[0] // PathType("Exact")
		}
		lit, ok := expr.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			continue
		}
		value, _ := strconv.Unquote(lit.Value)
		s.consts[pkg+"."+n.Name] = value
		if typ, ok := typ.(*ast.Ident); ok {
			s.enums[pkg+"."+typ.Name] = append(s.enums[pkg+"."+typ.Name], value)
		}
	}
}

func marksOf(doc *ast.CommentGroup) marks {
	m := marks{}
	if doc == nil {
		return m
	}
	for _, c := range doc.List {
		line := strings.TrimSpace(strings.TrimPrefix(c.Text, "//"))
		if rest, ok := strings.CutPrefix(line, "+"); ok {
			name, value, _ := strings.Cut(rest, "=")
			m[name] = append(m[name], value)
		}
	}
	return m
}

// facts writes down what the sources say of types, as facts.txt has it.
func (s *sources) facts(t *testing.T, types []reflect.Type) string {
	var blocks []string
	for _, typ := range types {
		if b := s.block(t, typ); b != "" {
			blocks = append(blocks, typeName(typ)+"\n"+b)
		}
	}
	slices.Sort(blocks)
	return strings.Join(blocks, "")
}

func (s *sources) block(t *testing.T, typ reflect.Type) string {
	source := typ.PkgPath() + "." + typ.Name()
	fields, ok := s.structs[source]
	if !ok {
		t.Errorf("no source of %s", source)
		return ""
	}
	var lines []string
	own := fields["."].words(t, s, typ.PkgPath())
	if _, ok := fields["."]["enum"]; ok && typ.Kind() == reflect.String {
		values := slices.Clone(s.enums[source])
		slices.Sort(values)
		own = append(own, "enum="+strings.Join(slices.Compact(values), ","))
	}
	if len(own) > 0 {
		lines = append(lines, " . "+strings.Join(own, " "))
	}
	if typ.Kind() == reflect.Struct {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "-" || name == "" || !f.IsExported() {
				continue
			}
			m := fields[f.Name]
			words := m.words(t, s, typ.PkgPath())
			switch omits := strings.Contains(options, "omitempty"); {
			case m["required"] != nil && omits:
				words = append(words, "required")
			case m["required"] == nil && m["optional"] != nil && !omits:
				words = append(words, "optional")
			}
			if len(words) > 0 {
				lines = append(lines, " "+name+" "+strings.Join(words, " "))
			}
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

func (m marks) words(t *testing.T, s *sources, pkg string) []string {
	var out []string
	if v := m["listType"]; v != nil {
		out = append(out, "list="+v[0])
	}
	if v := m["listMapKey"]; v != nil {
		out = append(out, "keys="+strings.Join(v, ","))
	}
	if v := append(m["mapType"], m["structType"]...); len(v) > 0 {
		out = append(out, "map="+v[0])
	}
	if v := m["default"]; v != nil {
		def := v[0]
		if name, ok := strings.CutPrefix(def, "ref("); ok {
			value, ok := s.consts[pkg+"."+strings.TrimSuffix(name, ")")]
			if !ok {
				t.Errorf("default %s of package %s is unknown", def, pkg)
			}
			def = fmt.Sprintf("%q", value)
		}
		if !json.Valid([]byte(def)) || strings.ContainsAny(def, " \t") {
			t.Errorf("default %s does not fit into a word of JSON", def)
		}
		out = append(out, "default="+def)
	}
	return out
}
