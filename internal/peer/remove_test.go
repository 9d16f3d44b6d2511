package peer

import (
	"testing"

	"shoal/consensus/store"
)

// TestTheKeysOfSecretsSurviveARemoval: a machine that is refused and votes still, for a moment, costs nobody else the keys, whatever the order in which the voters
// are gone through; it loses its own, and they change.
func TestTheKeysOfSecretsSurviveARemoval(t *testing.T) {
	inABubble(t, asIs, func(t *testing.T, c *peersInABubble) {
		var m *bubblePeer
		var victim string
		c.until("the first of the voters is not the Master, and all have the keys", func() bool {
			if m = c.master(); m == nil {
				return false
			}
			voters := m.raft.Status().Voters
			if victim = string(voters[0]); victim == m.cfg.Name {
				must(t, m.abdicate(t.Context()))
				return false
			}
			return len(voters) == 3 && len(m.sealingStatus().Holders) == 3
		})
		before, err := m.vault.keys()
		if err != nil || before == nil {
			t.Fatal(err)
		}
		value, err := m.vault.Seal(place, []byte("\x12\x07\x0a\x01a\x12\x02bc"))
		must(t, err)
		record, rev, ok, err := read[peerRecord](m.raft, peerPrefix+store.Key(victim))
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		must(t, m.refuse(t.Context(), record, rev))
		c.until("the others have new keys, and it has none", func() bool {
			if m = c.master(); m == nil {
				return false
			}
			ring, err := m.vault.keys()
			return err == nil && ring != nil && ring.ID() != before.ID() && len(m.sealingStatus().Holders) == 2
		})
		for name, p := range c.peers {
			if name == victim {
				continue
			}
			c.until(name+" opens what was sealed before", func() bool {
				_, whole, err := p.vault.Open(place, value)
				return err == nil && whole && !p.vault.Locked()
			})
		}
	}, "a", "b", "c")
}
