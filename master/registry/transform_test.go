package registry_test

import (
	"bytes"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/registry"
	"shoal/master/registry/registrytest"
)

// reverse is a transformer whose stored values cannot be taken for plain ones. Without its key it opens them as Secrets without data.
type reverse struct{ noKey atomic.Bool }

const keyOfReverse store.Key = "/shoal/key"

func (r *reverse) Seal(key store.Key, v []byte) ([]byte, error) {
	if r.noKey.Load() {
		return nil, errors.New("no key")
	}
	return turned(key, v), nil
}

func (r *reverse) Open(key store.Key, v []byte) ([]byte, bool, error) {
	v = turned(key, v)
	if !r.noKey.Load() || !isSecret(key) {
		return v, true, nil
	}
	s := &corev1.Secret{}
	if err := s.Unmarshal(v); err != nil {
		return nil, false, err
	}
	s.Data = nil
	v, err := s.Marshal()
	return v, false, err
}

func (r *reverse) Unlocks(key store.Key) bool { return key == keyOfReverse }

func isSecret(key store.Key) bool { return strings.HasPrefix(string(key), "/secrets/") }

func turned(key store.Key, v []byte) []byte {
	if !isSecret(key) {
		return v
	}
	out := bytes.Clone(v)
	for i := range out {
		out[i] = ^out[i]
	}
	return out
}

func TestTransformedValuesNeverReachTheStoreInClear(t *testing.T) {
	l := registrytest.NewLog()
	c := registrytest.Config(l)
	c.Transform = &reverse{}
	r := registrytest.Start(t, c)
	s := &corev1.Secret{Data: map[string][]byte{"password": []byte("correct horse")}}
	s.Namespace, s.Name = "ns", "s"
	create(t, r, api.Secrets, s)
	if got := get(t, r, api.Secrets, "s").(*corev1.Secret); string(got.Data["password"]) != "correct horse" {
		t.Errorf("read back %q", got.Data)
	}
	page, err := l.Store().List("/", "", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range page.KVs {
		if bytes.Contains(kv.Value, []byte("correct horse")) {
			t.Errorf("%s holds the secret in clear", kv.Key)
		}
	}
}

// TestWhatIsLockedIsNotGivenOut: a peer without the key knows of a Secret, gives half of it to nobody, and all of it once it has the key.
func TestWhatIsLockedIsNotGivenOut(t *testing.T) {
	l := registrytest.NewLog()
	c := registrytest.Config(l)
	turn := &reverse{}
	c.Transform = turn
	r := registrytest.Start(t, c)
	s := &corev1.Secret{Data: map[string][]byte{"password": []byte("correct horse")}}
	s.Namespace, s.Name = "ns", "before"
	create(t, r, api.Secrets, s)

	turn.noKey.Store(true)
	s = s.DeepCopy()
	s.Name = "refused"
	if _, err := r.Create(t.Context(), api.Secrets, s, client.CreateOptions{}); !apierrors.IsServiceUnavailable(err) {
		t.Fatalf("a Secret that cannot be sealed: %v", err)
	}
	value, err := (&corev1.Secret{Data: s.Data}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	key := client.Key{Namespace: "ns", Name: "theirs"}
	propose(t, l, store.Op{Key: "/secrets/ns/theirs", Value: turned("/secrets/", value)}) // by a peer that has the key
	e, err := r.GetEntry(t.Context(), api.Secrets, key, client.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.JSON(); err == nil {
		t.Error("half a Secret as JSON")
	}
	if _, err := e.Proto(); err == nil {
		t.Error("half a Secret as protobuf")
	}
	if _, err := r.History(t.Context(), api.Secrets, key); err == nil {
		t.Error("half a Secret as history")
	}
	if _, err := r.Patch(t.Context(), api.Secrets, key, client.Patch{Type: types.MergePatchType, Data: []byte(`{"type":"x"}`)}, client.PatchOptions{}); err == nil {
		t.Error("half a Secret was patched")
	}
	w, err := r.WatchEntries(t.Context(), api.Secrets, client.ListOptions{ResourceVersion: e.Rev.String()})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()

	turn.noKey.Store(false)
	propose(t, l, store.Op{Key: keyOfReverse, Value: []byte("here")})
	if got := get(t, r, api.Secrets, "theirs").(*corev1.Secret); string(got.Data["password"]) != "correct horse" {
		t.Errorf("with the key: %q", got.Data)
	}
	s = s.DeepCopy()
	s.Name = "after"
	create(t, r, api.Secrets, s)
	events, err := w.Next(t.Context())
	if err != nil || len(events) != 1 || events[0].Entry.Key.Name != "after" {
		t.Errorf("a watch across it: %v, %v", events, err)
	}
}

// TestADeletionThatIsAskedForTwiceIsWrittenOnce, though no two seals of a value need be alike.
func TestADeletionThatIsAskedForTwiceIsWrittenOnce(t *testing.T) {
	l := registrytest.NewLog()
	c := registrytest.Config(l)
	c.Transform = &salted{}
	r := registrytest.Start(t, c)
	s := &corev1.Secret{Data: map[string][]byte{"a": []byte("b")}}
	s.Namespace, s.Name, s.Finalizers = "ns", "s", []string{"example.org/stays"}
	create(t, r, api.Secrets, s)
	var first *registry.Entry
	for range 2 {
		e, gone, err := r.DeleteEntry(t.Context(), api.Secrets, client.Key{Namespace: "ns", Name: "s"}, client.DeleteOptions{})
		if err != nil || gone {
			t.Fatal(gone, err)
		}
		if first != nil && e.Rev != first.Rev {
			t.Errorf("written again, at %d and %d", first.Rev, e.Rev)
		}
		first = e
	}
}

// salted seals no two values alike.
type salted struct{ n atomic.Uint32 }

func (s *salted) Seal(_ store.Key, v []byte) ([]byte, error) {
	return append([]byte{byte(s.n.Add(1))}, v...), nil
}
func (s *salted) Open(_ store.Key, v []byte) ([]byte, bool, error) { return v[1:], true, nil }
func (s *salted) Unlocks(store.Key) bool                           { return false }

func propose(t *testing.T, l *registrytest.Log, op store.Op) {
	t.Helper()
	if res, err := l.Propose(t.Context(), store.Txn{Ops: []store.Op{op}}); err != nil || !res.OK {
		t.Fatal(res, err)
	}
}
