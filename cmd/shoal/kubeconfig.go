package main

import (
	"context"
	"os"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"shoal/internal/api"
	"shoal/internal/client"
)

type kubeconfigCmd struct {
	User string `placeholder:"NAME" help:"For that user instead, with a new token: what shoal user create does, which has more to say about the token."`
}

// Run prints a kubeconfig with the credentials that this command itself uses, or with a new token of a user, and a context for every peer.
func (c kubeconfigCmd) Run(ctx context.Context, g *Globals, std streams) error {
	if c.User != "" {
		return userCreateCmd{Name: c.User, TTL: userTokenLife}.Run(ctx, g, std)
	}
	conn, err := g.connect()
	if err != nil {
		return err
	}
	cert, err := inline(conn.rest.CertData, conn.rest.CertFile)
	if err != nil {
		return err
	}
	key, err := inline(conn.rest.KeyData, conn.rest.KeyFile)
	if err != nil {
		return err
	}
	return conn.printKubeconfig(ctx, std, "admin", g.Namespace, &clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key, Token: conn.rest.BearerToken})
}

// printKubeconfig prints a kubeconfig for a user, with a context for every peer.
func (c *conn) printKubeconfig(ctx context.Context, std streams, user, namespace string, info *clientcmdapi.AuthInfo) error {
	list, err := c.peers(ctx)
	if err != nil {
		return err
	}
	ca, err := c.authorities(ctx)
	if err != nil {
		return err
	}
	out := clientcmdapi.NewConfig()
	out.AuthInfos[user] = info
	for _, p := range list.Peers {
		out.Clusters[p.Name] = &clientcmdapi.Cluster{Server: p.API, CertificateAuthorityData: ca}
		out.Contexts[p.Name] = &clientcmdapi.Context{Cluster: p.Name, AuthInfo: user, Namespace: namespace}
	}
	out.CurrentContext = list.Peer
	b, err := clientcmd.Write(*out)
	if err != nil {
		return err
	}
	_, err = std.out.Write(b)
	return err
}

// authorities are the cluster's CAs as it says itself: while it gets a new one, there are two. Whoever may not ask has those that this command itself
// trusts.
func (c *conn) authorities(ctx context.Context) ([]byte, error) {
	o, err := c.api.Get(ctx, api.ConfigMaps, client.Key{Namespace: metav1.NamespaceSystem, Name: api.RootCAName}, client.GetOptions{})
	if err == nil {
		if m, ok := o.(*corev1.ConfigMap); ok && m.Data[corev1.ServiceAccountRootCAKey] != "" {
			return []byte(m.Data[corev1.ServiceAccountRootCAKey]), nil
		}
	}
	return inline(c.rest.CAData, c.rest.CAFile)
}

func inline(data []byte, file string) ([]byte, error) {
	if len(data) > 0 || file == "" {
		return data, nil
	}
	return os.ReadFile(file)
}
