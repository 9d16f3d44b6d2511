package api

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestUserTokens(t *testing.T) {
	end := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	token, s, err := NewUserToken("jane@example.org", []string{"crew", "deck hands"}, end)
	if err != nil {
		t.Fatal(err)
	}
	name, secret, ok := SplitUserToken(token)
	if !ok || name != s.Name || strings.Contains(string(s.Data[userTokenHash]), secret) {
		t.Errorf("%q, %t, %+v", name, ok, s)
	}
	got, err := UserTokenOf(s)
	if err != nil || got.User != "jane@example.org" || !slices.Equal(got.Groups, []string{"crew", "deck hands"}) || !got.Expires.Equal(end) || !got.Matches(secret) || got.Matches(secret+"0") || got.Matches("") {
		t.Errorf("%+v, %v", got, err)
	}
	if s.Namespace != "kube-system" || Secrets.Validate(s) != nil {
		t.Errorf("%v", Secrets.Validate(s))
	}
}

func TestUserTokensThatAreNone(t *testing.T) {
	_, good, err := NewUserToken("jane", nil, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*corev1.Secret){
		"no user's token":        func(s *corev1.Secret) { s.Type = "Opaque" },
		"is no user's":           func(s *corev1.Secret) { s.Namespace = "team" },
		"no hash":                func(s *corev1.Secret) { s.Data[userTokenHash] = []byte("short") },
		"its end":                func(s *corev1.Secret) { s.Data[userTokenExpires] = []byte("soon") },
		"without a name":         func(s *corev1.Secret) { s.Data[userTokenUser] = nil },
		"the cluster's own":      func(s *corev1.Secret) { s.Data[userTokenGroups] = []byte("crew\nsystem:masters") },
		`"system:node:peer-1"`:   func(s *corev1.Secret) { s.Data[userTokenUser] = []byte("system:node:peer-1") },
		"has control characters": func(s *corev1.Secret) { s.Data[userTokenUser] = []byte("a\x1bb") },
	} {
		s := good.DeepCopy()
		change(s)
		if _, err := UserTokenOf(s); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, name := range []string{"", "system:admin", strings.Repeat("x", 254)} {
		if _, _, err := NewUserToken(name, nil, time.Time{}); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
}

func FuzzUserToken(f *testing.F) {
	token, _, err := NewUserToken("jane", nil, time.Time{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Add("shoal..")
	f.Fuzz(func(t *testing.T, s string) {
		if name, secret, ok := SplitUserToken(s); ok && (len(name) != len(userTokenName)+16 || secret == "") {
			t.Errorf("%q: %q, %q", s, name, secret)
		}
	})
}
