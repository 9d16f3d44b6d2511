package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
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

// users knows the tokens that "shoal user" makes, by this peer's replica, or by the Master when that does not have one yet.
func users(p *Peer) auth.TokenSource {
	return auth.UserTokens{Now: p.now, Secret: func(ctx context.Context, name string) (*corev1.Secret, error) {
		key := client.Key{Namespace: metav1.NamespaceSystem, Name: name}
		o, err := p.registry.Get(ctx, api.Secrets, key, anyRevision)
		if apierrors.IsNotFound(err) {
			o, err = p.registry.Get(ctx, api.Secrets, key, client.GetOptions{})
		}
		if err != nil {
			return nil, err
		}
		return o.(*corev1.Secret), nil
	}}
}

// tokens are all that know whose tokens there are, but for service accounts'.
func tokens(p *Peer) ([]auth.TokenSource, error) {
	all := []auth.TokenSource{users(p)}
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
