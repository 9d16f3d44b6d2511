//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shoal/internal/api"
	"shoal/internal/peer"
)

// TestRecover loses two of three machines, goes on with the third one alone, and then the two come back with all they had, which by
// itself is a quorum.
func TestRecover(t *testing.T) {
	all := bareNetwork(t, "one", "two", "three")
	one, two, three := all["one"], all["two"], all["three"]
	for _, m := range all {
		m.write("/etc/shoal/config.toml", identicalFile)
		m.up()
	}
	id := together(t, all)
	one.shoal("create", "namespace", "kept")
	before := revision(t, one)

	step(t, "not while the others are there", all, func(t *testing.T) {
		one.refused(t, "recover beside the peer", one.run("shoal", "recover"), "another peer runs", "/var/lib/shoal")
		one.daemon.stop()
		one.refused(t, "recover --yes", one.run("shoal", "recover", "--yes"), "a majority", "three, two", "start this peer", "--force")
		one.refused(t, "both ways", one.run("shoal", "recover", "--yes", "--rejoin"), "--rejoin", "--yes")
		one.up().ready()
		if together(t, all) != id {
			t.Error("another cluster")
		}
	})
	step(t, "the last machine alone", all, func(t *testing.T) {
		two.powerOff()
		three.powerOff()
		one.daemon.stop()
		held := one.holds()
		out := one.shoal("recover")
		t.Log(out)
		for _, want := range []string{id, "one of 3 voters", "Kept:  revision", "Left:  three, two", "Nothing has been changed", "a cluster of one: shoal recover --yes"} {
			if !strings.Contains(out, want) {
				t.Errorf("the dry run does not say %q", want)
			}
		}
		if now := one.holds(); now != held {
			t.Errorf("the dry run changed the files from\n%s to\n%s", held, now)
		}
		var r peer.Recovery
		if err := json.Unmarshal([]byte(one.shoal("recover", "--yes", "-o", "json")), &r); err != nil {
			t.Fatal(err)
		}
		if !r.Done || r.NewCA || r.Revision < before || r.Committed+3 < r.Revision {
			t.Errorf("recovered %+v; the revision was %d", r, before)
		}
		one.up().ready()
		if out := one.shoal("get", "ns", "-o", "name"); !strings.Contains(out, "namespace/kept\n") {
			t.Errorf("what was there is not: %s", out)
		}
		one.shoal("create", "namespace", "after")
		one.shoal("status")
		if now := revision(t, one); now < before+1_000_000_000 {
			t.Errorf("revision %d after %d", now, before)
		}
	})
	step(t, "who was left behind is not let in", all, func(t *testing.T) {
		for _, m := range []*bare{two, three} {
			m.powerOn()
		}
		one.net.tellHosts()
		two.up()
		three.up()
		for _, m := range []*bare{two, three} {
			got := m.daemon.ends(60 * time.Second)
			m.refused(t, "up", said{err: got.err[strings.LastIndex(got.err, "shoal: "):], code: got.code},
				"recovered at peer one", "epoch", "shoal recover --rejoin")
			again := m.up().ends(20 * time.Second) // it remembers
			m.refused(t, "up again", said{err: again.err[strings.LastIndex(again.err, "shoal: "):], code: again.code}, "was recovered", "shoal recover --rejoin")
		}
		one.shoal("create", "namespace", "undisturbed")
	})
	step(t, "they come back without what they had", all, func(t *testing.T) {
		for _, m := range []*bare{two, three} {
			t.Log(m.shoal("recover", "--rejoin"))
			m.up()
		}
		if together(t, all) != id {
			t.Error("another cluster")
		}
		nodes(t, all)
		if got := strings.Count(two.holds()+three.holds(), "/raft.aside-0/log/"); got == 0 {
			t.Error("what they had was not kept aside")
		}
	})
	step(t, "a disk that changes what was written", all, func(t *testing.T) {
		two.daemon.stop()
		logs, err := filepath.Glob(filepath.Join(two.dir, "data/raft/log/*.wal"))
		must(t, err)
		if len(logs) == 0 {
			t.Fatal("two has no log")
		}
		damage(t, logs[len(logs)-1])
		got := two.up().ends(30 * time.Second)
		two.refused(t, "up", said{err: got.err[strings.LastIndex(got.err, "shoal: "):], code: got.code}, "log entry", "the disk has changed", "shoal recover --rejoin")
		two.shoal("recover", "--rejoin")
		two.up()
		if together(t, all) != id {
			t.Error("another cluster")
		}
	})
	step(t, "and the cluster survives as before", all, func(t *testing.T) {
		one.powerOff()
		two.shoal("create", "namespace", "without-one")
		one.powerOn()
		one.net.tellHosts()
		one.up()
		if together(t, all) != id {
			t.Error("another cluster")
		}
		if out := three.shoal("get", "ns", "-o", "name"); !strings.Contains(out, "/kept\n") || !strings.Contains(out, "/after\n") {
			t.Errorf("three has %s", out)
		}
	})
}

