//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestAwayAndWithoutQuorum takes the power from two of three machines, one after the other, and looks at what the last one
// tells its operator; then it brings them back.
func TestAwayAndWithoutQuorum(t *testing.T) {
	all := bareNetwork(t, "one", "two", "three")
	one, two, three := all["one"], all["two"], all["three"]
	for _, m := range all {
		m.write("/etc/shoal/config.toml", identicalFile)
		m.up()
	}
	together(t, all)
	one.shoal("create", "namespace", "kept")

	step(t, "one machine away", all, func(t *testing.T) {
		three.powerOff()
		within(t, 15*time.Second, "three is seen away", func(context.Context) error {
			if line := lineOf(one.shoal("peers"), "three"); strings.Contains(line, "Alive") {
				return fmt.Errorf("%s", line)
			}
			return nil
		})
		out := one.shoal("status")
		if !strings.Contains(lineOf(out, "Away:"), "three") || strings.Contains(lineOf(out, "Master:"), "three") {
			t.Errorf("status:\n%s", out)
		}
		one.shoal("create", "namespace", "made-by-two-of-three")
	})
	step(t, "no quorum", all, func(t *testing.T) {
		two.powerOff()
		within(t, 20*time.Second, "two is seen away", func(context.Context) error {
			if line := lineOf(one.shoal("peers"), "two"); strings.Contains(line, "Alive") {
				return fmt.Errorf("%s", line)
			}
			return nil
		})
		got := one.run("shoal", "get", "ns", "-o", "name")
		t.Logf("get ns → %d\n%s%s", got.code, got.out, got.err)
		if got.code != 0 || !strings.Contains(got.out, "namespace/kept\n") || !strings.Contains(got.out, "namespace/made-by-two-of-three\n") {
			t.Error("a read does not show what the peer has")
		}
		if n := strings.Count("\n"+got.err, "\nWarning: no quorum"); n != 1 {
			t.Errorf("the read carries %d warnings", n)
		}
		one.refused(t, "status", one.run("shoal", "status"), "no Master", "reads", "writes are refused")
		one.refused(t, "create ns", one.run("shoal", "create", "namespace", "lost"), "no Master", "majority")
		one.refused(t, "token create", one.run("shoal", "token", "create"), "no Master", "majority")
		t.Log(one.shoal("peers"))
	})
	step(t, "back again", all, func(t *testing.T) {
		two.powerOn()
		three.powerOn()
		one.net.tellHosts()
		two.up()
		three.up()
		together(t, all)
		got := one.run("shoal", "get", "ns", "-o", "name")
		if got.err != "" || strings.Contains(got.out, "/lost") || !strings.Contains(got.out, "/kept") {
			t.Errorf("%s%s", got.out, got.err)
		}
	})
}

// lineOf returns the line that begins with a word.
func lineOf(text, word string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, word) {
			return line
		}
	}
	return ""
}
