package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Fake is a Programmer that keeps rules in memory and interprets them: it refuses what it does not understand, as a
// kernel would, and Send says what would become of a packet. Safe for concurrent use once its fields are set.
type Fake struct {
	// Local are the machine's own addresses.
	Local []netip.Addr
	// Now is the clock of affinity. Nil means that no time passes.
	Now func() time.Time
	// Fail, when it returns an error, makes the operation ("restore", "save", "link", "forget") fail with it.
	Fail func(operation string) error

	mu       sync.Mutex
	chains   map[Chain]*fakeChain
	recent   map[string]map[netip.Addr]time.Time
	tracked  map[connection]tracked
	restores int
}

type fakeChain struct {
	rules []fakeRule
	base  bool
}

type connection struct {
	proto string
	from  netip.AddrPort
	to    netip.AddrPort
}

type tracked struct {
	to          netip.AddrPort
	masqueraded bool
}

// NewFake returns a Fake of a machine with these addresses.
func NewFake(local ...netip.Addr) *Fake {
	f := &Fake{
		Local:   append(local, netip.MustParseAddr("127.0.0.1")),
		chains:  map[Chain]*fakeChain{},
		recent:  map[string]map[netip.Addr]time.Time{},
		tracked: map[connection]tracked{},
	}
	for table, names := range map[string][]string{
		tableNAT:    {"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"},
		tableFilter: {"INPUT", "FORWARD", "OUTPUT"},
	} {
		for _, name := range names {
			f.chains[Chain{table, name}] = &fakeChain{base: true}
		}
	}
	return f
}

// Restores returns how many inputs were applied.
func (f *Fake) Restores() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.restores
}

// Empty reports whether nothing but the kernel's own empty chains is left.
func (f *Fake) Empty() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.chains {
		if !c.base || len(c.rules) > 0 {
			return false
		}
	}
	return true
}

func (f *Fake) fail(operation string) error {
	if f.Fail == nil {
		return nil
	}
	return f.Fail(operation)
}

// Restore is Programmer's.
func (f *Fake) Restore(_ context.Context, input []byte) error {
	if err := f.fail("restore"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.restores++
	var table string
	next := map[Chain]*fakeChain{}
	for c, content := range f.chains {
		next[c] = content
	}
	for line := range strings.Lines(string(input)) {
		line = strings.TrimSuffix(line, "\n")
		var err error
		switch {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
		case strings.HasPrefix(line, ":"):
			name, _, _ := strings.Cut(line[1:], " ")
			next[Chain{table, name}] = &fakeChain{}
		case strings.HasPrefix(line, "-A "):
			err = appendRule(next, table, line)
		case strings.HasPrefix(line, "-X "):
			err = deleteChain(next, Chain{table, line[3:]})
		case line == "COMMIT":
			if err = verify(next); err == nil {
				f.chains = next
				next = map[Chain]*fakeChain{}
				for c, content := range f.chains {
					next[c] = content
				}
			}
		default:
			err = fmt.Errorf("fake: cannot read %q", line)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func appendRule(chains map[Chain]*fakeChain, table, line string) error {
	name, words, _ := strings.Cut(strings.TrimPrefix(line, "-A "), " ")
	c := chains[Chain{table, name}]
	if c == nil {
		return fmt.Errorf("fake: no chain %s in %s", name, table)
	}
	r, err := parseRule(words)
	if err != nil {
		return fmt.Errorf("fake: %q: %w", line, err)
	}
	c.rules = append(c.rules, r)
	return nil
}

func deleteChain(chains map[Chain]*fakeChain, c Chain) error {
	if chains[c] == nil || len(chains[c].rules) > 0 {
		return fmt.Errorf("fake: chain %s is not there or not empty", c.Name)
	}
	delete(chains, c)
	return nil
}

// verify refuses jumps to chains that are not there.
func verify(chains map[Chain]*fakeChain) error {
	for c, content := range chains {
		for _, r := range content.rules {
			if _, there := chains[Chain{c.Table, r.target}]; !there && !builtin[r.target] {
				return fmt.Errorf("fake: %s of %s jumps to %s, which is not there", c.Name, c.Table, r.target)
			}
		}
	}
	return nil
}

// Save is Programmer's.
func (f *Fake) Save(_ context.Context, table string) ([]byte, error) {
	if err := f.fail("save"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for c := range f.chains {
		if c.Table == table {
			names = append(names, c.Name)
		}
	}
	slices.Sort(names)
	var b strings.Builder
	fmt.Fprintf(&b, "# a comment\n*%s\n", table)
	for _, name := range names {
		fmt.Fprintf(&b, ":%s - [0:0]\n", name)
	}
	for _, name := range names {
		for _, r := range f.chains[Chain{table, name}].rules {
			fmt.Fprintf(&b, "-A %s %s\n", name, r.text)
		}
	}
	b.WriteString("COMMIT\n")
	return []byte(b.String()), nil
}

// Link is Programmer's.
func (f *Fake) Link(_ context.Context, table, from, to string) error {
	if err := f.fail("link"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.chains[Chain{table, to}] == nil {
		f.chains[Chain{table, to}] = &fakeChain{}
	}
	c := f.chains[Chain{table, from}]
	if slices.ContainsFunc(c.rules, func(r fakeRule) bool { return r.text == "-j "+to }) {
		return nil
	}
	r, err := parseRule("-j " + to)
	c.rules = slices.Insert(c.rules, 0, r)
	return err
}

// Unlink is Programmer's.
func (f *Fake) Unlink(_ context.Context, table, from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.chains[Chain{table, from}]
	c.rules = slices.DeleteFunc(c.rules, func(r fakeRule) bool { return r.text == "-j "+to })
	return nil
}

// Forget is Programmer's.
func (f *Fake) Forget(_ context.Context, flows []Flow) error {
	if err := f.fail("forget"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	set := newFlowSet(flows)
	for c, t := range f.tracked {
		if set.match(protocolNumber(c.proto), c.to, t.to) {
			delete(f.tracked, c)
		}
	}
	return nil
}

// Tamper replaces the rules of one chain behind the proxy's back; no text removes the rules.
func (f *Fake) Tamper(ctx context.Context, table, chain, text string) error {
	return f.Restore(ctx, []byte("*"+table+"\n:"+chain+" - [0:0]\n"+text+"COMMIT\n"))
}
