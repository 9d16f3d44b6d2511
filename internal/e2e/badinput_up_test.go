//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// refuses starts a peer that must end by itself, with one error that has every given word, code 1 or 2, and the data
// directory as it was.
func (m *bare) refuses(t *testing.T, up []string, words ...string) {
	t.Helper()
	before := m.holds()
	got := m.up(up...).ends(20 * time.Second)
	m.refused(t, "up "+strings.Join(up, " "), got, words...)
	if after := m.holds(); after != before {
		t.Errorf("the data directory was changed: %q became %q", before, after)
	}
}

func (m *bare) refused(t *testing.T, what string, got said, words ...string) {
	t.Helper()
	t.Logf("%s# shoal %s → %d\n%s%s", m.name, what, got.code, got.out, got.err)
	if got.code != 1 && got.code != 2 {
		t.Errorf("exit code %d", got.code)
	}
	if n := strings.Count("\n"+got.err, "\nshoal: "); n != 1 {
		t.Errorf("%d errors, not one", n)
	}
	_, text, _ := strings.Cut("\n"+got.err, "\nshoal: ")
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("the error does not say %q", w)
		}
	}
}

// TestUpRefuses starts peers that cannot run: bad files, bad machines, bad directories.
func TestUpRefuses(t *testing.T) {
	all := bareNetwork(t, "one", "two")
	one, two := all["one"], all["two"]
	const file = "/etc/shoal/config.toml"
	for _, c := range []struct {
		what, text string
		words      []string
	}{
		{"an unknown key", "zone = \"a\"\njion = [\"one\"]\n", []string{file + ":2: jion", "did you mean join"}},
		{"an unknown table", "[gosip]\nport = 1\n", []string{file + ":1: gosip is not a key; did you mean [gossip]?\n"}},
		{"a wrong type", "\nbootstrap_expect = \"3\"\n", []string{file + ":2: bootstrap_expect", "whole number"}},
		{"what is no TOML", "join = [\n", []string{file + ":"}},
		{"a short secret", "cluster_secret = \"short\"\n", []string{file + ":1: cluster_secret", "at least 16"}},
		{"no secret", "join = [\"one\"]\nbootstrap_expect = 3\n", []string{file + ":2: bootstrap_expect", "cluster_secret_file", "openssl rand"}},
		{"a bad name", "name = \"One!\"\n", []string{file + ":1: name", "lower-case"}},
	} {
		step(t, c.what, all, func(t *testing.T) {
			two.write(file, c.text)
			two.refuses(t, nil, c.words...)
		})
	}
	must(t, removeOn(two, file))
	step(t, "a file that is not there", all, func(t *testing.T) {
		two.refuses(t, []string{"--config", "/etc/shoal/nosuch.toml"}, "/etc/shoal/nosuch.toml")
	})
	step(t, "missing packages", all, func(t *testing.T) {
		if got := two.run("sh", "-c", `set -e; for d in bin sbin; do mkdir -p /run/over/$d/up /run/over/$d/work
			mount -t overlay overlay -o lowerdir=/usr/$d,upperdir=/run/over/$d/up,workdir=/run/over/$d/work /usr/$d; done
			rm -f /usr/sbin/runc /usr/bin/runc /usr/bin/containerd /usr/sbin/iptables-restore`); got.code != 0 {
			t.Fatal(got)
		}
		two.refuses(t, nil, "containerd, runc, iptables-restore", "apt-get install", " containerd runc iptables\n")
		got := two.run("shoal", "doctor")
		if got.code != 1 || strings.Count(got.out, "apt-get install") != 3 {
			t.Errorf("doctor: %+v", got)
		}
		if got := two.run("umount", "-l", "/usr/bin", "/usr/sbin"); got.code != 0 {
			t.Fatal(got)
		}
	})
	step(t, "not root", all, func(t *testing.T) {
		got := two.run("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "shoal", "up")
		two.refused(t, "up", got, "as root", "sudo shoal")
	})
	one.up().ready()
	step(t, "twice on one directory", all, func(t *testing.T) {
		second := one.run("shoal", "up")
		one.refused(t, "up", second, "/var/lib/shoal", "--data-dir")
	})
	step(t, "the API's port is taken", all, func(t *testing.T) {
		got := one.run("shoal", "up", "--data-dir", "/run/other")
		one.refused(t, "up", got, "6443", "api.port")
		if held := one.run("ls", "/run/other"); held.out != "lock\n" {
			t.Errorf("left behind: %s", held.out)
		}
	})
	step(t, "the gossip's port is taken", all, func(t *testing.T) {
		one.write("/etc/shoal/second.toml", "name = \"second\"\n[api]\nport = 6444\n")
		got := one.run("shoal", "up", "--config", "/etc/shoal/second.toml", "--data-dir", "/run/second")
		one.refused(t, "up", got, "7946", "gossip.port")
		if held := one.run("ls", "/run/second"); held.out != "lock\n" {
			t.Errorf("left behind: %s", held.out)
		}
	})
	step(t, "another name", all, func(t *testing.T) {
		one.daemon.stop()
		one.refuses(t, []string{"--name", "uno"}, `"one"`, `"uno"`, "--name", "--data-dir")
		one.up().ready()
	})
}

func removeOn(m *bare, path string) error {
	if got := m.run("rm", path); got.code != 0 {
		return fmt.Errorf("%s", got.err)
	}
	return nil
}

// TestJoinRefuses joins with everything but a good token.
func TestJoinRefuses(t *testing.T) {
	all := bareNetwork(t, "one", "two", "other")
	one, two, other := all["one"], all["two"], all["other"]
	one.up().ready()
	other.up().ready()
	token := func(m *bare, flags ...string) string {
		return strings.TrimSpace(m.shoal(append([]string{"token", "create"}, flags...)...))
	}
	join := func(token string, more ...string) []string {
		return append([]string{"--join", "one", "--token", token}, more...)
	}
	good := token(one)
	id := good[:6]
	step(t, "no token", all, func(t *testing.T) {
		two.refuses(t, []string{"--join", "one"}, "token", "shoal token create")
	})
	step(t, "a malformed token", all, func(t *testing.T) {
		two.refuses(t, join("nonsense"), "three", "shoal token create")
		two.refuses(t, join(good[:40]), "64 hexadecimal digits")
	})
	step(t, "a wrong secret", all, func(t *testing.T) {
		two.refuses(t, join(id+".aaaaaaaaaaaaaaaa"+good[23:]), id, "wrong", "copy the whole token")
	})
	step(t, "an unknown token", all, func(t *testing.T) {
		two.refuses(t, join("zzzzzz"+good[6:]), "zzzzzz", "unknown", "shoal token create")
	})
	step(t, "another cluster's token", all, func(t *testing.T) {
		two.refuses(t, join(token(other)), "another cluster", "shoal token create")
	})
	step(t, "a revoked token", all, func(t *testing.T) {
		revoked := token(one)
		one.shoal("token", "revoke", revoked[:6])
		two.refuses(t, join(revoked), revoked[:6], "revoked", "shoal token create")
	})
	step(t, "an expired token", all, func(t *testing.T) {
		expired := token(one, "--ttl", "1s")
		<-time.After(1100 * time.Millisecond)
		two.refuses(t, join(expired), expired[:6], "expired", "shoal token create")
	})
	step(t, "a living peer's name", all, func(t *testing.T) {
		two.refuses(t, join(good, "--name", "one"), `"one"`, "alive", "--name")
		if left := one.shoal("token", "list"); !strings.Contains(left, id+"   1 ") {
			t.Errorf("the refusal cost a use of the token:\n%s", left)
		}
	})
	step(t, "the data directory of another cluster", all, func(t *testing.T) {
		other.daemon.stop()
		other.refuses(t, join(good), "/var/lib/shoal", "another cluster")
	})
	step(t, "a token used twice", all, func(t *testing.T) {
		two.up(join(good)...).ready()
		other.run("sh", "-c", "rm -rf /var/lib/shoal/*")
		other.refuses(t, join(good), id, "used up", "shoal token create")
	})
}

// TestJoinTriesOn starts a machine before there is anything to join.
func TestJoinTriesOn(t *testing.T) {
	all := bareNetwork(t, "one", "two")
	one, two := all["one"], all["two"]
	one.up().ready()
	token := strings.TrimSpace(one.shoal("token", "create"))
	one.daemon.stop()

	two.up("--join", "elsewhere", "--join", "one", "--token", token)
	two.daemon.says("cannot join yet, trying on", 10*time.Second)
	one.up().ready()
	two.daemon.ready()
	together(t, all)
	if n := strings.Count(two.daemon.text(), "trying on"); n > 2 {
		t.Errorf("said %d times that it goes on", n)
	}
}

// TestIdenticalFilesThatAreNot starts machines whose files disagree. Each says so.
func TestIdenticalFilesThatAreNot(t *testing.T) {
	all := bareNetwork(t, "one", "two")
	one, two := all["one"], all["two"]
	file := func(expect int, secret string) string {
		return fmt.Sprintf("join = [\"one\", \"two\"]\nbootstrap_expect = %d\ncluster_secret = %q\n", expect, secret)
	}
	const file1 = "/etc/shoal/config.toml"
	one.write(file1, file(2, "at least sixteen characters"))
	step(t, "another secret", all, func(t *testing.T) {
		two.write(file1, file(2, "sixteen other characters"))
		one.up()
		two.up().says("cluster_secret must be the same", 10*time.Second)
		one.daemon.says("cluster_secret must be the same", 10*time.Second)
		two.daemon.stop()
	})
	step(t, "another number", all, func(t *testing.T) {
		two.write(file1, file(3, "at least sixteen characters"))
		two.refuses(t, nil, "one at", "expects 2", "bootstrap_expect must be the same")
	})
	step(t, "put right", all, func(t *testing.T) {
		two.write(file1, file(2, "at least sixteen characters"))
		_ = one.daemon.cmd.Process.Kill() // it may have ended too: either file could be the wrong one
		one.daemon.ends(10 * time.Second)
		one.up()
		two.up()
		together(t, all)
	})
}
