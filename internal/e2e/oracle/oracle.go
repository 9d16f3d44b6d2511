// Package oracle replays what a real Kubernetes API server answered against another server, and tells where the answers differ.
//
// A recorded answer agrees when code, reason, the fields and reasons of the causes, content type and types of events are the same and
// every recorded field is there and equal; fields may be added, and texts of messages are not compared.
package oracle

import (
	"bufio"
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"path"
	"slices"
)

// Case is one recorded request with its answer.
type Case struct {
	ID    string
	Group string
	Seq   string
	Step  int
	// Indep means that the case does not depend on others of its sequence; what it creates is deleted at once.
	Indep bool
	// KeepManaged means that managedFields are compared.
	KeepManaged bool `json:"keep_managed"`
	// Save names paths in the answer whose values later steps use.
	Save map[string]string
	// Sleep is how many seconds to wait before the request.
	Sleep   float64
	Request struct {
		Method, Path string
		Query        map[string]string
		Headers      map[string]*string
		Body         json.RawMessage
		Raw          *string
		// Auth is empty for the administrator, "none", "token:" with a token, or "raw:" with a header's value.
		Auth string
	}
	Response Answer
}

// Answer is what a server said, without what differs between two runs of the same server.
type Answer struct {
	Code    int
	Reason  *string // of a Status that tells of a failure
	Message string
	Causes  []Cause
	Headers map[string]any
	Object  any
	Events  []any
	Text    *string // anything else
}

// Cause is one of a failure.
type Cause struct{ Field, Reason, Message string }

//go:embed testdata
var testdata embed.FS

// Sequences returns the recorded cases, each sequence in its order. A sequence begins in a new namespace.
func Sequences() ([][]*Case, error) {
	files, err := testdata.ReadDir("testdata")
	if err != nil {
		return nil, err
	}
	var all [][]*Case
	index := map[string]int{}
	for _, f := range files {
		if path.Ext(f.Name()) != ".jsonl" {
			continue
		}
		r, err := testdata.Open("testdata/" + f.Name())
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, 16<<20)
		for n := 1; lines.Scan(); n++ {
			c := &Case{}
			if err := json.Unmarshal(lines.Bytes(), c); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", f.Name(), n, err)
			}
			i, ok := index[c.Seq]
			if !ok {
				i = len(all)
				index[c.Seq], all = i, append(all, nil)
			}
			all[i] = append(all[i], c)
		}
		if err := lines.Err(); err != nil {
			return nil, err
		}
	}
	for _, s := range all {
		slices.SortStableFunc(s, func(a, b *Case) int { return cmp.Compare(a.Step, b.Step) })
	}
	return all, nil
}