// TestRecoverFromAReplica goes on with a machine that never voted and so has no copy of the CA's key.
func TestRecoverFromAReplica(t *testing.T) {
	all := bareNetwork(t, "one", "two")
	one, two := all["one"], all["two"]
	for _, m := range all {
		m.write("/etc/shoal/config.toml", "[raft]\nvoters = 1\n")
	}
	one.up().ready()
	two.up("--join", "one", "--token", strings.TrimSpace(one.shoal("token", "create"))).ready()
	within(t, 20*time.Second, "two is a replica", func(context.Context) error {
		if line := lineOf(one.shoal("peers"), "two"); !strings.Contains(line, api.RoleReplica) {
			return fmt.Errorf("%s", line)
		}
		return nil
	})
	one.shoal("create", "namespace", "kept")
	if out := one.shoal("--peer", "two", "get", "ns", "kept", "-o", "name"); out != "namespace/kept\n" {
		t.Errorf("two has %q", out)
	}
	const secret = "{apiVersion: v1, kind: Secret, metadata: {name: theirs}, stringData: {a: correct-horse}}"
	one.fed(secret, "apply", "-f", "-")
	if out := one.shoal("--peer", "two", "get", "secret", "theirs", "-o", "jsonpath={.data.a}"); out != "Y29ycmVjdC1ob3JzZQ==" {
		t.Errorf("through two the Secret is %q", out)
	}
	one.powerOff()
	two.daemon.stop()
	out := two.shoal("recover", "--yes")
	t.Log(out)
	for _, want := range []string{"a replica without a vote", "new CA", "Lost:  1 of the Secrets", "Left:  one", "is now a cluster of one"} {
		if !strings.Contains(out, want) {
			t.Errorf("recover does not say %q", want)
		}
	}
	two.up().ready()
	two.shoal("create", "namespace", "after")
	two.refused(t, "get a Secret that is lost", two.run("shoal", "get", "secret", "theirs"), "not found")
	two.fed(secret, "apply", "-f", "-")
	if out := two.shoal("rotate", "secrets", "--status"); !strings.Contains(out, "1 Secrets are sealed") || !strings.Contains(out, "It is with: two.") {
		t.Error(out)
	}
	token := strings.TrimSpace(two.shoal("token", "create"))

	one.powerOn()
	one.net.tellHosts()
	one.shoal("recover", "--rejoin")
	one.up("--join", "two", "--token", token).ready()
	for name := range all {
		if out := two.shoal("--peer", name, "get", "ns", "-o", "name"); !strings.Contains(out, "/kept\n") || !strings.Contains(out, "/after\n") {
			t.Errorf("%s has %s", name, out)
		}
	}
	one.refused(t, "get", one.run("shoal", "get", "ns"), "no administrator's certificate")
	within(t, 60*time.Second, "nodes", func(context.Context) error {
		if out := two.shoal("get", "nodes"); strings.Count(out, " Ready ") != 2 {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}

// damage changes a byte in the middle of an entry of a log; between entries some mean nothing.
func damage(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	at := bytes.Index(b, []byte("made-on-"))
	if at < 0 {
		t.Fatalf("%s has none of the namespaces that were made", path)
	}
	b[at] ^= 0x10
	must(t, os.WriteFile(path, b, 0o600))
}

// revision returns the cluster's as a machine sees it.
func revision(t *testing.T, m *bare) uint64 {
	t.Helper()
	var list api.PeerList
	if err := json.Unmarshal([]byte(m.shoal("peers", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	return list.Revision
}
