package openapi

import (
	_ "embed"
	"encoding/json"
	"strings"
)

// factsText is what the sources of the types say in comments, which are gone when the program runs: one block a type, with a
// line for each field that needs one. The words of a line:
//
//	list=atomic|set|map  keys=a,b   how lists merge          map=atomic   a map or struct that is replaced as a whole
//	optional, required              against what the json tag suggests
//	default=JSON                    what an absent value means
//	enum=a,b                        every value of a named string
//
// A line with "." speaks of the type itself. facts_test.go holds the text against the sources and rewrites it with -update.
//
//go:embed facts.txt
var factsText string

// fact is what is known of a field, or of a type.
type fact struct {
	list, mapType      string
	keys, enum         []string
	optional, required bool
	def                json.RawMessage
}

// facts is by type ("io.k8s.api.core.v1.Container") and field ("ports", or "." for the type).
type facts map[string]map[string]fact

// readFacts parses factsText. It is done for each build, which is cheap, so that nothing stays.
func readFacts() facts {
	out := facts{}
	var fields map[string]fact
	for line := range strings.Lines(factsText) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || strings.HasPrefix(line, "#"):
		case line[0] != ' ':
			fields = map[string]fact{}
			out[words[0]] = fields
		default:
			fields[words[0]] = parseFact(words[1:])
		}
	}
	return out
}

func parseFact(words []string) fact {
	var f fact
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		switch name {
		case "list":
			f.list = value
		case "map":
			f.mapType = value
		case "keys":
			f.keys = strings.Split(value, ",")
		case "enum":
			f.enum = strings.Split(value, ",")
		case "optional":
			f.optional = true
		case "required":
			f.required = true
		case "default":
			f.def = json.RawMessage(value)
		}
	}
	return f
}

// extend adds the extensions that a fact means to a schema.
func (f fact) extend(s *object) {
	if f.list != "" {
		if len(f.keys) > 0 {
			s.add("x-kubernetes-list-map-keys", f.keys)
		}
		s.add("x-kubernetes-list-type", f.list)
	}
	if f.mapType != "" {
		s.add("x-kubernetes-map-type", f.mapType)
	}
}
