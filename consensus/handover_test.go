package consensus

import (
	"testing"
	"time"
)

// TestHandingOverInVainLeavesNothingBehind: the bubble fails when a goroutine of Raft's is left. Which of the things it finds ready Raft
// takes first is chance, so there are several rounds.
func TestHandingOverInVainLeavesNothingBehind(t *testing.T) {
	for range 8 {
		bubble(t, func(t *testing.T) {
			c := newCluster(t, 3, func(cfg *Config) { cfg.Timing = Timing{Heartbeat: 200 * time.Millisecond, Election: 2 * time.Second} })
			first := c.master()
			away := first.others()[0]
			c.mu.Lock()
			c.cut[[2]PeerID{first.cfg.ID, away}] = true
			c.wireLocked()
			c.mu.Unlock()
			c.put("a", "1")
			rest(t.Context(), 30*time.Second) // Raft's own pauses grow to ten seconds, longer than a transfer may take
			term := first.Term()
			if err := first.transferTo(t.Context(), away); err == nil || first.Term() != term {
				t.Fatalf("handed over to one that is out of reach, or not the Master any more: %v", err)
			}
			if err := first.transferTo(t.Context(), away); err != nil {
				t.Errorf("nobody else takes what one cannot be given: %v", err)
			}
			c.until("another Master", func() bool { return first.Status().Role != RoleMaster && len(c.masters()) == 1 })
			c.stop(first.cfg.ID)
			c.heal()
			c.put("a", "2")
			c.same()
		})
	}
}
