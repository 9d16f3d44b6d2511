package pki

import (
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestTokenRoundTripAndErrors(t *testing.T) {
	hash := strings.Repeat("0a", 32)
	tok := NewToken(hash)
	got, err := ParseToken(" " + tok.String() + "\n")
	if err != nil || got != tok {
		t.Fatalf("got %v, %v", got, err)
	}
	if strings.Contains(slog.AnyValue(tok).Resolve().String(), tok.Secret) {
		t.Error("the log shows the secret")
	}
	for in, want := range map[string]string{
		"":                      "shoal token create",
		"abcdef":                "has 1 parts",
		tok.Bearer():            "has 2 parts",
		"ABCDEF.x." + hash:      "id must be",
		"abcdef.short." + hash:  "secret must be",
		tok.Bearer() + ".0a0a":  "was it cut off",
		tok.String() + ".extra": "has 4 parts",
	} {
		_, err := ParseToken(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseToken(%q): %v, want %q", in, err, want)
		}
		if err != nil && strings.Contains(err.Error(), tok.Secret) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(NewToken(strings.Repeat("ab", 32)).String())
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := ParseToken(s)
		if err == nil && tok.String() != strings.TrimSpace(s) {
			t.Errorf("%q read as %q", s, tok.String())
		}
	})
}

func FuzzParsePEM(f *testing.F) {
	ca, err := NewCA("c", time.Unix(1e9, 0))
	if err != nil {
		f.Fatal(err)
	}
	key, err := ca.KeyPEM()
	if err != nil {
		f.Fatal(err)
	}
	req, err := NewRequest(ca.key, "x", nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{ca.CertPEM(), key, req, append(ca.CertPEM(), ca.CertPEM()...), append(key, ca.CertPEM()...), nil, []byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if certs, err := ParseCerts(data); (len(certs) == 0) == (err == nil) {
			t.Errorf("%d certificates, %v", len(certs), err)
		}
		if key, err := ParseKey(data); (key == nil) == (err == nil) {
			t.Errorf("key %v, %v", key != nil, err)
		}
		_, _ = ParseRequest(data)
		_, _ = ParseCA(data, data)
		if key, err := ParseKey(key); err == nil {
			_, _ = NewIdentity(key, data)
			_, _ = Open(key, "fuzz", data)
		}
	})
}
