package peer

import (
	"bytes"
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/pki"
)

// memoryLog is a log of one peer that is its store.
type memoryLog struct{ s *store.Store }

func (l memoryLog) Store() *store.Store { return l.s }
func (l memoryLog) Propose(_ context.Context, t store.Txn) (store.Result, error) {
	return l.s.Apply(0, t), nil
}

func ring(t *testing.T) *pki.Ring {
	t.Helper()
	r, err := pki.NewRing()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func secretOf(t *testing.T) (*corev1.Secret, []byte) {
	t.Helper()
	s := &corev1.Secret{Type: "Opaque", Data: map[string][]byte{"password": []byte("correct horse")}}
	s.Namespace, s.Name, s.UID = "ns", "s", "u"
	s.Labels = map[string]string{"app": "db"}
	s.Annotations = map[string]string{corev1.LastAppliedConfigAnnotation: `{"stringData":{"password":"correct horse"}}`}
	b, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return s, b
}

const place store.Key = "/secrets/ns/s"

func TestASealedSecretShowsItsMetadataOnly(t *testing.T) {
	r := ring(t)
	s, value := secretOf(t)
	sealed, err := sealSecret(r, place, value)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("correct horse")) || bytes.Contains(sealed, []byte("last-applied")) {
		t.Errorf("in clear: %q", sealed)
	}
	for _, tc := range []struct {
		name string
		ring *pki.Ring
		at   store.Key
	}{{"no key", nil, place}, {"another key", ring(t), place}, {"another place", r, "/secrets/ns/other"}} {
		open, whole, err := openSecret(tc.ring, tc.at, sealed)
		got := &corev1.Secret{}
		if err != nil || whole || got.Unmarshal(open) != nil {
			t.Fatalf("%s: %v, whole %v", tc.name, err, whole)
		}
		want := s.DeepCopy()
		want.Data, want.Annotations = nil, nil
		if !equality.Semantic.DeepEqual(got, want) {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
	open, whole, err := openSecret(r, place, sealed)
	if err != nil || !whole || !bytes.Equal(open, value) {
		t.Errorf("opened: %q, %v, %v", open, whole, err)
	}
	next, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		ring *pki.Ring
		want bool
	}{{r, true}, {next, false}} {
		if newly, err := sealedNewly(tc.ring, sealed); err != nil || newly != tc.want {
			t.Errorf("sealed with the newest key: %v, %v; want %v", newly, err, tc.want)
		}
	}
}

func TestHashesOfUsersTokensStayReadable(t *testing.T) {
	_, s, err := api.NewUserToken("jane", nil, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	value, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if sealed, err := sealSecret(ring(t), place, value); err != nil || !bytes.Equal(sealed, value) {
		t.Errorf("%q, %v", sealed, err)
	}
}

// TestAVaultFollowsTheStore: no ring, a founder's, a copy for another peer, its own, a newer one.
func TestAVaultFollowsTheStore(t *testing.T) {
	id := testIdentity(t, "one")
	l := memoryLog{store.New()}
	v := &vault{log: l, id: id, own: vaultPrefix + "one"}
	_, value := secretOf(t)
	if got, err := v.Seal(place, value); err != nil || !bytes.Equal(got, value) || v.Locked() {
		t.Fatalf("without a ring: %v, locked %v", err, v.Locked())
	}
	first := ring(t)
	give := func(name string, to *pki.Ring) {
		t.Helper()
		plain, err := to.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		blob, err := pki.Seal(&id.Key().PublicKey, vaultPurpose, plain)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Propose(t.Context(), store.Txn{Ops: []store.Op{{Key: vaultPrefix + store.Key(name), Value: blob}}}); err != nil {
			t.Fatal(err)
		}
	}
	give("two", first)
	if _, err := v.Seal(place, value); err == nil || !v.Locked() {
		t.Errorf("without a copy: %v, locked %v", err, v.Locked())
	}
	founder := &vault{log: l, id: id, own: vaultPrefix + "one", founder: first}
	if _, err := founder.Seal(place, value); err != nil || founder.Locked() {
		t.Errorf("the founder: %v", err)
	}
	give("one", first)
	if !v.Unlocks(vaultPrefix+"one") || v.Unlocks(vaultPrefix+"two") || v.Unlocks(place) {
		t.Error("what unlocks is not told")
	}
	sealed, err := v.Seal(place, value)
	if err != nil || v.Locked() {
		t.Fatal(err)
	}
	second, err := first.Next()
	if err != nil {
		t.Fatal(err)
	}
	give("one", second)
	if open, whole, err := v.Open(place, sealed); err != nil || !whole || !bytes.Equal(open, value) {
		t.Errorf("sealed with the key before: %v, %v", whole, err)
	}
	again, err := v.Seal(place, value)
	if err != nil {
		t.Fatal(err)
	}
	if newly, err := sealedNewly(second, again); err != nil || !newly {
		t.Errorf("after the change of keys it seals with the key before: %v", err)
	}
	if open, whole, err := v.Open("/configmaps/ns/c", []byte("anything")); err != nil || !whole || string(open) != "anything" {
		t.Errorf("another kind: %q, %v, %v", open, whole, err)
	}
}

func FuzzOpenSecret(f *testing.F) {
	r, err := pki.NewRing()
	if err != nil {
		f.Fatal(err)
	}
	s := &corev1.Secret{Data: map[string][]byte{"a": []byte("b")}}
	value, err := s.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := sealSecret(r, place, value)
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range [][]byte{nil, value, sealed, []byte("k8s")} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		open, _, err := openSecret(r, place, b)
		if err != nil {
			return
		}
		if err := new(corev1.Secret).Unmarshal(open); err != nil {
			t.Errorf("opened to what is no Secret: %v", err)
		}
		if _, err := sealedNewly(r, b); err != nil {
			t.Error(err)
		}
	})
}

// What a Secret costs more than a ConfigMap, on its way in and on its way out.
func BenchmarkSecrets(b *testing.B) {
	r, err := pki.NewRing()
	if err != nil {
		b.Fatal(err)
	}
	s := &corev1.Secret{Data: map[string][]byte{"a": bytes.Repeat([]byte("x"), 1000)}}
	value, err := s.Marshal()
	if err != nil {
		b.Fatal(err)
	}
	sealed, err := sealSecret(r, place, value)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := sealSecret(r, place, value); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := openSecret(r, place, sealed); err != nil {
				b.Fatal(err)
			}
		}
	})
}
