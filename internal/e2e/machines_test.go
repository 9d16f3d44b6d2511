//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"shoal/internal/api"
)

// together checks that every machine sees the same cluster of the named peers, and that each takes reads and writes.
// It returns the cluster's id.
func together(t *testing.T, all map[string]*bare) string {
	t.Helper()
	id := ""
	for name, m := range all {
		var list api.PeerList
		within(t, 30*time.Second, name+" sees all peers", func(context.Context) error {
			list = api.PeerList{}
			got := m.run("shoal", "peers", "-o", "json")
			if got.code != 0 {
				return fmt.Errorf("%s", got.err)
			}
			if err := json.Unmarshal([]byte(got.out), &list); err != nil {
				return err
			}
			roles := map[string]int{}
			for _, p := range list.Peers {
				if p.State == api.Alive && p.Address == m.net.hosts[p.Name] {
					roles[p.Role]++
				}
			}
			if len(list.Peers) != len(all) || roles[api.RoleMaster] != 1 || roles[api.RoleVoter] != len(all)-1 {
				return fmt.Errorf("%s", got.out)
			}
			return nil
		})
		if id == "" {
			id = list.ClusterID
		}
		if list.ClusterID != id {
			t.Errorf("%s is in cluster %s, another machine in %s", name, list.ClusterID, id)
		}
	}
	for name, m := range all {
		m.shoal("create", "namespace", "made-on-"+name)
		for other, o := range all {
			if out := o.shoal("get", "ns", "-o", "name"); !strings.Contains(out, "namespace/made-on-"+name+"\n") {
				t.Errorf("%s does not see what %s made:\n%s", other, name, out)
			}
		}
		m.shoal("delete", "namespace", "made-on-"+name, "--no-wait")
		m.shoal("status")
	}
	return id
}

// nodes waits until every machine shows a Ready Node for every machine.
func nodes(t *testing.T, all map[string]*bare) {
	t.Helper()
	for name, m := range all {
		within(t, 60*time.Second, "nodes on "+name, func(context.Context) error {
			got := m.run("shoal", "get", "nodes")
			if got.code != 0 || strings.Count(got.out, " Ready ") != len(all) {
				return fmt.Errorf("%s%s", got.out, got.err)
			}
			return nil
		})
	}
}

// TestThreeMachinesByToken does what the README says under "With a token".
func TestThreeMachinesByToken(t *testing.T) {
	all := bareNetwork(t, "one", "two", "three")
	one, two, three := all["one"], all["two"], all["three"]
	one.up().ready()
	token := strings.TrimSpace(one.shoal("token", "create", "--uses", "2"))
	two.up("--join", "one", "--token", token)
	three.up("--join", "one", "--token", token).ready()
	two.daemon.ready()
	id := together(t, all)
	nodes(t, all)

	step(t, "the machine that came first is nothing special", all, func(t *testing.T) {
		one.powerOff()
		two.shoal("create", "namespace", "without-one")
		one.powerOn()
		one.net.tellHosts()
		one.up().ready()
		if again := together(t, all); again != id {
			t.Errorf("the cluster was %s and is %s", id, again)
		}
	})
	step(t, "every address changes", all, func(t *testing.T) {
		readdressed(t, all, 31)
		one.up()
		two.up("--join", "one")
		three.up("--join", "one")
		if again := together(t, all); again != id {
			t.Errorf("the cluster was %s and is %s", id, again)
		}
	})
}

const identicalFile = `join = ["one", "two", "three"]
bootstrap_expect = 3
cluster_secret = "at least sixteen characters, the same everywhere"
`

// TestThreeMachinesByIdenticalFiles does what the README says under "With identical files", in several orders.
func TestThreeMachinesByIdenticalFiles(t *testing.T) {
	all := bareNetwork(t, "one", "two", "three")
	one, two, three := all["one"], all["two"], all["three"]
	for _, m := range all {
		m.write("/etc/shoal/config.toml", identicalFile)
	}
	three.up().says("waiting for the others", 10*time.Second)
	two.up().says("waiting for the others", 10*time.Second)
	<-time.After(3 * time.Second) // late on purpose
	if strings.Contains(two.daemon.text()+three.daemon.text(), "founded") {
		t.Fatal("two of three founded a cluster")
	}
	one.up()
	for _, m := range all {
		m.daemon.ready()
	}
	id := together(t, all)
	nodes(t, all)
	one.shoal("create", "namespace", "kept")

	restarted := func(t *testing.T, order ...*bare) {
		for _, m := range order {
			m.up()
		}
		if again := together(t, all); again != id {
			t.Errorf("the cluster was %s and is %s", id, again)
		}
		for name, m := range all {
			if out := m.shoal("get", "ns", "kept", "-o", "name"); out != "namespace/kept\n" {
				t.Errorf("%s says %q", name, out)
			}
		}
	}
	step(t, "stopped, and started in another order", all, func(t *testing.T) {
		for _, m := range all {
			m.daemon.stop()
		}
		restarted(t, two, one, three)
	})
	step(t, "killed, and started again", all, func(t *testing.T) {
		for _, m := range all {
			m.daemon.kill()
		}
		restarted(t, one, three, two)
	})
	step(t, "every address changes", all, func(t *testing.T) {
		readdressed(t, all, 41)
		restarted(t, three, two, one)
	})
}

// TestThreeMachinesAtOnce starts identical files at the same moment.
func TestThreeMachinesAtOnce(t *testing.T) {
	all := bareNetwork(t, "one", "two", "three")
	for _, m := range all {
		m.write("/etc/shoal/config.toml", identicalFile)
		m.up()
	}
	together(t, all)
}

// readdressed stops every peer and gives every machine another address, the last byte from first on.
func readdressed(t *testing.T, all map[string]*bare, first int) {
	t.Helper()
	var n *network
	for _, m := range all {
		m.daemon.stop()
		n = m.net
	}
	for i, m := range n.all {
		m.readdress(fmt.Sprintf("10.98.0.%d", first+(i+1)%len(n.all)))
	}
	n.tellHosts()
}
