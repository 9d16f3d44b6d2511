package peer

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"shoal/gossip"
	"shoal/internal/api"
)

func TestAPhaseEndsWhenAllHaveObeyed(t *testing.T) {
	for name, tc := range map[string]struct {
		phase   string
		says    map[string]string
		without []string
		want    string
	}{
		"nobody has it":              {phaseInstall, map[string]string{"a": "old", "b": "old"}, nil, phaseInstall},
		"one has it":                 {phaseInstall, map[string]string{"a": "old,new", "b": "old"}, nil, phaseInstall},
		"one says nothing":           {phaseInstall, map[string]string{"a": "old,new", "b": ""}, nil, phaseInstall},
		"all have it":                {phaseInstall, map[string]string{"a": "old,new", "b": "old,new"}, nil, phaseUse},
		"all but who is left out":    {phaseInstall, map[string]string{"a": "old,new", "b": "old"}, []string{"b"}, phaseUse},
		"one uses it already":        {phaseInstall, map[string]string{"a": "old,new", "b": "new,old"}, nil, phaseUse},
		"one does not use it":        {phaseUse, map[string]string{"a": "new,old", "b": "old,new"}, nil, phaseUse},
		"all use it":                 {phaseUse, map[string]string{"a": "new,old", "b": "new"}, nil, phaseRemove},
		"one has the old one":        {phaseRemove, map[string]string{"a": "new", "b": "new,old"}, nil, phaseRemove},
		"a longer name is not it":    {phaseRemove, map[string]string{"a": "new", "b": "new2"}, nil, phaseRemove},
		"nobody has the old one":     {phaseRemove, map[string]string{"a": "new", "b": "new"}, nil, api.RotationDone},
		"nobody but who is left out": {phaseRemove, map[string]string{"a": "new", "b": "old"}, []string{"b"}, api.RotationDone},
	} {
		r := gossipRotation{rotation: rotation{Phase: tc.phase, Without: tc.without}, Key: "new"}
		if got := r.step(tc.says); got != tc.want {
			t.Errorf("%s: %s, not %s", name, got, tc.want)
		}
	}
}

func TestWhatAPhaseMakesOfAKeyring(t *testing.T) {
	for name, tc := range map[string]struct{ phase, have, want string }{
		"install":                  {phaseInstall, "A", "AN"},
		"install again":            {phaseInstall, "AN", "AN"},
		"install where it is used": {phaseInstall, "NA", "NA"},
		"use":                      {phaseUse, "AN", "NA"},
		"use, having slept":        {phaseUse, "A", "NA"},
		"use again":                {phaseUse, "NA", "NA"},
		"remove":                   {phaseRemove, "NA", "N"},
		"remove, having slept":     {phaseRemove, "AB", "N"},
		"done":                     {api.RotationDone, "N", "N"},
		"done, having slept":       {api.RotationDone, "A", "N"},
	} {
		r := gossipRotation{rotation: rotation{Phase: tc.phase}}
		got := bytes.Join(r.keyring(bytes.Split([]byte(tc.have), nil), []byte("N")), nil)
		if string(got) != tc.want {
			t.Errorf("%s: %s becomes %s, not %s", name, tc.have, got, tc.want)
		}
	}
}

// TestEveryoneUnderstandsEveryoneDuringARotation has members obey late, in any order, and crash before they have said so, and Masters go by what was
// said long ago: at no moment does anyone use a key that somebody else does not hold.
func TestEveryoneUnderstandsEveryoneDuringARotation(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		names := []string{"a", "b", "c", "d"}
		keys, says := map[string][][]byte{}, map[string]string{}
		oldest := []byte("key of before")
		for _, n := range names {
			keys[n] = [][]byte{oldest}
			says[n] = fingerprints(keys[n])
		}
		for round := range 3 {
			fresh := []byte{byte(round)}
			r := gossipRotation{rotation: rotation{Phase: phaseInstall}, Key: gossip.Fingerprint(fresh)}
			for steps := 0; r.Phase != api.RotationDone; steps++ {
				if steps > 10000 {
					t.Fatalf("seed %d: it never ends; %s, %v", seed, r.Phase, says)
				}
				n := names[rnd.IntN(len(names))]
				switch rnd.IntN(3) {
				case 0:
					keys[n] = r.keyring(keys[n], fresh)
				case 1:
					says[n] = fingerprints(keys[n])
				case 2:
					r.Phase = r.step(says)
				}
				for _, from := range names {
					for _, to := range names {
						if !slices.ContainsFunc(keys[to], func(k []byte) bool { return bytes.Equal(k, keys[from][0]) }) {
							t.Fatalf("seed %d, %s: %s does not understand %s", seed, r.Phase, to, from)
						}
					}
				}
			}
			for _, n := range names {
				if len(keys[n]) != 1 || !bytes.Equal(keys[n][0], fresh) {
					t.Fatalf("seed %d: done, and %s has %v", seed, n, keys[n])
				}
			}
		}
	}
}
