package gossip

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestJudge(t *testing.T) {
	votes := func(s string) (v []verdict) {
		for _, c := range s {
			v = append(v, verdict(c))
		}
		return v
	}
	for _, tc := range []struct {
		name   string
		was    State
		votes  string
		left   bool
		living int
		want   State
	}{
		{"nobody tried yet", Alive, "", false, 3, Suspect},
		{"one of many found nothing", Suspect, "u", false, 3, Suspect},
		{"two found nothing", Suspect, "uu", false, 4, Gone},
		{"the only other one found nothing", Suspect, "u", false, 1, Gone},
		{"one of two found nothing", Suspect, "u", false, 2, Suspect},
		{"one found it", Suspect, "r", false, 3, Silent},
		{"one found it, many did not", Suspect, "uuur", false, 5, Silent},
		{"gone and found", Gone, "ur", false, 3, Silent},
		{"silent and lost", Silent, "uu", false, 3, Gone},
		{"silent, one lost it", Silent, "uw", false, 3, Silent},
		{"voters died", Gone, "", false, 3, Gone},
		{"withdrawn votes do not count", Suspect, "wwu", false, 3, Suspect},
		{"goodbye", Alive, "", true, 3, Left},
		{"goodbye after suspicion", Suspect, "", true, 3, Left},
		{"goodbye, machine there", Left, "r", true, 3, Left},
		{"goodbye, machine gone", Left, "uu", true, 3, Gone},
		{"goodbye, machine back", Gone, "r", true, 3, Left},
		{"from before", Unknown, "", false, 3, Unknown},
		{"from before, gone", Unknown, "uu", false, 3, Gone},
	} {
		if got := judge(tc.was, votes(tc.votes), tc.left, tc.living); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestVotesOfANewerPeerAreLeftOut(t *testing.T) {
	known := vote{Voter: "a", Subject: "b", Seq: 2, Verdict: refused}
	votes, err := decodeVotes(encodeVotes([]vote{{Voter: "a", Subject: "c", Seq: 3, Verdict: "what comes later"}, known}))
	if diff := cmp.Diff([]vote{known}, votes); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if votes, err := decodeVotes(encodeVotes([]vote{known, {Voter: "a", Subject: "a", Seq: 4, Verdict: refused}})); err == nil {
		t.Errorf("what makes no sense became %v", votes)
	}
}

func TestVotesOfOneVoterCountInTheirOrder(t *testing.T) {
	b := ballots{}
	late := vote{Voter: "a", Subject: "b", Seq: 2, Verdict: reachable}
	early := vote{Voter: "a", Subject: "b", Seq: 1, Verdict: unreachable}
	if !b.add(late) || b.add(early) || b.add(late) {
		t.Error("an older vote or a repetition was news")
	}
	if diff := cmp.Diff([]vote{late}, b.all()); diff != "" {
		t.Error(diff)
	}
	b.spend("b")
	if b.add(late) || b["b"]["a"].Verdict != withdrawn {
		t.Error("a spent vote counts when it arrives once more")
	}
	if !b.add(vote{Voter: "a", Subject: "b", Seq: 3, Verdict: unreachable}) {
		t.Error("a new vote after spending is no news")
	}
}

func TestCheckersAreTheSameForAllAndFewInALargeCluster(t *testing.T) {
	members := map[string]*member{}
	for _, n := range strings.Split("abcdefghijklmnopqrst", "") {
		members[n] = &member{Member: Member{Name: n}, up: n != "s"}
	}
	var chosen []string
	for n := range members {
		g := &Gossip{cfg: Config{Name: n}, members: members}
		if n != "s" && slices.Contains(g.checkersLocked("s"), n) {
			chosen = append(chosen, n)
		}
	}
	if len(chosen) != checkers {
		t.Errorf("chosen %v", chosen)
	}
}

func TestJudgeDoubted(t *testing.T) {
	for _, c := range []struct {
		votes  []verdict
		living int
		want   State
	}{
		{nil, 2, Alive},
		{[]verdict{withdrawn, withdrawn}, 2, Alive},
		{[]verdict{unreachable}, 2, Alive},
		{[]verdict{unreachable}, 1, Gone},
		{[]verdict{refused}, 1, Silent},
		{[]verdict{refused}, 2, Alive},
		{[]verdict{unreachable, unreachable}, 4, Gone},
		{[]verdict{refused, unreachable}, 4, Silent},
		{[]verdict{refused, refused}, 2, Silent},
		{[]verdict{unreachable, unreachable, reachable}, 4, Alive},
		{[]verdict{refused, refused, reachable}, 4, Alive}, // it was started again meanwhile
	} {
		if got := judgeDoubted(c.votes, c.living); got != c.want {
			t.Errorf("votes %q of %d: %s, want %s", c.votes, c.living, got, c.want)
		}
	}
}

func TestMetaOverTheLimitIsRefused(t *testing.T) {
	if _, err := New(Config{Name: "a", Meta: map[string]string{"k": strings.Repeat("v", 600)}}); err == nil || !strings.Contains(err.Error(), "more than the 512") {
		t.Errorf("New: %v", err)
	}
	g, err := New(Config{Name: "a", Meta: map[string]string{"k": "v"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.UpdateMeta(map[string]string{"k": strings.Repeat("v", 600)}); err == nil {
		t.Error("UpdateMeta took it")
	}
	if diff := cmp.Diff(map[string]string{"k": "v"}, decodeMeta(g.meta)); diff != "" {
		t.Error(diff)
	}
}

func TestDialHostTellsMachineFromPeer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if a, err := dialHost(ctx, l.Addr().String()); a != Accepted || err != nil {
		t.Errorf("listening: %v %v", a, err)
	}
	_ = l.Close()
	if a, err := dialHost(ctx, l.Addr().String()); a != Refused || err != nil {
		t.Errorf("closed: %v %v", a, err)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if a, err := dialHost(late, l.Addr().String()); a != NoAnswer || err != nil {
		t.Errorf("too late: %v %v", a, err)
	}
}

func FuzzDecodeVotes(f *testing.F) {
	f.Add(encodeVotes([]vote{{"a", "b", 1, reachable}, {"b", "b", 2, goodbye}}))
	f.Add([]byte(`[{"v":"a","s":"a","q":18446744073709551615,"x":"g"}]`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		votes, err := decodeVotes(data)
		if err != nil {
			return
		}
		again, err := decodeVotes(encodeVotes(votes))
		if err != nil || !cmp.Equal(votes, again) && len(votes) > 0 {
			t.Errorf("%v became %v, %v", votes, again, err)
		}
		b := ballots{}
		for _, v := range votes {
			b.add(v)
		}
		if len(b.all()) > len(votes) {
			t.Error("votes multiplied")
		}
	})
}

func FuzzDecodeMeta(f *testing.F) {
	f.Add([]byte(`{"a":"b"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		meta := decodeMeta(data)
		if enc, err := encodeMeta(meta); err == nil && len(meta) > 0 && !cmp.Equal(decodeMeta(enc), meta) {
			t.Errorf("%q became %q", meta, enc)
		}
	})
}
