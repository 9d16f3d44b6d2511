package main

import (
	"context"
	"os"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
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
	ca, err := inline(c.rest.CAData, c.rest.CAFile)
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

func inline(data []byte, file string) ([]byte, error) {
	if len(data) > 0 || file == "" {
		return data, nil
	}
	return os.ReadFile(file)
}
