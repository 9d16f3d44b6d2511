//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"shoal/internal/api"
)

// TestFiveDieOneAfterTheOther takes the power from the Master's machine, each time as soon as the loss before is repaired, until two of five are
// left, which must still write; then all come back.
func TestFiveDieOneAfterTheOther(t *testing.T) {
	c := startLab(t, 5)
	var dead, acked []string
	for len(dead) < 3 {
		victim := master(t)
		dead = append(dead, victim)
		living := slices.DeleteFunc(slices.Clone(c.names), func(n string) bool { return slices.Contains(dead, n) })
		w := startWriting(t, configMaps(clientFor(t, living[0])), fmt.Sprint("after-", len(dead)))
		<-w.wake
		killed := time.Now()
		shoal(t, "lab", "kill", victim)
		outage := w.outage(t, time.Now(), 10*time.Second)
		within(t, 10*time.Second, "who votes lives", func(context.Context) error {
			votes := 0
			for _, p := range status(t).Peers {
				if p.Role == api.RoleMaster || p.Role == api.RoleVoter {
					votes++
					if slices.Contains(dead, p.Name) && len(living) > 2 {
						return fmt.Errorf("%s votes and is dead", p.Name)
					}
				}
			}
			if votes != 3 {
				return fmt.Errorf("%d vote", votes)
			}
			return nil
		})
		t.Logf("FIGURES %d of 5 left: no write for %v, voters mended after %v", len(living), outage.Round(time.Millisecond), time.Since(killed).Round(time.Millisecond))
		acked = append(acked, w.stop()...)
	}
	for _, name := range dead {
		shoal(t, "lab", "start", name)
	}
	c.allVote(t)
	noneLost(t, c, acked)
}
