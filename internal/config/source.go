package config

import (
	"fmt"
	"reflect"
	"strings"
)

// source knows where each key of the file stands. Its zero value is no file at all.
type source struct {
	file  string
	lines map[string]int
}

// errorf begins with file, line and key. A key that is not in the file came from the command line or is a default: then
// it is named alone.
func (s source) errorf(key, format string, args ...any) error {
	line := s.lines[key]
	for parent := key; line == 0; {
		i := strings.LastIndexByte(parent, '.')
		if i < 0 {
			break
		}
		parent = parent[:i]
		line = s.lines[parent]
	}
	err := fmt.Errorf(format, args...)
	if line == 0 {
		return fmt.Errorf("%s %w", key, err)
	}
	return fmt.Errorf("%s:%d: %s %w", s.file, line, key, err)
}

// scan finds the line of every key and table of a TOML text: the decoder gives no positions for keys that it does not
// know. It need only be right for texts that the decoder accepts; a key it misses is reported without a line.
func scan(text string) map[string]int {
	lines := map[string]int{}
	table, multi := "", ""
	for i, line := range strings.Split(text, "\n") {
		if multi != "" {
			if strings.Count(line, multi)%2 == 1 {
				multi = ""
			}
			continue
		}
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			table = unquote(strings.Trim(strings.SplitN(line, "#", 2)[0], "[] \t"))
			first(lines, table, i+1)
		default:
			name, value, ok := strings.Cut(line, "=")
			if !ok {
				continue
			}
			key := unquote(name)
			if table != "" {
				key = table + "." + key
			}
			first(lines, key, i+1)
			for _, quotes := range []string{`"""`, "'''"} {
				if strings.Count(value, quotes)%2 == 1 {
					multi = quotes
				}
			}
		}
	}
	return lines
}

func first(lines map[string]int, key string, line int) {
	if lines[key] == 0 {
		lines[key] = line
	}
}

// unquote normalises a dotted key: a . "b" becomes a.b. A part with a dot in it keeps the decoder's quotes.
func unquote(key string) string {
	key = strings.TrimSpace(key)
	if strings.ContainsAny(key, `"'`) {
		if strings.Count(key, `"`) == 2 && strings.HasPrefix(key, `"`) && !strings.Contains(key, ".") {
			return strings.Trim(key, `"`)
		}
		return key
	}
	parts := strings.Split(key, ".")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return strings.Join(parts, ".")
}

// Keys returns every key that a file may have, as table.key, in the order of the struct.
func Keys() []string {
	var keys []string
	walk(reflect.TypeFor[Config](), "", func(key string, _ reflect.Type) { keys = append(keys, key) })
	return keys
}

func walk(t reflect.Type, prefix string, visit func(key string, t reflect.Type)) {
	for i := range t.NumField() {
		f := t.Field(i)
		switch {
		case f.Anonymous:
			walk(f.Type, prefix, visit)
		case f.Type.Kind() == reflect.Struct:
			walk(f.Type, prefix+f.Tag.Get("toml")+".", visit)
		default:
			visit(prefix+f.Tag.Get("toml"), f.Type)
		}
	}
}
