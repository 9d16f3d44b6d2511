package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shoal/internal/api"
)

func TestHistoryNamesWhatChanged(t *testing.T) {
	object := func(text string) json.RawMessage { return json.RawMessage(text) }
	h := api.History{Oldest: 10, Revisions: []api.Revision{
		{Revision: 20, Created: true, Object: object(`{}`)},
		{Revision: 19, Deleted: true},
		{Revision: 17, Object: object(`{"metadata":{"resourceVersion":"17","labels":{"a":"2","b":"1"}},"spec":{"replicas":5},
			"status":{"conditions":[{"type":"Ready","status":"True","lastTransitionTime":"t2"},{"type":"Seen","status":"True"}]}}`)},
		{Revision: 15, Object: object(`{"metadata":{"resourceVersion":"15","labels":{"a":"1"}},"spec":{"replicas":3,"paused":true},
			"status":{"conditions":[{"type":"Seen","status":"True"},{"type":"Ready","status":"False","lastTransitionTime":"t1"}]}}`)},
		{Revision: 12, Object: object(`{"metadata":{"resourceVersion":"12","labels":{"a":"1"}},"spec":{"replicas":3,"paused":true},
			"status":{"conditions":[{"type":"Seen","status":"True"},{"type":"Ready","status":"False","lastTransitionTime":"t0"}]}}`)},
		{Revision: 7, Object: object(`{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8}`)},
	}}
	var out bytes.Buffer
	if err := tellHistory(&out, h, false); err != nil {
		t.Fatal(err)
	}
	want := `REVISION   CHANGE
20         created
19         deleted
17         metadata.labels.a: "1" → "2"; metadata.labels.b = "1"; spec.paused removed (true); spec.replicas: 3 → 5; status.conditions[Ready].status: "False" → "True"
15         metadata only
12         a removed (1); b removed (2); c removed (3); d removed (4); e removed (5); f removed (6); and 9 fields more
7          (before revision 10, back to which everything is kept)
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestHistoryOfASecretShowsNoValues(t *testing.T) {
	h := api.History{Revisions: []api.Revision{
		{Revision: 2, Object: json.RawMessage(`{"data":{"key":"bmV3"},"type":"Opaque"}`)}, {Revision: 1, Created: true, Object: json.RawMessage(`{"data":{"key":"b2xk"}}`)},
	}}
	var out bytes.Buffer
	if err := tellHistory(&out, h, true); err != nil {
		t.Fatal(err)
	}
	if want := "REVISION   CHANGE\n2          data.key changed; type = \"Opaque\"\n1          created\n"; out.String() != want {
		t.Errorf("got %s", out.String())
	}
}
