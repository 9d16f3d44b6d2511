package gossip

import "time"

// What a member that falls (becomes Silent or Gone) again and again has to stand: the first fall is forgiven, after each further one within
// fallsKept it must stay for a while, twice as long each time, until it counts as steady.
const (
	fallsKept = 10 * time.Minute
	oneFall   = 10 * time.Second // what follows so soon is the same one: a process that is started again at once may be missed late
	firstHold = 30 * time.Second
	lastHold  = 10 * time.Minute
)

// hold is how long a member that came back must stay to count as steady.
func hold(falls int) time.Duration {
	d := time.Duration(0)
	for range min(falls-1, 10) {
		d = min(max(2*d, firstHold), lastHold)
	}
	return d
}

// moved notes what became of a member's steadiness when its state changed.
func (m *member) moved(was State, now time.Time) {
	stood := was == Alive || was == Suspect
	switch {
	case stood && (m.State == Silent || m.State == Gone):
		kept := m.falls[:0]
		for _, at := range m.falls {
			if now.Sub(at) < fallsKept {
				kept = append(kept, at)
			}
		}
		if n := len(kept); n == 0 || now.Sub(kept[n-1]) >= oneFall {
			kept = append(kept, now)
		}
		m.falls, m.Unsteady = kept, time.Time{}
	case m.State == Alive && was != Suspect:
		if d := hold(len(m.falls)); d > 0 && now.Sub(m.falls[len(m.falls)-1]) < fallsKept {
			m.Unsteady = now.Add(d)
		}
	}
}

// calmLocked makes members steady whose time has come, and returns when the next one's does.
func (g *Gossip) calmLocked(now, next time.Time) time.Time {
	calm := false
	for _, m := range g.members {
		switch {
		case m.Unsteady.IsZero():
		case !m.Unsteady.After(now):
			m.Unsteady, calm = time.Time{}, true
		case m.Unsteady.Before(next):
			next = m.Unsteady
		}
	}
	if calm {
		g.notifyLocked()
	}
	return next
}
