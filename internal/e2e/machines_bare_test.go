//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A network is what machines are plugged into: a bridge in a namespace of its own. Nothing of it is in the host's.
type network struct {
	handle *netlink.Handle
	bridge netlink.Link
	hosts  map[string]string // names and addresses, for every machine's /etc/hosts
	all    []*bare
}

// bare is a machine with an operating system, the packages that Shoal needs and the shoal binary, and nothing else: its own
// processes, mounts, network, host name, cgroups, /etc, /run and /var/lib/shoal. Everything of it ends with its first process,
// which ends with the test's.
type bare struct {
	t      *testing.T
	name   string
	dir    string // what outlives the machine's power: etc/ and data/
	net    *network
	pid    int
	power  io.Closer
	off    chan struct{}
	daemon *up // started last
}

// bareBoot is what a machine's first process does. It reaps orphans while it waits for its input to end.
const bareBoot = `read go || exit 1
set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/home
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$2/etc,workdir=$2/work" /etc
[ -e /etc/shoal/ours ] || { rm -rf /etc/shoal; mkdir /etc/shoal; touch /etc/shoal/ours; }
rm -f /etc/hosts /etc/resolv.conf
touch /etc/hosts && echo nameserver 10.98.0.1 >/etc/resolv.conf
touch /run/shoal-binary && mount --bind "$3" /run/shoal-binary
mount -t tmpfs tmpfs /usr/local/bin
touch /usr/local/bin/shoal && mount --bind /run/shoal-binary /usr/local/bin/shoal
mount -t tmpfs tmpfs /var/lib
mkdir -p /var/lib/shoal && mount --bind "$2/data" /var/lib/shoal
for h in /sys/fs/cgroup/* /sys/fs/cgroup; do [ ! -d "$h/bare/$1" ] || mount --bind "$h/bare/$1" "$h"; done
hostname "$1"
echo up
read off || true`

// bareSpaces are a machine's namespaces; the mount namespace comes last, after it the others' paths are gone.
var bareSpaces = []string{"ipc", "uts", "net", "pid", "mnt"}

// bareNetwork makes a network and the named machines on it, all running, at 10.98.0.11 and up.
func bareNetwork(t *testing.T, names ...string) map[string]*bare {
	t.Helper()
	hold := exec.Command("sh", "-c", "read off")
	hold.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	end, err := hold.StdinPipe()
	must(t, err)
	must(t, hold.Start())
	t.Cleanup(func() { _ = end.Close(); _ = hold.Wait() })
	n := &network{handle: handleAt(t, hold.Process.Pid), hosts: map[string]string{}}
	must(t, n.handle.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "lan"}}))
	n.bridge, err = n.handle.LinkByName("lan")
	must(t, err)
	must(t, n.handle.LinkSetUp(n.bridge))
	must(t, n.handle.AddrAdd(n.bridge, address("10.98.0.1")))

	machines := map[string]*bare{}
	for i, name := range names {
		m := &bare{t: t, name: name, dir: t.TempDir(), net: n}
		n.hosts[name] = fmt.Sprintf("10.98.0.%d", 11+i)
		n.all = append(n.all, m)
		machines[name] = m
		for _, dir := range []string{"etc", "work", "data"} {
			must(t, os.MkdirAll(filepath.Join(m.dir, dir), 0o755))
		}
	}
	for _, m := range n.all {
		m.powerOn()
		t.Cleanup(m.end)
	}
	n.tellHosts()
	return machines
}

// step runs part of a test; the machines report to it meanwhile.
func step(t *testing.T, what string, all map[string]*bare, f func(t *testing.T)) {
	t.Helper()
	report := func(t *testing.T) {
		for _, m := range all {
			m.t = t
		}
	}
	defer report(t)
	t.Run(what, func(t *testing.T) {
		report(t)
		f(t)
	})
}

func handleAt(t *testing.T, pid int) *netlink.Handle {
	t.Helper()
	ns, err := netns.GetFromPid(pid)
	must(t, err)
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns)
	must(t, err)
	t.Cleanup(h.Close)
	return h
}

func address(ip string) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(ip), Mask: net.CIDRMask(24, 32)}}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tellHosts writes every machine's /etc/hosts.
func (n *network) tellHosts() {
	text := "127.0.0.1 localhost\n"
	for name, ip := range n.hosts {
		text += ip + " " + name + "\n"
	}
	for _, m := range n.all {
		m.write("/etc/hosts", text)
	}
}

// powerOn boots the machine with the address that its network has for it.
func (m *bare) powerOn() {
	m.t.Helper()
	must(m.t, os.MkdirAll(m.dir, 0o755))
	for _, h := range cgroups(m.t) {
		makeCgroup(m.t, h, filepath.Join("bare", m.name))
	}
	cmd := exec.Command("bash", "-c", bareBoot, "boot", m.name, m.dir, binary())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true, Cloneflags: unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWNS,
	}
	power, err := cmd.StdinPipe()
	must(m.t, err)
	said, err := cmd.StdoutPipe()
	must(m.t, err)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	must(m.t, cmd.Start())
	off := make(chan struct{})
	m.pid, m.power, m.off = cmd.Process.Pid, power, off
	go func() {
		_ = cmd.Wait()
		close(off)
	}()
	m.plug()
	_, err = io.WriteString(power, "go\n")
	must(m.t, err)
	if _, err := io.ReadFull(said, make([]byte, 3)); err != nil {
		m.t.Fatalf("boot %s: %v\n%s", m.name, err, complaint.String())
	}
}

