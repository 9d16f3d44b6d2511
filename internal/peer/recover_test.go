package peer

import (
	"testing"
	"time"
)

func TestAnEpochIsNeverUsedTwice(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, tc := range []struct {
		before uint64
		now    time.Time
		want   uint64
	}{
		{0, now, 1_800_000_000},
		{1_700_000_000, now, 1_800_000_000},
		{1_800_000_000, now, 1_800_000_001}, // twice within a second
		{1_900_000_000, now, 1_900_000_001}, // a clock that was ahead
		{0, time.Unix(-5, 0), 1},
	} {
		if got := nextEpoch(tc.before, tc.now); got != tc.want {
			t.Errorf("after %d at %d: %d, want %d", tc.before, tc.now.Unix(), got, tc.want)
		}
	}
}
