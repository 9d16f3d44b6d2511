package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/node/volume"
)

// issuer is an API that issues tokens for as long as it is asked to, and can be away.
type issuer struct {
	client.Interface
	n    int
	away bool
}

func (i *issuer) Create(_ context.Context, k *api.Kind, o runtime.Object, opts client.CreateOptions) (runtime.Object, error) {
	req, ok := o.(*authenticationv1.TokenRequest)
	if !ok || k != api.ServiceAccounts || opts.Subresource != "token" || opts.Key != (client.Key{Namespace: "n", Name: "sa"}) ||
		req.Spec.BoundObjectRef.UID != "u" {
		return nil, fmt.Errorf("unexpected request %v %v", o, opts)
	}
	if i.away {
		return nil, errors.New("away")
	}
	i.n++
	req.Status.Token = fmt.Sprint("token-", i.n)
	req.Status.ExpirationTimestamp = metav1.NewTime(time.Now().Add(time.Duration(*req.Spec.ExpirationSeconds) * time.Second))
	return req, nil
}

// TestTokensOfAnotherSignerAreRenewed: when the cluster's CA has changed, what the old one signed is good for a while only.
func TestTokensOfAnotherSignerAreRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		by, changed := "old", make(chan struct{})
		n := &Node{log: slog.New(slog.DiscardHandler), cfg: Config{
			Client: &issuer{}, Now: time.Now, Signer: func() (string, <-chan struct{}) { return by, changed },
		}}
		n.pods = &pods{n: n}
		n.tokens = newTokens(n)
		w := newWorker(n, "u")
		n.pods.workers = map[types.UID]*worker{"u": w}
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", UID: "u"}, Spec: corev1.PodSpec{ServiceAccountName: "sa"}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- n.tokens.follow(ctx) }()
		synctest.Wait()
		for _, tc := range []struct{ by, want string }{{"old", "token-1"}, {"old", "token-1"}, {"new", "token-2"}, {"new", "token-2"}} {
			was := changed
			by, changed = tc.by, make(chan struct{})
			close(was)
			synctest.Wait()
			if got, err := n.tokens.Token(ctx, p, "", 3600); got != tc.want || err != nil {
				t.Errorf("signed by the %s one: %s, not %s (%v)", tc.by, got, tc.want, err)
			}
		}
		w.mu.Lock()
		if !w.refresh {
			t.Error("the pod was not told")
		}
		w.mu.Unlock()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		n.tokens.release("u")
	})
}

func TestTokensAreRenewedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := &issuer{}
		n := &Node{cfg: Config{Client: from, Now: time.Now}, log: slog.New(slog.DiscardHandler)}
		n.pods = &pods{n: n}
		n.tokens = newTokens(n)
		w := newWorker(n, "u")
		n.pods.workers = map[types.UID]*worker{"u": w}
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", UID: "u"}, Spec: corev1.PodSpec{ServiceAccountName: "sa"}}
		const day = 24 * 60 * 60
		check := func(seconds int64, want string) {
			t.Helper()
			got, err := n.tokens.Token(t.Context(), p, "", seconds)
			if want == "" {
				if !errors.Is(err, volume.ErrToken) {
					t.Errorf("without any token: %q, %v", got, err)
				}
			} else if got != want || err != nil {
				t.Errorf("got %q, %v; want %s", got, err, want)
			}
		}
		asked := func() bool {
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			was := w.refresh
			w.refresh = false
			return was
		}
		pass := func(d time.Duration) { <-time.After(d) }

		check(3600, "token-1")
		check(3600, "token-1")
		check(100*day, "token-2") // another volume of the same pod
		if pass(47 * time.Minute); asked() {
			t.Error("renewed before 80 % of its life")
		}
		if pass(2 * time.Minute); !asked() {
			t.Error("not renewed after 80 % of its life")
		}
		check(3600, "token-3")
		check(100*day, "token-2")
		if pass(24 * time.Hour); !asked() {
			t.Error("not renewed after a day")
		}
		check(100*day, "token-4")

		check(3600, "token-5")
		from.away = true
		pass(50 * time.Minute)
		asked()
		check(3600, "token-5") // still valid
		if pass(11 * time.Second); !asked() {
			t.Error("not asked again after a failure")
		}
		check(3600, "token-5")
		if pass(time.Hour); !asked() {
			t.Error("not asked again after the second failure")
		}
		check(3600, "")
		from.away = false
		check(3600, "token-6")
		n.tokens.release("u")
		if pass(48 * time.Hour); asked() || len(n.tokens.held) > 0 {
			t.Error("tokens of a pod that is gone are renewed")
		}
	})
}
