package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Packet is the first packet of a connection, or with a source port a later one too.
type Packet struct {
	Proto string // tcp, udp
	From  netip.Addr
	// FromPort makes the connection tracked: the next packet with the same addresses takes the same way.
	FromPort uint16
	To       netip.AddrPort
}

// Result is what becomes of a packet.
type Result struct {
	Verdict     string // accept, reject, drop
	To          netip.AddrPort
	Masqueraded bool
}

func (r Result) String() string {
	s := r.Verdict
	if r.Verdict == "accept" {
		s = r.To.String()
	}
	if r.Masqueraded {
		s += " masqueraded"
	}
	return s
}

type packet struct {
	Packet
	to         netip.AddrPort // where it goes by now
	translated bool
	marked     bool
	known      bool // of a connection that was let through before
	choose     func(p float64) bool
}

// Send returns what becomes of p. choose decides chances; nil takes the first.
func (f *Fake) Send(p Packet, choose func(probability float64) bool) Result {
	f.mu.Lock()
	defer f.mu.Unlock()
	if choose == nil {
		choose = func(float64) bool { return true }
	}
	k := &packet{Packet: p, to: p.To, choose: choose}
	c := connection{p.Proto, netip.AddrPortFrom(p.From, p.FromPort), p.To}
	old, known := f.tracked[c]
	host := slices.Contains(f.Local, p.From)
	first, filter := "PREROUTING", "FORWARD"
	if host {
		first, filter = "OUTPUT", "OUTPUT"
	}
	if known {
		k.to, k.translated, k.known = old.to, old.to != p.To, true
	} else {
		f.walk(k, tableNAT, first)
	}
	here := slices.Contains(f.Local, k.to.Addr())
	if here && !host {
		filter = "INPUT"
	}
	if v := f.walk(k, tableFilter, filter); v == "REJECT" || v == "DROP" {
		return Result{Verdict: strings.ToLower(v)}
	}
	out := Result{Verdict: "accept", To: k.to, Masqueraded: old.masqueraded}
	if !known && (!here || host) {
		out.Masqueraded = f.walk(k, tableNAT, "POSTROUTING") == "MASQUERADE"
	}
	if p.FromPort != 0 {
		f.tracked[c] = tracked{to: k.to, masqueraded: out.Masqueraded}
	}
	return out
}

// Ways returns every result that p can have, sorted as text.
func (f *Fake) Ways(p Packet) []string {
	var out []string
	// Each run follows a script of decisions and takes "yes" beyond its end; then the last "yes" becomes "no".
	var script []bool
	for {
		i := 0
		r := f.Send(p, func(float64) bool {
			if i == len(script) {
				script = append(script, true)
			}
			i++
			return script[i-1]
		})
		if s := r.String(); !slices.Contains(out, s) {
			out = append(out, s)
		}
		for len(script) > 0 && !script[len(script)-1] {
			script = script[:len(script)-1]
		}
		if len(script) == 0 {
			break
		}
		script[len(script)-1] = false
	}
	slices.Sort(out)
	return out
}

var builtin = map[string]bool{
	"ACCEPT": true, "DROP": true, "REJECT": true, "RETURN": true, "MASQUERADE": true, "DNAT": true, "MARK": true,
}

// fakeRule is one rule, understood.
type fakeRule struct {
	text    string
	matches []func(f *Fake, k *packet) bool
	target  string
	dnat    netip.AddrPort
}

// walk returns the target that ended the packet's way through a chain: empty when none did.
func (f *Fake) walk(k *packet, table, chain string) string {
next:
	for _, r := range f.chains[Chain{table, chain}].rules {
		for _, m := range r.matches {
			if !m(f, k) {
				continue next
			}
		}
		switch r.target {
		case "RETURN":
			return ""
		case "MARK":
			k.marked = true
		case "DNAT":
			k.to, k.translated = r.dnat, true
			return r.target
		case "ACCEPT", "DROP", "REJECT", "MASQUERADE":
			return r.target
		default:
			if v := f.walk(k, table, r.target); v != "" {
				return v
			}
		}
	}
	return ""
}

