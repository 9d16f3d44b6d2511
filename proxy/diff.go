package proxy

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
)

// chunkChains bounds the chains of one restore: a bigger batch holds the kernel's lock longer and gains nothing
// (DESIGN.md has the figures).
const chunkChains = 2500

// diff returns the inputs for iptables-restore --noflush that turn the chains of have into those of want, to be sent
// in order. Chains that are the same are not mentioned. Whoever is pointed to comes before who points, and what goes
// comes last, so the rules are consistent after each input.
func diff(have, want map[Chain]string) [][]byte {
	var changed, gone []Chain
	for c, text := range want {
		if old, ok := have[c]; !ok || old != text {
			changed = append(changed, c)
		}
	}
	for c := range have {
		if _, ok := want[c]; !ok {
			gone = append(gone, c)
		}
	}
	slices.SortFunc(changed, func(a, b Chain) int { return cmp.Or(cmp.Compare(level(a), level(b)), compareChains(a, b)) })
	slices.SortFunc(gone, func(a, b Chain) int { return cmp.Or(cmp.Compare(level(b), level(a)), compareChains(a, b)) })

	var out [][]byte
	for len(changed) > chunkChains {
		out = append(out, restore(changed[:chunkChains], nil, want))
		changed = changed[chunkChains:]
	}
	if len(changed)+len(gone) > 0 {
		out = append(out, restore(changed, gone, want))
	}
	return out
}

func compareChains(a, b Chain) int {
	return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.Name, b.Name))
}

// level orders chains so that a chain only points to lower ones.
func level(c Chain) int {
	name := strings.TrimPrefix(c.Name, prefix)
	switch {
	case strings.HasPrefix(name, "C-"), strings.HasPrefix(name, "L-"), strings.HasPrefix(name, ingressKind), strings.HasPrefix(name, egressKind):
		return 0
	case strings.HasPrefix(name, "X-"):
		return 1
	case strings.HasPrefix(name, "V-"), strings.HasPrefix(name, "N-"):
		return 2
	}
	switch c.Name {
	case chainServices, chainPostrouting, chainInput, chainForward, chainOutput:
		return 4
	}
	return 3
}

// restore writes one input. Declaring a chain creates or empties it.
func restore(changed, gone []Chain, want map[Chain]string) []byte {
	var b bytes.Buffer
	for _, table := range []string{tableNAT, tableFilter} {
		var rules, deletes []byte
		head := b.Len()
		b.WriteString("*" + table + "\n")
		empty := b.Len()
		for _, c := range changed {
			if c.Table == table {
				b.WriteString(":" + c.Name + " - [0:0]\n")
				rules = append(rules, want[c]...)
			}
		}
		for _, c := range gone {
			if c.Table == table {
				b.WriteString(":" + c.Name + " - [0:0]\n")
				deletes = append(deletes, "-X "+c.Name+"\n"...)
			}
		}
		if b.Len() == empty {
			b.Truncate(head)
			continue
		}
		b.Write(rules)
		b.Write(deletes)
		b.WriteString("COMMIT\n")
	}
	return b.Bytes()
}

// parseSave reads what iptables-save printed of one table: our chains with their rules, and which of our jumps are
// there.
func parseSave(table string, text []byte, chains map[Chain]string, found map[jump]bool) {
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, ":"); ok {
			name, _, _ = strings.Cut(name, " ")
			if strings.HasPrefix(name, prefix) {
				chains[Chain{table, name}] += ""
			}
			continue
		}
		rest, ok := strings.CutPrefix(line, "-A ")
		if !ok {
			continue
		}
		name, rule, _ := strings.Cut(rest, " ")
		if strings.HasPrefix(name, prefix) {
			chains[Chain{table, name}] += line + "\n"
		} else if to, ok := strings.CutPrefix(rule, "-j "+prefix); ok {
			found[jump{table, name, prefix + to}] = true
		}
	}
}
