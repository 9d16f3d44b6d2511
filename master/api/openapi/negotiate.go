package openapi

import (
	"strconv"
	"strings"
)

// form is an encoding of a document; it has the media type of the answer.
type form string

const (
	formJSON   form = "application/json"
	formProto2 form = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
	formProto3 form = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"
)

// offersOf returns the forms of the document at a path, the preferred first; nil when no path is like this.
func offersOf(path string) []form {
	switch {
	case path == "v2":
		return []form{formJSON, formProto2}
	case path == "v3":
		return []form{formJSON}
	}
	if _, ok := groupVersionOf(path); ok {
		return []form{formJSON, formProto3}
	}
	return nil
}

// negotiate picks the form that a header wants most. Media types are compared as text: the older names of the protobuf
// forms have an @, which no parser of media types takes.
func negotiate(accept string, offers []form) (form, bool) {
	if strings.TrimSpace(accept) == "" {
		return offers[0], true
	}
	var best form
	most := 0.0
	for clause := range strings.SplitSeq(accept, ",") {
		media, params, _ := strings.Cut(clause, ";")
		media = strings.Replace(strings.ToLower(strings.TrimSpace(media)), "@v1.0+", ".v1.0+", 1)
		q := 1.0
		for p := range strings.SplitSeq(params, ";") {
			if v, ok := strings.CutPrefix(strings.TrimSpace(p), "q="); ok {
				q, _ = strconv.ParseFloat(v, 64) // what is no number is not wanted
			}
		}
		if media == "*/*" || media == "application/*" {
			media = string(offers[0])
		}
		for _, f := range offers {
			if media == string(f) && q > most {
				best, most = f, q
			}
		}
	}
	return best, best != ""
}

// Media returns the media types of the document at a path of a request, for the refusal of others.
func Media(path string) []string {
	var out []string
	for _, f := range offersOf(strings.Trim(strings.TrimPrefix(path, "/openapi/"), "/")) {
		out = append(out, string(f))
	}
	return out
}
