package main

import (
	"testing"
	"time"

	"shoal/internal/api"
)

func TestHowFarARotationIs(t *testing.T) {
	now := time.Now()
	ago, later := now.Add(-3*time.Hour), now.Add(48*time.Hour)
	for _, tc := range []struct {
		r    api.Rotation
		want string
	}{
		{api.Rotation{What: "gossip"}, "gossip: never rotated"},
		{api.Rotation{What: "gossip", ID: "1", Phase: "use", Peers: 3}, "gossip: use: 3 of 3 machines"},
		{
			api.Rotation{What: "gossip", ID: "1", Phase: "install", Peers: 3, Waiting: []api.RotationWait{{Peer: "b", Why: "it is away (Gone)"}, {Peer: "c", Why: "it is at it"}}},
			"gossip: install: 1 of 3 machines; waiting for b (it is away (Gone)), c (it is at it)",
		},
		{api.Rotation{What: "gossip", ID: "1", Phase: "done", Peers: 3, Finished: &ago, Without: []string{"b"}}, "gossip: rotated 3h ago; without b"},
		{
			api.Rotation{What: "ca", ID: "1", Phase: "overlap", Peers: 3, Until: &later},
			"ca: the new one is in use, what is of the old one is good, until " + later.Local().Format(time.DateTime),
		},
	} {
		if got := rotationLine(&tc.r, now); got != tc.want {
			t.Errorf("%q, not %q", got, tc.want)
		}
	}
}

func TestOldKeysAreToBeLookedAt(t *testing.T) {
	now := time.Now()
	long, lately := now.Add(-400*24*time.Hour), now.Add(-time.Hour)
	f := facts{rotations: []api.Rotation{
		{What: "gossip", ID: "1", Phase: "done", Finished: &lately}, {What: "ca", ID: "2", Phase: "done", Finished: &long},
	}}
	if got := f.oldKeys(now); len(got) != 1 || got[0] != "ca: as it is since "+long.Format(time.DateOnly)+": shoal rotate ca" {
		t.Error(got)
	}
	f.rotations[0].Phase = "use"
	if got := f.oldKeys(now); len(got) != 2 {
		t.Error(got)
	}
}
