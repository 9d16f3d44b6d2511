//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

const backedUp = `apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: prices, namespace: shop}
data: {apple: "1"}
---
apiVersion: v1
kind: Secret
metadata: {name: key, namespace: shop}
stringData: {key: sesame}
---
apiVersion: v1
kind: Service
metadata: {name: till, namespace: shop}
spec: {selector: {app: till}, ports: [{port: 80}]}
---
apiVersion: v1
kind: ReplicationController
metadata: {name: till, namespace: shop}
spec:
  replicas: 2
  selector: {app: till}
  template:
    metadata: {labels: {app: till}}
    spec: {containers: [{name: c, image: nowhere.local/none:1}]}
`

// TestBackup takes a backup at one machine of two and restores it: a namespace, everything, and into a new cluster on a third machine.
func TestBackup(t *testing.T) {
	all := bareNetwork(t, "one", "two", "new")
	one, two, fresh := all["one"], all["two"], all["new"]
	id, err := age.GenerateX25519Identity()
	must(t, err)
	one.write("/etc/shoal/config.toml", fmt.Sprintf("[backup]\nevery = \"1m\"\nkeep = 2\ndirectory = \"/var/lib/shoal/backups\"\nrecipients = [%q]\n", id.Recipient()))
	one.up().ready()
	two.up("--join", "one", "--token", strings.TrimSpace(one.shoal("token", "create"))).ready()
	together(t, map[string]*bare{"one": one, "two": two})
	for _, m := range all {
		m.write("/run/pass", "correct horse\n")
	}
	one.fed(backedUp, "apply", "-f", "-")
	ip := one.shoal("get", "svc", "till", "-n", "shop", "-o", "jsonpath={.spec.clusterIP}")
	uid := one.shoal("get", "cm", "prices", "-n", "shop", "-o", "jsonpath={.metadata.uid}")

	step(t, "bad input", all, func(t *testing.T) {
		two.refused(t, "backup without a key", two.run("shoal", "backup", "/run/b"), "encrypted", "--passphrase-file")
		two.refused(t, "backup for two", two.run("shoal", "backup", "/run/b", "--passphrase-file", "/run/pass", "--recipient", "age1x"), "either")
		two.refused(t, "backup for nobody", two.run("shoal", "backup", "/run/b", "--recipient", "me"), "age1")
		two.refused(t, "backup over a file", two.run("shoal", "backup", "/run/pass", "--passphrase-file", "/run/pass"), "is there already", "--force")
		two.refused(t, "backup into nowhere", two.run("shoal", "backup", "/nowhere/b", "--passphrase-file", "/run/pass"), "/nowhere")
		two.refused(t, "restore what is none", two.run("shoal", "restore", "/run/pass", "--passphrase-file", "/run/pass"), "/run/pass", "not a backup")
		two.refused(t, "restore -n", two.run("shoal", "restore", "/run/pass", "-n", "shop", "--yes", "--passphrase-file", "/run/pass"), "--only shop", "everything")
		two.refused(t, "restore what is not there", two.run("shoal", "restore", "/run/none", "--passphrase-file", "/run/pass"), "/run/none")
	})

	t.Log(two.shoal("backup", "/run/b", "--passphrase-file", "/run/pass"))
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/run/b", two.pid))
	must(t, err)
	if strings.Contains(string(data), "sesame") || strings.Contains(string(data), "prices") {
		t.Error("the backup is readable")
	}
	fresh.write("/run/b", string(data))
	two.fed(strings.Replace(backedUp, `apple: "1"`, `apple: "2"`, 1), "apply", "-f", "-")
	changed := two.shoal("get", "cm", "prices", "-n", "shop", "-o", "jsonpath={.metadata.resourceVersion}")

	step(t, "what was", all, func(t *testing.T) {
		out := one.shoal("history", "cm", "prices", "-n", "shop")
		t.Log(out)
		if !strings.Contains(lineOf(out, changed), `data.apple: "1" → "2"`) || !strings.Contains(out, "created") {
			t.Error("the history does not tell")
		}
		var before uint64
		if _, err := fmt.Sscan(changed, &before); err != nil {
			t.Fatal(err)
		}
		then := fmt.Sprint(before - 1)
		if out := one.shoal("get", "cm", "prices", "-n", "shop", "--as-of", then, "-o", "jsonpath={.items[0].data.apple}{.data.apple}"); out != "1" {
			t.Errorf("as of %s it was %q", then, out)
		}
		if out := one.shoal("get", "cm", "-n", "shop", "--as-of", then); !strings.Contains(out, "prices") {
			t.Errorf("as of %s there was %s", then, out)
		}
		one.refused(t, "get --as-of 1", one.run("shoal", "get", "cm", "prices", "-n", "shop", "--as-of", "1"), "revision 1")
		one.refused(t, "get --as-of the future", one.run("shoal", "get", "cm", "--as-of", "99999999"), "99999999")
	})
	step(t, "a namespace", all, func(t *testing.T) {
		two.shoal("delete", "ns", "shop")
		one.write("/run/b", string(data))
		out := one.shoal("restore", "--only", "shop", "/run/b", "--passphrase-file", "/run/pass")
		t.Log(out)
		if !strings.Contains(out, "Would restore namespace shop") || !strings.Contains(out, "--yes") {
			t.Error("the dry run does not say so")
		}
		if got := one.run("shoal", "get", "ns", "shop"); got.code == 0 {
			t.Error("the dry run did it")
		}
		t.Log(two.shoal("restore", "--only", "shop", "/run/b", "--passphrase-file", "/run/pass", "--yes"))
		for _, m := range []*bare{one, two} {
			asBefore(t, m, ip, uid)
		}
	})
	step(t, "everything", all, func(t *testing.T) {
		one.shoal("delete", "ns", "shop")
		one.shoal("create", "namespace", "later")
		t.Log(two.shoal("restore", "/run/b", "--passphrase-file", "/run/pass", "--yes"))
		asBefore(t, one, ip, uid)
		if out := two.shoal("get", "ns", "-o", "name"); strings.Contains(out, "later") {
			t.Errorf("what came later is there: %s", out)
		}
		nodes(t, map[string]*bare{"one": one, "two": two})
	})
	step(t, "by itself", all, func(t *testing.T) {
		kept, err := filepath.Glob(filepath.Join(one.dir, "data/backups/shoal-*.age"))
		must(t, err)
		if len(kept) == 0 || len(kept) > 2 {
			t.Fatalf("kept are %v", kept)
		}
		one.write("/run/identity", id.String()+"\n")
		last := "/var/lib/shoal/backups/" + filepath.Base(kept[len(kept)-1])
		if out := one.shoal("restore", last, "--identity-file", "/run/identity"); !strings.Contains(out, "Would restore the cluster") {
			t.Errorf("%s", out)
		}
		one.refused(t, "restore with another passphrase", one.run("shoal", "restore", last, "--passphrase-file", "/run/pass"), "not the one")
	})
	step(t, "a new cluster", all, func(t *testing.T) {
		two.refused(t, "restore --new beside a peer", two.run("shoal", "restore", "/run/b", "--new", "--passphrase-file", "/run/pass"), "another peer runs")
		two.daemon.stop()
		two.refused(t, "restore --new over a peer", two.run("shoal", "restore", "/run/b", "--new", "--passphrase-file", "/run/pass"), "is that of a peer", "--new")
		t.Log(fresh.shoal("restore", "/run/b", "--new", "--passphrase-file", "/run/pass"))
		fresh.up().ready()
		asBefore(t, fresh, ip, uid)
		if now := revision(t, fresh); now < 1_000_000_000 {
			t.Errorf("it begins at revision %d", now)
		}
		within(t, 30*time.Second, "the pods are made anew", func(context.Context) error {
			out := fresh.shoal("get", "pods", "-n", "shop", "-o", "wide")
			if strings.Count(out, " new ") != 2 || strings.Contains(out, " one ") || strings.Contains(out, " two ") {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
		if out := fresh.shoal("get", "nodes", "-o", "name"); out != "node/new\n" {
			t.Errorf("the nodes are %s", out)
		}
	})
}

// asBefore checks that a machine shows the shop as it was backed up.
func asBefore(t *testing.T, m *bare, ip, uid string) {
	t.Helper()
	for what, want := range map[string]string{
		"svc till {.spec.clusterIP}": ip, "cm prices {.metadata.uid}": uid, "cm prices {.data.apple}": "1", "secret key {.data.key}": "c2VzYW1l",
		"rc till {.spec.replicas}": "2", "ns shop {.status.phase}": "Active",
	} {
		args := strings.Fields(what)
		if got := m.shoal("get", args[0], args[1], "-n", "shop", "-o", "jsonpath="+args[2]); got != want {
			t.Errorf("%s: %s is %q, not %q", m.name, what, got, want)
		}
	}
}

// fed runs the command line with an input.
func (m *bare) fed(input string, args ...string) string {
	m.t.Helper()
	got := m.runFed(input, append([]string{"shoal"}, args...)...)
	if got.code != 0 {
		m.t.Fatalf("%s# shoal %s: exit %d\n%s%s", m.name, strings.Join(args, " "), got.code, got.out, got.err)
	}
	return got.out
}
