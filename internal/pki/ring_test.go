package pki

import (
	"bytes"
	"errors"
	"testing"
)

func newRing(t *testing.T) *Ring {
	t.Helper()
	r, err := NewRing()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func next(t *testing.T, r *Ring) *Ring {
	t.Helper()
	n, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestARingOpensWhatItsLastTwoKeysSealed(t *testing.T) {
	first := newRing(t)
	second := next(t, first)
	third := next(t, second)
	sealed := first.Seal("/secrets/a/b", []byte("value"))
	for i, r := range []*Ring{first, second} {
		if got, err := r.Open("/secrets/a/b", sealed); err != nil || string(got) != "value" {
			t.Errorf("ring %d opens %q, %v", i+1, got, err)
		}
	}
	if _, err := third.Open("/secrets/a/b", sealed); !errors.Is(err, ErrNoKey) {
		t.Errorf("two keys later: %v", err)
	}
	if !first.Newest(sealed) || second.Newest(sealed) || first.ID() == second.ID() {
		t.Error("the newest key is not told from the one before")
	}
}

func TestARingOpensNothingElse(t *testing.T) {
	r := newRing(t)
	sealed := r.Seal("/secrets/a/b", []byte("value"))
	if bytes.Contains(sealed, []byte("value")) {
		t.Fatal("sealed in clear")
	}
	if again := r.Seal("/secrets/a/b", []byte("value")); bytes.Equal(again, sealed) {
		t.Error("two seals of one value are the same")
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := r.Open("/secrets/a/b", changed); !errors.Is(err, ErrNoKey) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if _, err := r.Open("/secrets/a/b", sealed[:i]); !errors.Is(err, ErrNoKey) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	if _, err := r.Open("/secrets/a/c", sealed); !errors.Is(err, ErrNoKey) {
		t.Errorf("opened in another's place: %v", err)
	}
	if _, err := newRing(t).Open("/secrets/a/b", sealed); !errors.Is(err, ErrNoKey) {
		t.Errorf("opened by another ring: %v", err)
	}
}

func TestARingIsReadAsWritten(t *testing.T) {
	r := next(t, newRing(t))
	b, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseRing(b)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := back.Open("x", r.Seal("x", []byte("y"))); err != nil || string(got) != "y" || back.ID() != r.ID() {
		t.Errorf("%q, %v", got, err)
	}
}

func FuzzParseRing(f *testing.F) {
	r, _ := NewRing()
	good, _ := r.Marshal()
	for _, b := range []string{"", "{}", `{"keys":[{}]}`, `{"keys":[{"id":"AAAAAA==","key":"AA=="}]}`, string(good)} {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRing(b)
		if err != nil {
			return
		}
		if got, err := r.Open("p", r.Seal("p", b)); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%v", err)
		}
	})
}
