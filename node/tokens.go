package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/node/volume"
)

// tokens holds the tokens of service accounts that this machine's pods were given, and has them renewed in good time.
type tokens struct {
	n *Node

	mu   sync.Mutex
	held map[types.UID]map[tokenKey]*token
}

// tokenKey tells the tokens of one pod apart.
type tokenKey struct {
	audience string
	seconds  int64
}

type token struct {
	text         string
	renew, until time.Time
	timer        *time.Timer // lets the pod ask again
}

// Kubernetes renews a token after 80 % of its life, and after a day at the latest.
const (
	tokenUse    = 0.8
	tokenOld    = 24 * time.Hour
	tokenFailed = 10 * time.Second // after a failure
)

func newTokens(n *Node) *tokens { return &tokens{n: n, held: map[types.UID]map[tokenKey]*token{}} }

// Token implements volume.Tokens. While a new token cannot be had, one that has not expired will do.
func (t *tokens) Token(ctx context.Context, p *corev1.Pod, audience string, seconds int64) (string, error) {
	key := tokenKey{audience, seconds}
	now := t.n.cfg.Now()
	t.mu.Lock()
	old := t.held[p.UID][key]
	t.mu.Unlock()
	if old != nil && now.Before(old.renew) {
		return old.text, nil
	}
	fresh, err := t.ask(ctx, p, key)
	if err != nil {
		t.n.log.Warn("no new token of a service account", "pod", p.Name, "ns", p.Namespace, "account", p.Spec.ServiceAccountName, "err", err)
		again := token{renew: now}
		if old != nil {
			again.text, again.until = old.text, old.until
		}
		t.hold(p.UID, key, &again, tokenFailed)
		if now.Before(again.until) {
			return again.text, nil
		}
		return "", fmt.Errorf("%w %q: %w", volume.ErrToken, p.Spec.ServiceAccountName, err)
	}
	t.hold(p.UID, key, fresh, fresh.renew.Sub(now))
	return fresh.text, nil
}

// ask has the API issue a token that ends with the pod.
func (t *tokens) ask(ctx context.Context, p *corev1.Pod, key tokenKey) (*token, error) {
	begun := t.n.cfg.Now()
	req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &key.seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: p.Name, UID: p.UID},
	}}
	if key.audience != "" {
		req.Spec.Audiences = []string{key.audience}
	}
	o, err := t.n.cfg.Client.Create(ctx, api.ServiceAccounts, req, client.CreateOptions{
		Subresource: "token", Key: client.Key{Namespace: p.Namespace, Name: p.Spec.ServiceAccountName},
	})
	if err != nil {
		return nil, err
	}
	got, ok := o.(*authenticationv1.TokenRequest)
	if !ok || got.Status.Token == "" {
		return nil, fmt.Errorf("the API answered with %T and no token", o)
	}
	life := got.Status.ExpirationTimestamp.Sub(begun)
	use := min(time.Duration(float64(life)*tokenUse), tokenOld)
	return &token{text: got.Status.Token, renew: begun.Add(use), until: got.Status.ExpirationTimestamp.Time}, nil
}

// hold keeps a token and lets its pod look again after a while.
func (t *tokens) hold(uid types.UID, key tokenKey, fresh *token, after time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held[uid] == nil {
		t.held[uid] = map[tokenKey]*token{}
	}
	if old := t.held[uid][key]; old != nil {
		old.timer.Stop()
	}
	fresh.timer = time.AfterFunc(after, func() { t.n.pods.refresh([]types.UID{uid}) })
	t.held[uid][key] = fresh
}

// follow has all tokens renewed when somebody else signs them, until ctx ends.
func (t *tokens) follow(ctx context.Context) error {
	if t.n.cfg.Signer == nil {
		return nil
	}
	last, changed := t.n.cfg.Signer()
	for {
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
		var by string
		if by, changed = t.n.cfg.Signer(); by != last {
			last = by
			t.n.pods.refresh(t.age(t.n.cfg.Now()))
		}
	}
}

// age makes every token due for renewal, and returns the pods that have one.
func (t *tokens) age(now time.Time) (pods []types.UID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for uid, held := range t.held {
		for key, one := range held {
			due := *one // whoever reads the old one goes on
			due.renew = now
			held[key] = &due
		}
		pods = append(pods, uid)
	}
	return pods
}

// release forgets a pod's tokens.
func (t *tokens) release(uid types.UID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, held := range t.held[uid] {
		held.timer.Stop()
	}
	delete(t.held, uid)
}
