package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// Override changes a Config after the file is read, for what was typed on the command line.
type Override func(*Config)

// Load reads the file at path, applies the overrides in order, reads the files that token_file and cluster_secret_file
// name, fills in the host name and checks everything. An empty path means no file. Errors name the file, the line and
// the key, and say what to write instead; several are joined.
func Load(path string, overrides ...Override) (*Config, error) {
	c, src := Default(), source{}
	if path != "" {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read config: %w", err)
		}
		if c, src, err = decode(data, path); err != nil {
			return nil, err
		}
	}
	for _, o := range overrides {
		o(c)
	}
	if err := errors.Join(
		readSecret(src, "token_file", c.TokenFile, "token", &c.Token),
		readSecret(src, "cluster_secret_file", c.ClusterSecretFile, "cluster_secret", &c.ClusterSecret),
	); err != nil {
		return nil, err
	}
	if c.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("read the host name (set name to do without it): %w", err)
		}
		c.Name = strings.ToLower(host)
	}
	if err := c.check(src); err != nil {
		return nil, err
	}
	return c, nil
}

// Parse reads the text of a config file as Load does, without overrides, files or host name. file is used in errors.
func Parse(data []byte, file string) (*Config, error) {
	c, src, err := decode(data, file)
	if err != nil {
		return nil, err
	}
	if err := c.check(src); err != nil {
		return nil, err
	}
	return c, nil
}

func decode(data []byte, file string) (*Config, source, error) {
	c := Default()
	src := source{file: file, lines: scan(string(data))}
	md, err := toml.Decode(string(data), c)
	var perr toml.ParseError
	if errors.As(err, &perr) {
		where := fmt.Sprintf("%s:%d", file, perr.Position.Line)
		if perr.LastKey != "" {
			where += ": " + perr.LastKey
		}
		if perr.Message == "" {
			return nil, src, fmt.Errorf("%s: %w", where, err)
		}
		return nil, src, fmt.Errorf("%s: %s", where, perr.Message)
	}
	var errs []error
	walk(reflect.TypeFor[Config](), "", func(key string, t reflect.Type) {
		want, remedy := written(t)
		if kind := md.Type(strings.Split(key, ".")...); kind != "" && kind != want {
			errs = append(errs, src.errorf(key, "must be %s", remedy))
		}
	})
	if err != nil && len(errs) == 0 {
		errs = append(errs, fmt.Errorf("%s: %w", file, err))
	}
	unknown := map[string]bool{}
	for _, key := range md.Undecoded() {
		unknown[key.String()] = true
		// What is in an unknown table is as unknown; the table says it all.
		if err == nil && (len(key) == 1 || !unknown[key[:len(key)-1].String()]) {
			errs = append(errs, src.errorf(key.String(), "is not a key; %s", suggest(key.String())))
		}
	}
	return c, src, errors.Join(errs...)
}

// written says how a field of type t stands in a file: the decoder's name for it, and words. A duration must be text,
// because the decoder would take a bare number for nanoseconds.
func written(t reflect.Type) (kind, words string) {
	if t == reflect.TypeFor[time.Duration]() {
		return "String", `text with a unit, such as "3s" or "200ms"`
	}
	switch t.Kind() {
	case reflect.Bool:
		return "Bool", "true or false, without quotes"
	case reflect.Int:
		return "Integer", "a whole number, without quotes"
	case reflect.Slice:
		return "Array", `a list, such as ["a", "b"]`
	case reflect.Map:
		return "Hash", "a table"
	default:
		return "String", "text in quotes"
	}
}

func readSecret(src source, fileKey, path, key string, value *string) error {
	if path == "" {
		return nil
	}
	if *value != "" {
		return src.errorf(fileKey, "and %s are both set; keep one of them", key)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return src.errorf(fileKey, "cannot be read: %w", err)
	}
	if *value = strings.TrimSpace(string(data)); *value == "" {
		return src.errorf(fileKey, "names %s, which is empty; write the %s into it", path, key)
	}
	return nil
}

// suggest names the key or table that was probably meant: the same last part in another table, or a letter or two away.
func suggest(key string) string {
	last := key[strings.LastIndexByte(key, '.')+1:]
	var close []string
	for _, k := range Keys() {
		kl := k[strings.LastIndexByte(k, '.')+1:]
		if kl == last || distance(kl, last) <= 2 {
			close = append(close, k)
		}
		if table, _, ok := strings.Cut(k, "."); ok && distance(table, key) <= 2 && !slices.Contains(close, "["+table+"]") {
			close = append(close, "["+table+"]")
		}
	}
	if len(close) == 0 {
		return "see config.toml.example for all keys"
	}
	sort.Strings(close)
	return "did you mean " + strings.Join(close, " or ") + "?"
}

// distance counts the single-character edits between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