// plug gives the machine its link, address and default route.
func (m *bare) plug() {
	m.t.Helper()
	must(m.t, m.net.handle.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: m.name, MasterIndex: m.net.bridge.Attrs().Index}, PeerName: "eth0", PeerNamespace: netlink.NsPid(m.pid),
	}))
	port, err := m.net.handle.LinkByName(m.name)
	must(m.t, err)
	must(m.t, m.net.handle.LinkSetUp(port))
	m.readdress(m.net.hosts[m.name])
}

// readdress changes the machine's address, as a new lease would. The others learn it from tellHosts.
func (m *bare) readdress(ip string) {
	m.t.Helper()
	m.net.hosts[m.name] = ip
	h := handleAt(m.t, m.pid)
	lo, err := h.LinkByName("lo")
	must(m.t, err)
	must(m.t, h.LinkSetUp(lo))
	eth, err := h.LinkByName("eth0")
	must(m.t, err)
	old, err := h.AddrList(eth, netlink.FAMILY_V4)
	must(m.t, err)
	for _, a := range old {
		must(m.t, h.AddrDel(eth, &a))
	}
	must(m.t, h.AddrAdd(eth, address(ip)))
	must(m.t, h.LinkSetUp(eth))
	must(m.t, h.RouteReplace(&netlink.Route{Gw: net.ParseIP("10.98.0.1")}))
}

// powerOff ends everything on the machine at once.
func (m *bare) powerOff() {
	_ = m.power.Close()
	<-m.off
	if port, err := m.net.handle.LinkByName(m.name); err == nil {
		_ = m.net.handle.LinkDel(port) // the kernel may be removing it at the same time
	}
	if m.daemon != nil {
		<-m.daemon.ended
	}
}

// end takes the machine away, and shows what its peer said last when the test has failed.
func (m *bare) end() {
	m.powerOff()
	if m.t.Failed() && m.daemon != nil {
		lines := strings.Split(m.daemon.text(), "\n")
		m.t.Logf("--- %s\n%s", m.name, strings.Join(lines[max(0, len(lines)-30):], "\n"))
	}
	for _, h := range cgroups(m.t) {
		removeCgroup(m.t, filepath.Join(h, "bare", m.name))
		_ = os.Remove(filepath.Join(h, "bare"))
	}
}

// write replaces a file below the machine's /etc or /var/lib/shoal.
func (m *bare) write(path, text string) {
	m.t.Helper()
	must(m.t, os.WriteFile(fmt.Sprintf("/proc/%d/root%s", m.pid, path), []byte(text), 0o600))
	must(m.t, os.Chmod(fmt.Sprintf("/proc/%d/root%s", m.pid, path), 0o644))
}

// holds lists the files of the machine's data directory, their names only. An empty directory may have a lock.
func (m *bare) holds() string {
	m.t.Helper()
	var all []string
	must(m.t, filepath.WalkDir(filepath.Join(m.dir, "data"), func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != "lock" {
			all = append(all, strings.TrimPrefix(p, m.dir))
		}
		return err
	}))
	return strings.Join(all, " ")
}

// command prepares a program to be started on the machine.
func (m *bare) command(ctx context.Context, args ...string) *exec.Cmd {
	const enter = `for f in /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; do [ ! -e $f ] || echo 0 >$f; done; exec "$@"`
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", enter, "sh"}, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/run/home"}
	cmd.Dir = "/"
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// start starts a command in the machine's namespaces.
func (m *bare) start(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread changes for good and ends with this goroutine
		result <- func() error {
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return err
			}
			for _, space := range bareSpaces {
				fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", m.pid, space), unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					return err
				}
				err = unix.Setns(fd, 0)
				_ = unix.Close(fd)
				if err != nil {
					return fmt.Errorf("enter %s of %s: %w", space, m.name, err)
				}
			}
			return cmd.Start()
		}()
	}()
	return <-result
}

// said is how a command ended.
type said struct {
	out, err string
	code     int
}

// run runs a program on the machine to its end.
func (m *bare) run(args ...string) said {
	m.t.Helper()
	return m.runFed("", args...)
}

func (m *bare) runFed(input string, args ...string) said {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := m.command(ctx, args...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Stdin = &out, &stderr, strings.NewReader(input)
	must(m.t, m.start(cmd))
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		m.t.Fatalf("%s on %s: %v\n%s%s", strings.Join(args, " "), m.name, err, out.String(), stderr.String())
	}
	return said{out.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// shoal runs the command line on the machine and fails the test when it fails.
func (m *bare) shoal(args ...string) string {
	m.t.Helper()
	got := m.run(append([]string{"shoal"}, args...)...)
	if got.code != 0 {
		m.t.Fatalf("%s# shoal %s: exit %d\n%s%s", m.name, strings.Join(args, " "), got.code, got.out, got.err)
	}
	return got.out
}
