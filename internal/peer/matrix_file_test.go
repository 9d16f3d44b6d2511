package peer

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lineWidth is about how long a line of the matrix gets.
const lineWidth = 150

// paragraph writes words behind a beginning, in lines that are not too long.
func paragraph(out *bytes.Buffer, begin string, words []string) {
	n := len(begin)
	out.WriteString(begin)
	for _, w := range words {
		if n+1+len(w) > lineWidth {
			out.WriteString("\n       ")
			n = 7
		}
		out.WriteString(" " + w)
		n += 1 + len(w)
	}
	out.WriteString("\n")
}

// head says what the matrix is about: what is new changes it.
func head(out *bytes.Buffer, table []cell) {
	out.WriteString(`# Who may do what, by the answers of a Master and a follower: see TestWhoMayDoWhat. A paragraph is about one subject in one place; * is everything that is
# asked there with the verb, and what is in no line is refused. Resources are written as RESOURCE[/SUBRESOURCE][.GROUP].

`)
	for _, scope := range []string{inMine, inOther, everywhere, byPath, deeds} {
		var all []string
		for i := range table {
			if c := &table[i]; c.scope == scope && !slices.Contains(all, c.what) {
				all = append(all, c.what)
			}
		}
		if scope == inOther {
			all = []string{"the", "same"}
		}
		paragraph(out, "asked "+scope+":", all)
	}
}

// show writes what one subject may: one paragraph for all verbs of a place with which the same is allowed.
func show(out *bytes.Buffer, subject string, table []cell, may []bool) {
	out.WriteString("\n")
	for _, scope := range []string{inMine, inOther, everywhere, byPath, deeds} {
		var sets, verbs []string
		for _, verb := range append(slices.Clone(allVerbs), "post", "do") {
			allowed, all := []string{}, 0
			for i := range table {
				if c := &table[i]; c.scope == scope && c.verb == verb {
					all++
					if may[i] {
						allowed = append(allowed, c.what)
					}
				}
			}
			set := strings.Join(allowed, "\n")
			switch {
			case len(allowed) == 0:
				continue
			case len(allowed) == all:
				set = "*"
			}
			if i := slices.Index(sets, set); i >= 0 {
				verbs[i] += " " + verb
				continue
			}
			sets, verbs = append(sets, set), append(verbs, verb)
		}
		for i, set := range sets {
			paragraph(out, fmt.Sprintf("%s, %s, %s:", subject, scope, verbs[i]), strings.Split(set, "\n"))
		}
		if len(sets) == 0 {
			paragraph(out, fmt.Sprintf("%s, %s: nothing", subject, scope), nil)
		}
	}
}

// compare wants got to be what is in a file, or writes it there.
func compare(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); diff != "" {
		t.Errorf("%s (-) is not what the peers decide (+); when that is right, go test -run TestWhoMayDoWhat ./internal/peer -update:\n%s", file, diff)
	}
}
