package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The test binary plays the peer: it writes what a peer leaves for the lab, says that it is ready, and waits.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "up" {
		fakePeer(os.Args[3])
		return
	}
	os.Exit(m.Run())
}

func fakePeer(config string) {
	pki := filepath.Join(filepath.Dir(config), "data", "pki")
	_ = os.MkdirAll(pki, 0o700)
	for _, f := range []string{"ca.crt", "admin.crt", "admin.key"} {
		_ = os.WriteFile(filepath.Join(pki, f), []byte(f), 0o600)
	}
	l, err := net.Listen("tcp", ":7946")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer l.Close()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err == nil {
		_, _ = conn.Write([]byte("READY=1"))
	}
	<-ctx.Done()
}

func up(t *testing.T, n int) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("the lab needs root")
	}
	if peers, err := Peers(); err == nil && slices.ContainsFunc(peers, func(p Peer) bool { return p.Init.alive() }) {
		t.Fatal("a lab is up: end it with: shoal lab down")
	}
	if err := Down(t.Context(), Config{}); err != nil && !errors.Is(err, ErrNoLab) { // of a test that was killed
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l, err := Up(t.Context(), Config{Program: self, Progress: t.Output()}, n)
	t.Cleanup(func() {
		if l != nil {
			_ = l.Close()
		}
		if err := Down(context.Background(), Config{}); err != nil {
			t.Error(err)
		}
		if exists(Dir) {
			t.Error(Dir, "is still there")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// reaches reports whether from can connect to to's port within so many seconds. A neighbour that did not answer is
// asked again by the kernel only after about a second.
func reaches(t *testing.T, l *Lab, from, to, seconds string) bool {
	t.Helper()
	p, err := l.Peer(from)
	if err != nil {
		t.Fatal(err)
	}
	q, err := l.Peer(to)
	if err != nil {
		t.Fatal(err)
	}
	return p.Exec(exec.Command("/bin/bash", "-c", "exec timeout "+seconds+" bash -c '</dev/tcp/"+q.Address+"/7946'")) == nil
}

func TestFaultsDoWhatTheySay(t *testing.T) {
	l := up(t, 3)
	ctx := t.Context()
	check := func(when string, want bool, pairs ...string) {
		t.Helper()
		for _, pair := range pairs {
			from, to, _ := strings.Cut(pair, ">")
			patience := "0.5"
			if want {
				patience = "5"
			}
			if got := reaches(t, l, "peer-"+from, "peer-"+to, patience); got != want {
				t.Errorf("%s: peer-%s reaches peer-%s: %v", when, from, to, got)
			}
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check("at first", true, "1>2", "2>3", "3>1")

	must(l.Partition("peer-1,peer-2/peer-3"))
	check("partitioned", true, "1>2", "2>1")
	check("partitioned", false, "1>3", "3>2")
	must(l.Heal())
	check("healed", true, "1>3", "3>2")

	must(l.Cut("peer-2"))
	check("cut", false, "1>2")
	must(l.Heal())
	check("mended", true, "1>2")

	must(l.Freeze("peer-2", false))
	check("frozen: the kernel still answers", true, "1>2")
	must(l.Thaw("peer-2"))
	must(l.Freeze("peer-2", true))
	check("machine frozen", false, "1>2")
	must(l.Thaw("peer-2"))
	check("thawed", true, "1>2")

	must(l.KillProcess(ctx, "peer-3"))
	check("process killed", false, "1>3")
	must(l.Start(ctx, "peer-3"))
	check("started", true, "1>3")

	must(l.Kill(ctx, "peer-1"))
	check("killed", false, "2>1")
	pids, err := processes("shoal-lab/peer-1")
	if err != nil || len(pids) > 0 {
		t.Errorf("processes of a killed machine: %v %v", pids, err)
	}
	must(l.Start(ctx, "peer-1"))
	check("powered on", true, "2>1", "1>3")

	must(l.Stop(ctx, "peer-1"))
	p, err := l.Peer("peer-1")
	must(err)
	if got := p.condition(); got != "stopped" {
		t.Errorf("a stopped peer is %s", got)
	}
}

func TestMachineHasItsOwnNameAndRun(t *testing.T) {
	l := up(t, 1)
	p, err := l.Peer("peer-1")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", "hostname; ls /run; ps -e -o pid= | wc -l")
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := p.Exec(cmd); err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(out.String())
	if len(f) < 3 || f[0] != "peer-1" || f[1] != "lock" {
		t.Errorf("inside: %q", out.String())
	}
}

func TestPartitionMustNameEveryPeerOnce(t *testing.T) {
	l := &Lab{state: state{Peers: []Peer{{Name: "peer-1"}, {Name: "peer-2"}, {Name: "peer-3"}}}}
	for _, groups := range []string{"", "peer-1", "peer-1/peer-2", "peer-1,peer-2,peer-3", "peer-1/peer-2/peer-4", "peer-1,peer-1/peer-2", "peer-1/peer-2,peer-3,peer-3"} {
		if err := l.Partition(groups); err == nil {
			t.Errorf("%q is accepted", groups)
		}
	}
}

// A bridge that may choose its hardware address changes it with its ports, and the machines that are left lose sight of the host.
func TestTheHostKeepsItsHardwareAddress(t *testing.T) {
	l := up(t, 2)
	p, err := l.Peer("peer-1")
	if err != nil {
		t.Fatal(err)
	}
	address := func() string {
		t.Helper()
		br, err := netlink.LinkByName(p.Bridge)
		if err != nil {
			t.Fatal(err)
		}
		return br.Attrs().HardwareAddr.String()
	}
	if got, want := address(), macOf(hostAddress()).String(); got != want {
		t.Errorf("the bridge has %s, not its own %s", got, want)
	}
	for _, name := range []string{"peer-1", "peer-2"} {
		if err := l.Kill(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if got, want := address(), macOf(hostAddress()).String(); got != want {
			t.Errorf("without %s the bridge has %s, not its own %s", name, got, want)
		}
	}
}

// A restart of the host takes the power of all machines at once, and the lab hears nothing of it.
func TestUpStartsALabWhoseMachinesAreOff(t *testing.T) {
	l := up(t, 2)
	kept := filepath.Join(l.state.Peers[0].DataDir(), "kept")
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range l.state.Peers {
		if err := p.Init.signal(unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := p.Init.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := Up(t.Context(), l.cfg, 3)
	if err == nil || !strings.Contains(err.Error(), "shoal lab up --peers 2") {
		t.Errorf("another number of machines: %v", err)
	}
	again, err := Up(t.Context(), l.cfg, 2)
	if err != nil {
		t.Fatal(err)
	}
	if !reaches(t, again, "peer-1", "peer-2", "5") || !exists(kept) {
		t.Error("the lab is not as it was")
	}
	_ = again.Close()
	if _, err := Up(t.Context(), l.cfg, 2); err == nil || !strings.Contains(err.Error(), "is up already") {
		t.Errorf("a lab that is up: %v", err)
	}
}
