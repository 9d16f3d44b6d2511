package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shoal/internal/audit"
)

func TestAudit(t *testing.T) {
	dir := t.TempDir()
	if _, stderr, code := cli(t, "", "--data-dir", dir, "audit"); code != exitFailed || !strings.Contains(stderr, "has no audit log: each peer keeps its own") {
		t.Errorf("none: code %d, %s", code, stderr)
	}
	l, err := audit.Open(audit.Config{Dir: filepath.Join(dir, "audit")})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []audit.Record{
		{User: "jane", Verb: "create", Resource: "pods", Namespace: "team", Decision: audit.Allow, Code: 201, Revision: "7", From: "192.0.2.1:5"},
		{User: "eve\x1b[2J", By: "root", Verb: "delete", Resource: "namespaces", Namespace: "team", Name: "team", Decision: audit.Forbid, Code: 403, Via: "peer-2"},
		{Note: "3 records could not be written"},
		{User: "jane", Verb: "create", Resource: "pods", Subresource: "exec", Name: "web", Namespace: "team", Decision: audit.Allow},
		{User: "jane", Verb: "post", Path: "/shoal/v1/tokens", Decision: audit.Allow, Code: 200},
	} {
		l.Write(r)
	}
	l.Close()
	for args, want := range map[string][]string{
		"":                             {"jane", "pods in team", "201", "7", "192.0.2.1:5", "eve?[2J (root)", "namespaces/team", "via peer-2", "3 records could not be written", "pods/web/exec in team", "begun", "/shoal/v1/tokens"},
		"--user jane":                  {"201", "!eve", "!records"},
		"--user root":                  {"eve", "!201"},
		"--denied":                     {"eve", "!jane"},
		"--last 1":                     {"/shoal/v1/tokens", "!exec", "!eve"},
		"--last 0":                     {"eve", "exec"},
		"--since 1h":                   {"eve"},
		"--since 1ns":                  {"!eve"},
		"--verify":                     {"whole: records 1 to 5 in 1 files", "head: ", "!jane"},
		"--denied -o json":             {`"decision":"forbid"`, "!jane"},
		"--user jane --last 2 -o json": {`"subresource":"exec"`, `!"code":201`},
	} {
		out, stderr, code := cli(t, "", append([]string{"--data-dir", dir, "audit"}, strings.Fields(args)...)...)
		if code != 0 || stderr != "" {
			t.Errorf("audit %s: code %d, %s", args, code, stderr)
		}
		for _, w := range want {
			if text, not := strings.CutPrefix(w, "!"); strings.Contains(out, text) == not {
				t.Errorf("audit %s: %q in it is %t\n%s", args, text, !not, out)
			}
		}
	}
	path := filepath.Join(dir, "audit", "audit.log")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(b), "jane", "john", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"", "--verify"} {
		_, stderr, code := cli(t, "", append([]string{"--data-dir", dir, "audit"}, strings.Fields(args)...)...)
		if code != exitFailed || !strings.Contains(stderr, "tampered with, or damaged") || !strings.Contains(stderr, "audit.log:1: the line is not as it was written") {
			t.Errorf("audit %s of a changed log: code %d, %s", args, code, stderr)
		}
	}
}
