// Package audit keeps what was asked of a peer's API: who, what, when, from where, what was decided and which revision it made. It is a log in files, one
// JSON object a line, that are renamed as they grow. Each line has the hash of the one before, so that nobody can change, remove or insert one without
// changing all that follow; Verify tells. What a request's body or answer says is never in it.
package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"
)

// Record is one line.
type Record struct {
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
	// What is not about a request: lines that were lost, a log that was cut off.
	Note string `json:"note,omitempty"`

	User   string   `json:"user,omitempty"`
	Groups []string `json:"groups,omitempty"`
	By     string   `json:"by,omitempty"`   // who acts as User
	From   string   `json:"from,omitempty"` // the client's address
	Via    string   `json:"via,omitempty"`  // the peer that passed it on
	Agent  string   `json:"agent,omitempty"`

	Verb        string `json:"verb,omitempty"`
	Group       string `json:"group,omitempty"`
	Resource    string `json:"resource,omitempty"`
	Subresource string `json:"subresource,omitempty"`
	Namespace   string `json:"namespace,omitempty"`
	Name        string `json:"name,omitempty"`
	Path        string `json:"path,omitempty"` // of what is about no resource

	Decision string `json:"decision,omitempty"` // Allow or Forbid
	Code     int    `json:"code,omitempty"`     // 0: a conversation that begins
	Revision string `json:"revision,omitempty"` // that a write made
	// Annotations are what admission had to say, under Kubernetes' keys.
	Annotations map[string]string `json:"annotations,omitempty"`

	Prev string `json:"prev"` // hash of the line before
}

// The decisions.
const (
	Allow  = "allow"
	Forbid = "forbid"
)

// longest is what a text of a record may have: clients choose names, paths and agents.
const longest = 512

func (r *Record) shorten() {
	for _, s := range []*string{&r.User, &r.By, &r.From, &r.Via, &r.Agent, &r.Verb, &r.Group, &r.Resource, &r.Subresource, &r.Namespace, &r.Name, &r.Path} {
		if len(*s) > longest {
			*s = (*s)[:longest] + "…"
		}
	}
	for key, text := range r.Annotations {
		if len(text) > longest {
			r.Annotations = maps.Clone(r.Annotations)
			r.Annotations[key] = text[:longest] + "…"
		}
	}
	const most = 20
	if len(r.Groups) > most {
		r.Groups = append(r.Groups[:most:most], "…")
	}
	for i, g := range r.Groups {
		if len(g) > longest {
			r.Groups[i] = g[:longest] + "…"
		}
	}
}

const (
	hashKey  = `,"hash":"`
	hashSize = len(hashKey) + 2*sha256.Size + len(`"}`)
)

// line writes r with its hash, and returns that.
func (r *Record) line() (text []byte, hash string, err error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(body)
	hash = hex.EncodeToString(sum[:])
	text = append(body[:len(body)-1], hashKey...)
	text = append(text, hash...)
	return append(text, "\"}\n"...), hash, nil
}

var errHash = errors.New("its hash is not that of what it says")

// parse reads a line without its end, and returns its hash. Exactly what was written is accepted.
func parse(text []byte) (r Record, hash string, err error) {
	at := len(text) - hashSize
	if at < 2 || !bytes.HasPrefix(text[at:], []byte(hashKey)) || !bytes.HasSuffix(text, []byte(`"}`)) {
		return r, "", errors.New("it is no line of an audit log")
	}
	hash = string(text[at+len(hashKey) : len(text)-len(`"}`)])
	body := append(bytes.Clone(text[:at]), '}')
	sum := sha256.Sum256(body)
	if hex.EncodeToString(sum[:]) != hash {
		return r, "", errHash
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return r, "", fmt.Errorf("it is no line of an audit log: %w", err)
	}
	return r, hash, nil
}
