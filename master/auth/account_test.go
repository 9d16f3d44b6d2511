package auth

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// testAccounts knows account "robot" of ns with pod "web" on node "one", and opens whatever has two dots and is JSON between.
func testAccounts(now *time.Time) *Accounts {
	uids := map[string]string{"serviceaccounts ns/robot": "u1", "pods ns/web": "u2", "nodes /one": "u3", "secrets ns/word": "u4"}
	return &Accounts{
		Issuer: "us", Audiences: []string{"us", "api"}, Now: func() time.Time { return *now },
		Open: func(token string) ([]byte, error) {
			p := strings.SplitN(token, ".", 3)
			if p[0] != "signed" {
				return nil, errors.New("not ours")
			}
			return []byte(strings.Trim(strings.TrimPrefix(token, "signed"), ".")), nil
		},
		UID: func(_ context.Context, resource, namespace, name string) (string, error) {
			if name == "broken" {
				return "", errors.New("the replica is not ready")
			}
			return uids[resource+" "+namespace+"/"+name], nil
		},
	}
}

func tokenOf(t *testing.T, c *Claims) string {
	t.Helper()
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return "signed." + strings.ReplaceAll(string(b), ".", "\\u002e") + "."
}

func TestAGoodTokenIsItsAccounts(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	a := testAccounts(&now)
	about := About{
		Namespace: "ns", Account: Object{"robot", "u1"}, Pod: &Object{"web", "u2"}, Node: &Object{"gone since", "x"},
	}
	u, of, err := a.Review(t.Context(), tokenOf(t, a.NewClaims(about, []string{"api", "other"}, time.Hour, "id")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if u.Name != "system:serviceaccount:ns:robot" || u.UID != "u1" || !u.In("system:serviceaccounts") || !u.In("system:serviceaccounts:ns") {
		t.Errorf("got %+v", u)
	}
	if !slices.Equal(of, []string{"api"}) || u.Extra[extraPod][0] != "web" || u.Extra[extraID][0] != "JTI=id" {
		t.Errorf("for %q: %+v", of, u.Extra)
	}
}

func TestBadTokensAreRefused(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	account := Object{"robot", "u1"}
	for name, tc := range map[string]struct {
		change    func(*Claims)
		later     time.Duration
		audiences []string
		why       string
	}{
		"expired":           {later: time.Hour + time.Second, why: "expired"},
		"not yet valid":     {change: func(c *Claims) { c.NotBefore += int64(3 * time.Hour / time.Second) }, why: "not valid yet"},
		"another issuer":    {change: func(c *Claims) { c.Issuer = "them" }, why: `issued by "them"`},
		"another audience":  {change: func(c *Claims) { c.Audience = []string{"vault"} }, why: "audiences"},
		"asked for another": {audiences: []string{"vault"}, why: "audiences"},
		"account made anew": {change: func(c *Claims) { c.About.Account.UID = "u9" }, why: `no "robot" any more`},
		"account gone":      {change: func(c *Claims) { c.About.Account.Name = "nobody" }, why: `no "nobody" any more`},
		"pod gone":          {change: func(c *Claims) { c.About.Pod = &Object{"web", "old"} }, why: `of pods there is no "web"`},
		"secret gone":       {change: func(c *Claims) { c.About.Secret = &Object{"none", "u4"} }, why: "of secrets"},
		"node gone":         {change: func(c *Claims) { c.About.Node = &Object{"two", "u3"} }, why: "of nodes"},
		"somebody else's":   {change: func(c *Claims) { c.About.Namespace = "other" }, why: "of serviceaccounts"},
	} {
		t.Run(name, func(t *testing.T) {
			now := start
			a := testAccounts(&now)
			c := a.NewClaims(About{Namespace: "ns", Account: account}, []string{"api"}, time.Hour, "")
			if tc.change != nil {
				tc.change(c)
			}
			now = now.Add(tc.later)
			_, _, err := a.Review(t.Context(), tokenOf(t, c), tc.audiences)
			if !errors.Is(err, ErrUnknownToken) || !strings.Contains(err.Error(), tc.why) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestATokenThatCannotBeCheckedIsNotCalledBad(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	a := testAccounts(&now)
	c := a.NewClaims(About{Namespace: "ns", Account: Object{"broken", "u1"}}, []string{"api"}, time.Hour, "")
	if _, err := a.User(t.Context(), tokenOf(t, c)); err == nil || errors.Is(err, ErrUnknownToken) {
		t.Errorf("got %v", err)
	}
	for _, token := range []string{"", "abc", "a.b.c", "signed.}.", "id.secret"} {
		if _, err := a.User(t.Context(), token); !errors.Is(err, ErrUnknownToken) {
			t.Errorf("%q: %v", token, err)
		}
	}
}

func TestRulesAreThoseOfTheNamespace(t *testing.T) {
	z := NewAuthorizer(nil)
	mine, err := z.Rules(t.Context(), jane, "ns")
	if err != nil || len(mine) == 0 {
		t.Fatal(mine, err)
	}
	all, err := z.Rules(t.Context(), admin, "ns")
	if err != nil || len(all) != len(mine)+2 {
		t.Errorf("an administrator has %d rules, somebody %d: %v", len(all), len(mine), err)
	}
}
