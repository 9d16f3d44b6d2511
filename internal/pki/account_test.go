package pki

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func newTestCA(t testing.TB) *CA {
	t.Helper()
	ca, err := NewCA(NewClusterID(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func (ca *CA) certs() []*x509.Certificate { return []*x509.Certificate{ca.cert} }

func TestATokenIsOpenedByItsCAOnly(t *testing.T) {
	ca := newTestCA(t)
	token, err := ca.SignToken([]byte(`{"sub":"me"}`))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := OpenToken(ca.certs(), token); err != nil || string(got) != `{"sub":"me"}` {
		t.Errorf("got %s %v", got, err)
	}
	if got, err := OpenToken(newTestCA(t).certs(), token); err == nil {
		t.Errorf("another CA opened it: %s", got)
	}
}

func TestAForgedTokenIsRefused(t *testing.T) {
	ca := newTestCA(t)
	token, err := ca.SignToken([]byte(`{"sub":"me"}`))
	if err != nil {
		t.Fatal(err)
	}
	p := strings.Split(token, ".")
	b64 := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	for name, forged := range map[string]string{
		"other claims": p[0] + "." + b64(`{"sub":"root"}`) + "." + p[2],
		"unsigned":     b64(`{"alg":"none"}`) + "." + p[1] + ".",
		"symmetric":    b64(`{"alg":"HS256"}`) + "." + p[1] + "." + p[2],
		"cut":          p[0] + "." + p[1],
		"empty":        "",
		"rubbish":      "a.b.c",
	} {
		if got, err := OpenToken(ca.certs(), forged); err == nil {
			t.Errorf("%s: opened as %s", name, got)
		}
	}
}

func TestTokenKeysHoldNothingPrivate(t *testing.T) {
	ca := newTestCA(t)
	b, err := TokenKeys(ca.certs())
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(b, &set); err != nil || len(set.Keys) != 1 {
		t.Fatalf("%s: %v", b, err)
	}
	k := set.Keys[0]
	if k["kty"] != "EC" || k["crv"] != "P-256" || k["alg"] != "ES256" || k["d"] != nil {
		t.Errorf("got %s", b)
	}
}

func FuzzOpenToken(f *testing.F) {
	ca := newTestCA(f)
	token, _ := ca.SignToken([]byte(`{}`))
	f.Add(token)
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := OpenToken(ca.certs(), s); err == nil && s != token && string(got) != "{}" {
			t.Errorf("%q was opened as %q", s, got)
		}
	})
}
