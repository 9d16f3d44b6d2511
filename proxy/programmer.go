package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Programmer puts rules into a kernel. Run calls it from one goroutine.
type Programmer interface {
	// Restore applies one input of iptables-restore --noflush: per table whole, or not at all.
	Restore(ctx context.Context, input []byte) error
	// Save returns what iptables-save prints of one table.
	Save(ctx context.Context, table string) ([]byte, error)
	// Link makes the kernel's chain from enter our chain to first. It does nothing where it does already.
	Link(ctx context.Context, table, from, to string) error
	// Unlink removes that jump. It does nothing where there is none.
	Unlink(ctx context.Context, table, from, to string) error
	// Forget removes the tracked connections that match any of flows, so that their next packet is translated anew.
	Forget(ctx context.Context, flows []Flow) error
}

// Flow matches tracked connections. Zero fields match everything.
type Flow struct {
	Proto    uint8          // an IP protocol number
	To       netip.Addr     // where the caller sent its packets
	Port     uint16         // to which port
	Endpoint netip.AddrPort // where they were sent on
	// Except are endpoints to which flows may go on.
	Except []netip.AddrPort
}

// Kernel is the Programmer of the network namespace that the process is in. The zero value is ready for use. Not safe
// for concurrent use.
type Kernel struct {
	// Program is the iptables to use, such as iptables-legacy. Empty means iptables, whichever kind that is.
	Program string

	ipt           *iptables.IPTables
	restore, save string
}

// open finds the programs, once.
func (k *Kernel) open() error {
	if k.ipt != nil {
		return nil
	}
	name := k.Program
	if name == "" {
		name = "iptables"
	}
	ipt, err := iptables.New(iptables.Path(name), iptables.Timeout(10))
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if k.restore, err = exec.LookPath(name + "-restore"); err != nil {
		return fmt.Errorf("find iptables: %w", err)
	}
	if k.save, err = exec.LookPath(name + "-save"); err != nil {
		return fmt.Errorf("find iptables: %w", err)
	}
	k.ipt = ipt
	return nil
}

// Restore is Programmer's.
func (k *Kernel) Restore(ctx context.Context, input []byte) error {
	if err := k.open(); err != nil {
		return err
	}
	_, err := run(ctx, input, k.restore, "--noflush", "-w", "10")
	return err
}

// Save is Programmer's.
func (k *Kernel) Save(ctx context.Context, table string) ([]byte, error) {
	if err := k.open(); err != nil {
		return nil, err
	}
	return run(ctx, nil, k.save, "-t", table)
}

// Link is Programmer's.
func (k *Kernel) Link(_ context.Context, table, from, to string) error {
	if err := k.open(); err != nil {
		return err
	}
	exists, err := k.ipt.ChainExists(table, to)
	if err != nil {
		return fmt.Errorf("look for chain %s of %s: %w", to, table, err)
	}
	if !exists {
		if err := k.ipt.NewChain(table, to); err != nil {
			return fmt.Errorf("create chain %s of %s: %w", to, table, err)
		}
	}
	// First, so that nobody's ACCEPT or DNAT comes before ours.
	if err := k.ipt.InsertUnique(table, from, 1, "-j", to); err != nil {
		return fmt.Errorf("enter %s from %s of %s: %w", to, from, table, err)
	}
	return nil
}

// Unlink is Programmer's.
func (k *Kernel) Unlink(_ context.Context, table, from, to string) error {
	if err := k.open(); err != nil {
		return err
	}
	exists, err := k.ipt.ChainExists(table, to)
	if err != nil || !exists {
		return err
	}
	if err := k.ipt.DeleteIfExists(table, from, "-j", to); err != nil {
		return fmt.Errorf("leave %s from %s of %s: %w", to, from, table, err)
	}
	return nil
}

// Forget is Programmer's. The kernel's table is read once for all flows.
func (k *Kernel) Forget(_ context.Context, flows []Flow) error {
	if len(flows) == 0 {
		return nil
	}
	// A table that changes while it is read yields a partial list: the rest expires or is reset by its endpoint.
	_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, newFlowSet(flows))
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("forget connections: %w", err)
	}
	return nil
}

// flowSet looks flows up by what they all have: protocol and either the endpoint or the port.
type flowSet struct {
	byEndpoint map[netip.AddrPort][]Flow
	rest       map[uint16][]Flow
}

func newFlowSet(flows []Flow) *flowSet {
	s := &flowSet{byEndpoint: map[netip.AddrPort][]Flow{}, rest: map[uint16][]Flow{}}
	for _, f := range flows {
		if f.Endpoint.IsValid() {
			s.byEndpoint[f.Endpoint] = append(s.byEndpoint[f.Endpoint], f)
		} else {
			s.rest[f.Port] = append(s.rest[f.Port], f)
		}
	}
	return s
}

// MatchConntrackFlow is netlink's.
func (s *flowSet) MatchConntrackFlow(c *netlink.ConntrackFlow) bool {
	to, _ := netip.AddrFromSlice(c.Forward.DstIP)
	from, _ := netip.AddrFromSlice(c.Reverse.SrcIP)
	endpoint := netip.AddrPortFrom(from.Unmap(), c.Reverse.SrcPort)
	return s.match(c.Forward.Protocol, netip.AddrPortFrom(to.Unmap(), c.Forward.DstPort), endpoint)
}

// match tells whether a connection that was sent to to, and on to endpoint, is one of the flows.
func (s *flowSet) match(proto uint8, to, endpoint netip.AddrPort) bool {
	fits := func(f Flow) bool {
		return f.Proto == proto && (f.Port == 0 || f.Port == to.Port()) && (!f.To.IsValid() || f.To == to.Addr())
	}
	for _, f := range s.byEndpoint[endpoint] {
		// A connection made to the endpoint itself is no Service's.
		if fits(f) && to != endpoint {
			return true
		}
	}
	for _, f := range s.rest[to.Port()] {
		if fits(f) && !slices.Contains(f.Except, endpoint) {
			return true
		}
	}
	return false
}

func run(ctx context.Context, input []byte, program string, args ...string) ([]byte, error) {
	var out, problem bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &out, &problem
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(problem.String()))
	}
	return out.Bytes(), nil
}
