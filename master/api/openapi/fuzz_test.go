package openapi

import (
	"encoding/json"
	"testing"

	shoalapi "shoal/internal/api"
)

// FuzzSchema: whatever somebody gives a kind as its schema, every form of the documents can be written.
func FuzzSchema(f *testing.F) {
	for _, s := range []string{string(things().Schema), `{"properties":7}`, `{"items":[{}],"allOf":[{"not":{}}]}`, `{"default":{"a":null}}`, `"`} {
		f.Add([]byte(s))
	}
	scheme := shoalapi.NewScheme()
	dialects := map[form]*definitions{formProto2: newDefinitions(v2, newMaker(scheme)), formProto3: newDefinitions(v3, newMaker(scheme))}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for form, d := range dialects {
			s := d.customObject(raw)
			if b := appendJSON(nil, s); !json.Valid(b) {
				t.Errorf("no JSON: %s", b)
			}
			if !sound(d.dialect, s) {
				t.Errorf("no %s: %s", form, appendJSON(nil, s))
			}
		}
	})
}

func TestNegotiation(t *testing.T) {
	both := []form{formJSON, formProto2}
	for _, c := range []struct {
		accept string
		want   form
	}{
		{"", formJSON},
		{" ", formJSON},
		{"*/*", formJSON},
		{"application/json", formJSON},
		{"APPLICATION/JSON; charset=utf-8", formJSON},
		{"application/com.github.proto-openapi.spec.v2@v1.0+protobuf", formProto2},
		{"application/com.github.proto-openapi.spec.v2.v1.0+protobuf", formProto2},
		{"application/json;q=0.5, application/com.github.proto-openapi.spec.v2@v1.0+protobuf", formProto2},
		{"application/com.github.proto-openapi.spec.v2@v1.0+protobuf;q=0.1,*/*", formJSON},
		{"application/json;q=0", ""},
		{"application/json;q=much", ""},
		{"text/html", ""},
		{",;,;q", ""},
	} {
		if got, ok := negotiate(c.accept, both); got != c.want || ok != (c.want != "") {
			t.Errorf("%q: %q %v, want %q", c.accept, got, ok, c.want)
		}
	}
}
