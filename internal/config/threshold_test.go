package config

import "testing"

func TestParseThreshold(t *testing.T) {
	for s, want := range map[string]Threshold{"100Mi": {Amount: 100 << 20}, "10%": {Share: 0.1}, "0%": {}, "0": {}, "1500": {Amount: 1500}} {
		if got, err := ParseThreshold(s); err != nil || got != want {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "%", "-1%", "100%", "NaN%", "Inf%", "-5Mi", "ten"} {
		if got, err := ParseThreshold(s); err == nil {
			t.Errorf("%q: %+v", s, got)
		}
	}
}
