package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/auth"
)

// systemSecret reads a Secret of kube-system from this peer's replica, or waits for the newest state when that does not have it yet.
func (p *Peer) systemSecret(ctx context.Context, name string) (*corev1.Secret, error) {
	key := client.Key{Namespace: metav1.NamespaceSystem, Name: name}
	o, err := p.registry.Get(ctx, api.Secrets, key, anyRevision)
	if apierrors.IsNotFound(err) {
		o, err = p.registry.Get(ctx, api.Secrets, key, client.GetOptions{})
	}
	if err != nil {
		return nil, err
	}
	return o.(*corev1.Secret), nil
}

// bootstrapTokens are Kubernetes', which are Secrets like others: a peer that cannot open them asks one that can.
type bootstrapTokens struct{ p *Peer }

// User implements auth.TokenSource.
func (b bootstrapTokens) User(ctx context.Context, token string) (*auth.User, error) {
	if !auth.IsBootstrapToken(token) {
		return nil, auth.ErrUnknownToken
	}
	if !b.p.vault.Locked() {
		return auth.BootstrapTokens{Now: b.p.now, Secret: b.p.systemSecret}.User(ctx, token)
	}
	var why error = errLocked
	for _, holder := range peers(b).Holders() {
		body, err := b.p.transport.post(ctx, holder, bootstrapTokenPath, []byte(token))
		switch {
		case codeOf(err) == http.StatusNotFound:
			return nil, auth.ErrUnknownToken
		case err != nil:
			why = err
			continue
		}
		var u auth.User
		return &u, json.Unmarshal(body, &u)
	}
	return nil, why
}

const bootstrapTokenPath = "/peer/bootstrap-token"

// serveBootstrapToken tells another peer whose a bootstrap token is.
func (p *Peer) serveBootstrapToken(w http.ResponseWriter, r *http.Request) {
	token, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<10))
	if err == nil && p.vault.Locked() {
		err = failf(http.StatusServiceUnavailable, "%v", errLocked)
	}
	if err != nil {
		fail(w, err)
		return
	}
	u, err := bootstrapTokens{p}.User(r.Context(), string(token))
	if errors.Is(err, auth.ErrUnknownToken) {
		err = failf(http.StatusNotFound, "%v", err)
	}
	answer(w, u, err)
}

// tokens are all that know whose tokens there are, but for service accounts'.
func tokens(p *Peer) ([]auth.TokenSource, error) {
	all := []auth.TokenSource{auth.UserTokens{Now: p.now, Secret: p.systemSecret}, bootstrapTokens{p}}
	o := &p.cfg.API.OIDC
	if o.Issuer == "" {
		return all, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("api.oidc.ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("api.oidc.ca_file: %s has no certificate", o.CAFile)
		}
	}
	return append(all, &auth.OIDC{
		Issuer: o.Issuer, ClientID: o.ClientID, UsernameClaim: o.UsernameClaim, UsernamePrefix: o.Prefix(), GroupsClaim: o.GroupsClaim, GroupsPrefix: o.GroupsPrefix,
		Client: &http.Client{Transport: &http.Transport{TLSClientConfig: conf, Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 5 * time.Second}}, Now: p.now,
	}), nil
}
