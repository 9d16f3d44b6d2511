package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"shoal/internal/audit"
)

type auditCmd struct {
	User   string        `placeholder:"NAME" help:"Only what this user asked for, or somebody as this user."`
	Since  time.Duration `placeholder:"1h" help:"Only what is not older."`
	Denied bool          `help:"Only what was refused."`
	Last   int           `default:"50" placeholder:"N" help:"The newest N; 0 for all."`
	Verify bool          `help:"Show nothing, but read all of it."`
	Output string        `short:"o" enum:"table,json" default:"table" help:"table, or json: one object a line."`
}

// Run reads the audit log of this machine's peer, whether that runs or not. Its lines are checked as they are read: one that is not as it was written, or that is
// missing, is an error.
func (c auditCmd) Run(_ context.Context, g *Globals, std streams) error {
	if c.Last < 0 {
		return usagef("--last %d: there are no fewer than none", c.Last)
	}
	dir := filepath.Join(g.DataDir, "audit")
	var found []audit.Record
	oldest := time.Now().Add(-c.Since)
	summary, err := audit.Read(dir, func(r audit.Record) {
		if c.Verify || c.Since > 0 && r.Time.Before(oldest) || !c.wants(&r) {
			return
		}
		found = append(found, r)
		if c.Last > 0 && len(found) > 2*c.Last {
			found = append(found[:0], found[len(found)-c.Last:]...)
		}
	})
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s has no audit log: each peer keeps its own, on its machine; --data-dir DIR says where, log.audit.enabled in the peer's configuration whether", g.DataDir)
	}
	if c.Last > 0 && len(found) > c.Last {
		found = found[len(found)-c.Last:]
	}
	if printed := c.print(found, std); printed != nil {
		return printed
	}
	if err != nil {
		return fmt.Errorf("the audit log was tampered with, or damaged: %w", err)
	}
	if c.Verify {
		fmt.Fprintf(std.out, "whole: records %d to %d in %d files\nhead: %s\n", summary.First, summary.Last, summary.Files, summary.Head)
	}
	return nil
}

func (c auditCmd) wants(r *audit.Record) bool {
	return (c.User == "" || c.User == r.User || c.User == r.By) && (!c.Denied || r.Decision == audit.Forbid)
}

func (c auditCmd) print(all []audit.Record, std streams) error {
	if c.Output == "json" {
		out := json.NewEncoder(std.out)
		for i := range all {
			if err := out.Encode(&all[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if c.Verify {
		return nil
	}
	w := tabwriter.NewWriter(std.out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "TIME\tUSER\tVERB\tWHAT\tDECISION\tCODE\tREVISION\tFROM")
	for i := range all {
		r := &all[i]
		if r.Verb == "" {
			fmt.Fprintf(w, "%s\t-\t-\t%s\t-\t-\t-\t-\n", r.Time.Format(time.RFC3339), printable(r.Note))
			continue
		}
		who, from := cmp.Or(r.User, "-"), r.From
		if r.By != "" {
			who += " (" + r.By + ")"
		}
		if r.Via != "" {
			from += " via " + r.Via
		}
		code := strconv.Itoa(r.Code)
		if r.Code == 0 {
			code = "begun"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Time.Format(time.RFC3339), printable(who), r.Verb, printable(whatOf(r)), r.Decision, code, orDash(r.Revision), from)
	}
	return w.Flush()
}

// whatOf is a request's object as people write it: NAMESPACE/RESOURCE/NAME, and a subresource.
func whatOf(r *audit.Record) string {
	if r.Resource == "" {
		return r.Path
	}
	what := r.Resource
	if r.Group != "" {
		what += "." + r.Group
	}
	for _, part := range []string{r.Name, r.Subresource} {
		if part != "" {
			what += "/" + part
		}
	}
	if r.Namespace != "" && r.Resource != "namespaces" {
		what += " in " + r.Namespace
	}
	return what
}

// printable keeps what clients chose from being more than text on a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