func protocolNumber(p string) uint8 {
	if p == "udp" {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

// ruleParser reads the words of one rule.
type ruleParser struct {
	words []string
	not   bool
	r     fakeRule
}

func parseRule(text string) (fakeRule, error) {
	p := &ruleParser{words: strings.Fields(text), r: fakeRule{text: text}}
	for len(p.words) > 0 {
		if err := p.word(p.next()); err != nil {
			return p.r, err
		}
	}
	if p.r.target == "" {
		return p.r, fmt.Errorf("no target")
	}
	return p.r, nil
}

func (p *ruleParser) next() string {
	if len(p.words) == 0 {
		return ""
	}
	w := p.words[0]
	p.words = p.words[1:]
	return w
}

func (p *ruleParser) match(m func(f *Fake, k *packet) bool) {
	not := p.not
	p.not = false
	p.r.matches = append(p.r.matches, func(f *Fake, k *packet) bool { return m(f, k) != not })
}

func (p *ruleParser) word(w string) error {
	switch w {
	case "!":
		p.not = true
	case "-s", "-d":
		prefix, err := netip.ParsePrefix(p.next())
		if err != nil {
			return err
		}
		if w == "-s" {
			p.match(func(_ *Fake, k *packet) bool { return prefix.Contains(k.From) })
		} else {
			p.match(func(_ *Fake, k *packet) bool { return prefix.Contains(k.to.Addr()) })
		}
	case "-p":
		proto := p.next()
		p.match(func(_ *Fake, k *packet) bool { return k.Proto == proto })
	case "-m":
		return p.extension(p.next())
	case "--dport", "--dports":
		return p.ports(p.next())
	case "-j":
		return p.jump(p.next())
	default:
		return fmt.Errorf("unknown word %q", w)
	}
	return nil
}

// ports reads numbers and ranges.
func (p *ruleParser) ports(list string) error {
	var all [][2]int
	for text := range strings.SplitSeq(list, ",") {
		from, to, ranged := strings.Cut(text, ":")
		first, err := strconv.Atoi(from)
		last := first
		if ranged && err == nil {
			last, err = strconv.Atoi(to)
		}
		if err != nil {
			return err
		}
		all = append(all, [2]int{first, last})
	}
	p.match(func(_ *Fake, k *packet) bool {
		port := int(k.to.Port())
		return slices.ContainsFunc(all, func(r [2]int) bool { return r[0] <= port && port <= r[1] })
	})
	return nil
}

func (p *ruleParser) jump(target string) error {
	p.r.target = target
	var err error
	switch option, value := p.next(), p.next(); {
	case option == "":
	case target == "DNAT" && option == "--to-destination":
		p.r.dnat, err = netip.ParseAddrPort(value)
	case target == "MARK" && option == "--set-xmark" && value == masquerade:
	case target == "REJECT" && option == "--reject-with":
	case target == "MASQUERADE" && option == "--random-fully":
	default:
		err = fmt.Errorf("target %s with %s %s", target, option, value)
	}
	return err
}

func (p *ruleParser) extension(name string) error {
	switch name {
	case "tcp", "udp", "multiport":
		return nil // its options follow
	case "comment":
		p.next()
		for text := p.next(); !strings.HasSuffix(text, `"`); text = p.next() {
			if text == "" {
				return fmt.Errorf("comment without an end")
			}
		}
		return nil
	case "mark":
		p.next()
		p.next()
		p.match(func(_ *Fake, k *packet) bool { return k.marked })
	case "addrtype":
		p.addrtype()
	case "conntrack":
		switch w := p.next(); w {
		case "!":
			p.not = true
			p.next()
		case "--ctorigdst":
			addr, err := netip.ParseAddr(p.next())
			p.match(func(_ *Fake, k *packet) bool { return k.To.Addr() == addr })
			return err
		}
		states := strings.Split(p.next(), ",")
		p.match(func(_ *Fake, k *packet) bool {
			return !k.known && slices.Contains(states, "NEW") || k.translated && slices.Contains(states, "DNAT")
		})
	case "statistic":
		p.words = p.words[3:] // --mode random --probability
		chance, err := strconv.ParseFloat(p.next(), 64)
		p.match(func(_ *Fake, k *packet) bool { return k.choose(chance) })
		return err
	case "recent":
		return p.recent()
	default:
		return fmt.Errorf("unknown match %q", name)
	}
	return nil
}

func (p *ruleParser) addrtype() {
	w := p.next()
	if w == "!" {
		p.not = true
		w = p.next()
	}
	p.next() // LOCAL
	p.match(func(f *Fake, k *packet) bool {
		if w == "--src-type" {
			return slices.Contains(f.Local, k.From)
		}
		return slices.Contains(f.Local, k.to.Addr())
	})
}

func (p *ruleParser) recent() error {
	var set bool
	var seconds int
	var name string
	var err error
	for len(p.words) > 0 && p.words[0] != "-j" && p.words[0] != "-m" {
		switch w := p.next(); w {
		case "--set":
			set = true
		case "--update", "--reap", "--rsource":
		case "--seconds":
			seconds, err = strconv.Atoi(p.next())
		case "--name":
			name = p.next()
		case "--mask":
			p.next()
		default:
			err = fmt.Errorf("recent with %q", w)
		}
	}
	p.match(func(f *Fake, k *packet) bool {
		now := time.Time{}
		if f.Now != nil {
			now = f.Now()
		}
		if f.recent[name] == nil {
			f.recent[name] = map[netip.Addr]time.Time{}
		}
		last, seen := f.recent[name][k.From]
		if !set && (!seen || now.Sub(last) > time.Duration(seconds)*time.Second) {
			return false
		}
		f.recent[name][k.From] = now
		return true
	})
	return err
}
