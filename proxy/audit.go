package proxy

import (
	"context"
	"fmt"
)

// read returns the chains and missing jumps of the kernel. Chains that it only words differently from want are returned
// in want's words.
func (p *Proxy) read(ctx context.Context, want *Rules) (map[Chain]string, []jump, error) {
	chains, missing, err := readKernel(ctx, p.c.Programmer)
	if err != nil {
		return nil, nil, err
	}
	for c, w := range p.printed {
		if have, ok := chains[c]; ok && have == w.theirs && want.chains[c] == w.ours {
			chains[c] = w.ours
		}
	}
	return chains, missing, nil
}

// learn reads the kernel right after a repair: what still differs is how this iptables-save words our rules.
func (p *Proxy) learn(ctx context.Context, want *Rules) error {
	chains, _, err := readKernel(ctx, p.c.Programmer)
	if err != nil {
		return err
	}
	for c, ours := range want.chains {
		if theirs, ok := chains[c]; ok && theirs != ours {
			p.printed[c] = wording{ours: ours, theirs: theirs}
		}
	}
	return nil
}

func readKernel(ctx context.Context, k Programmer) (map[Chain]string, []jump, error) {
	chains, found := map[Chain]string{}, map[jump]bool{}
	for _, table := range []string{tableNAT, tableFilter} {
		text, err := k.Save(ctx, table)
		if err != nil {
			return nil, nil, fmt.Errorf("read rules: %w", err)
		}
		parseSave(table, text, chains, found)
	}
	var missing []jump
	for _, j := range jumps {
		if !found[j] {
			missing = append(missing, j)
		}
	}
	return chains, missing, nil
}

// Clean removes every rule and chain of ours from k. Nothing of ours may be running.
func Clean(ctx context.Context, k Programmer) error {
	for _, j := range jumps {
		if err := k.Unlink(ctx, j.table, j.from, j.to); err != nil {
			return err
		}
	}
	chains, _, err := readKernel(ctx, k)
	if err != nil {
		return err
	}
	for _, input := range diff(chains, nil) {
		if err := k.Restore(ctx, input); err != nil {
			return fmt.Errorf("remove rules: %w", err)
		}
	}
	return nil
}
