package peer

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"shoal/internal/api"
)

func TestAPhaseOfTheCAEndsWhenAllHaveObeyed(t *testing.T) {
	now := time.Now()
	later := now.Add(time.Hour)
	for name, tc := range map[string]struct {
		record caRotation
		says   map[string]string
		want   string
	}{
		"nobody trusts it":        {caRotation{rotation: rotation{Phase: phaseTrust}}, map[string]string{"a": "old old old", "b": "old old old"}, phaseTrust},
		"one says nothing":        {caRotation{rotation: rotation{Phase: phaseTrust}}, map[string]string{"a": "old old old,new", "b": ""}, phaseTrust},
		"all trust it":            {caRotation{rotation: rotation{Phase: phaseTrust}}, map[string]string{"a": "old old old,new", "b": "old old old,new"}, phaseSign},
		"all but who is left out": {caRotation{rotation: rotation{Phase: phaseTrust, Without: []string{"b"}}}, map[string]string{"a": "old old old,new", "b": ""}, phaseSign},
		"one has an old one":      {caRotation{rotation: rotation{Phase: phaseSign}}, map[string]string{"a": "new old new,old", "b": "old old old,new"}, phaseSign},
		"all have new ones":       {caRotation{rotation: rotation{Phase: phaseSign}}, map[string]string{"a": "new old new,old", "b": "new new new,old"}, phaseOverlap},
		"it is not over":          {caRotation{rotation: rotation{Phase: phaseOverlap}, Until: &later}, map[string]string{"a": "new old new,old"}, phaseOverlap},
		"it is over":              {caRotation{rotation: rotation{Phase: phaseOverlap}, Until: &now}, map[string]string{"a": "new old new,old"}, phaseServe},
		"it is ended":             {caRotation{rotation: rotation{Phase: phaseOverlap}, Until: &later, Finish: true}, map[string]string{"a": "new old new,old"}, phaseServe},
		"one shows the old one":   {caRotation{rotation: rotation{Phase: phaseServe}}, map[string]string{"a": "new old new,old"}, phaseServe},
		"nobody shows it":         {caRotation{rotation: rotation{Phase: phaseServe}}, map[string]string{"a": "new new new,old"}, phaseForget},
		"one trusts the old one":  {caRotation{rotation: rotation{Phase: phaseForget}}, map[string]string{"a": "new new new", "b": "new new new,old"}, phaseForget},
		"nobody trusts it any more": {
			caRotation{rotation: rotation{Phase: phaseForget}}, map[string]string{"a": "new new new", "b": "new new new"}, api.RotationDone,
		},
	} {
		says := map[string]trustSaid{}
		for n, s := range tc.says {
			says[n] = parseTrust(s)
		}
		if got := tc.record.step(says, "new", now); got != tc.want {
			t.Errorf("%s: %s, not %s", name, got, tc.want)
		}
	}
	if s := (trustSaid{"a", "b", []string{"a", "b"}}).String(); parseTrust(s).String() != s || parseTrust("what else").client != "" {
		t.Errorf("%q is read as %v", s, parseTrust(s))
	}
}

// caMember is a machine in the model: what it shows and whom it trusts.
type caMember struct {
	client, server string
	trusted        []string
}

func (m *caMember) says() trustSaid { return trustSaid{m.client, m.server, m.trusted} }

// obey does what trust.go does, as far as it gets: a machine may be killed between any two of the steps.
func (m *caMember) obey(phase, old, fresh string, steps int) {
	last := phase == phaseForget || phase == api.RotationDone
	if !last {
		m.trusted = []string{old, fresh}
	}
	if steps == 0 || phase == phaseTrust {
		return
	}
	m.client, m.server = fresh, map[bool]string{true: old, false: fresh}[phase == phaseSign || phase == phaseOverlap]
	if steps == 1 {
		return
	}
	if last {
		m.trusted = []string{fresh}
	}
}

// TestEveryoneTrustsEveryoneDuringARotation has members obey late, in any order and by half, and Masters go by what was said long ago: at no moment
// does anybody meet a certificate that it does not trust. During the overlap that is so, too, for clients which know one CA or the other.
func TestEveryoneTrustsEveryoneDuringARotation(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		names := []string{"a", "b", "c", "d"}
		members, says := map[string]*caMember{}, map[string]trustSaid{}
		for _, n := range names {
			members[n] = &caMember{"0", "0", []string{"0"}}
			says[n] = members[n].says()
		}
		for _, fresh := range []string{"1", "2"} {
			old := members["a"].client
			r := caRotation{rotation: rotation{Phase: phaseTrust}, Finish: true}
			for steps := 0; r.Phase != api.RotationDone; steps++ {
				if steps > 20000 {
					t.Fatalf("seed %d: it never ends; %s, %v", seed, r.Phase, says)
				}
				n := names[rnd.IntN(len(names))]
				switch rnd.IntN(3) {
				case 0:
					members[n].obey(r.Phase, old, fresh, rnd.IntN(3))
				case 1:
					says[n] = members[n].says()
				case 2:
					r.Phase = r.step(says, fresh, time.Now())
				}
				for _, from := range names {
					for _, to := range names {
						if f, s := members[from], members[to]; !slices.Contains(s.trusted, f.client) || !slices.Contains(f.trusted, s.server) {
							t.Fatalf("seed %d, %s: %s (%+v) calls %s (%+v)", seed, r.Phase, from, f, to, s)
						}
						if r.Phase != phaseServe && r.Phase != phaseForget && r.Phase != api.RotationDone && members[to].server != old {
							t.Fatalf("seed %d, %s: who knows the old CA alone does not trust %s", seed, r.Phase, to)
						}
					}
				}
			}
		}
	}
}
