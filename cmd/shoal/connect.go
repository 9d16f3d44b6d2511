package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"shoal/internal/config"
	"shoal/internal/lab"
)

// Globals are the flags of every verb that talks to a cluster.
type Globals struct {
	Peer       []string `env:"SHOAL_PEER" placeholder:"HOST" help:"Peer to talk to: an address, or a peer's name in the lab or the kubeconfig. Several are tried in turn."`
	Kubeconfig string   `env:"KUBECONFIG" placeholder:"FILE" help:"Kubeconfig with addresses and credentials."`
	DataDir    string   `default:"/var/lib/shoal" placeholder:"DIR" help:"Data directory of this machine's peer."`
	Namespace  string   `short:"n" default:"default" help:"Namespace."`
}

// conn talks to the first of several peers that answers.
type conn struct {
	urls   []string
	tls    *tls.Config
	rest   *rest.Config // the same credentials, for streams
	client *http.Client
}

// endpoints is where a cluster may be reached and as whom.
type endpoints struct {
	byName map[string]string // URL by peer name
	order  []string          // names, the preferred one first
	rest   rest.Config
}

// connect finds peers and credentials: from --kubeconfig, the local peer's data directory, the running lab, or the usual
// kubeconfig, the first that exists; --peer then chooses among the peers.
func (g *Globals) connect() (*conn, error) {
	ends, err := g.discover()
	if err != nil {
		return nil, err
	}
	c := &conn{rest: &ends.rest}
	for _, list := range g.Peer {
		for p := range strings.SplitSeq(list, ",") {
			c.urls = append(c.urls, ends.resolve(p))
		}
	}
	if len(c.urls) == 0 {
		for _, name := range ends.order {
			c.urls = append(c.urls, ends.byName[name])
		}
	}
	c.rest.Host = c.urls[0]
	if c.tls, err = rest.TLSConfigFor(c.rest); err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	if c.tls == nil {
		c.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	c.tls.NextProtos = []string{"h2", "http/1.1"}
	c.client = &http.Client{Transport: &http.Transport{
		TLSClientConfig:     c.tls,
		ForceAttemptHTTP2:   true,
		DialContext:         (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
	}}
	return c, nil
}

func (g *Globals) discover() (*endpoints, error) {
	if g.Kubeconfig != "" {
		return fromKubeconfig(g.Kubeconfig)
	}
	pki := filepath.Join(g.DataDir, "pki")
	if _, err := os.Stat(filepath.Join(pki, "admin.crt")); err == nil {
		e := &endpoints{byName: map[string]string{"local": fmt.Sprintf("https://127.0.0.1:%d", config.Default().API.Port)}, order: []string{"local"}}
		e.rest.TLSClientConfig = rest.TLSClientConfig{
			CAFile: filepath.Join(pki, "ca.crt"), CertFile: filepath.Join(pki, "admin.crt"), KeyFile: filepath.Join(pki, "admin.key"),
		}
		return e, nil
	}
	if _, err := os.Stat(lab.Kubeconfig()); err == nil {
		return fromKubeconfig(lab.Kubeconfig())
	}
	if home := clientcmd.RecommendedHomeFile; home != "" {
		if _, err := os.Stat(home); err == nil {
			return fromKubeconfig(home)
		}
	}
	return nil, fmt.Errorf("no cluster found: no peer has started in %s, no lab is up and there is no kubeconfig; "+
		"start a peer (shoal up), a lab (shoal lab up), or give --kubeconfig", g.DataDir)
}

func fromKubeconfig(file string) (*endpoints, error) {
	raw, err := clientcmd.LoadFromFile(file)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", file, err)
	}
	cfg, err := clientcmd.NewDefaultClientConfig(*raw, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", file, err)
	}
	e := &endpoints{byName: map[string]string{}, rest: *cfg}
	current := ""
	if c := raw.Contexts[raw.CurrentContext]; c != nil {
		current = c.Cluster
	}
	for name, cl := range raw.Clusters {
		e.byName[name] = cl.Server
		if name == current {
			e.order = append([]string{name}, e.order...)
		} else {
			e.order = append(e.order, name)
		}
	}
	return e, nil
}

// resolve turns a --peer value into a URL.
func (e *endpoints) resolve(peer string) string {
	if u, ok := e.byName[peer]; ok {
		return u
	}
	if strings.Contains(peer, "://") {
		return strings.TrimSuffix(peer, "/")
	}
	if _, _, err := net.SplitHostPort(peer); err == nil {
		return "https://" + peer
	}
	return "https://" + net.JoinHostPort(peer, fmt.Sprint(config.Default().API.Port))
}

// request is one call of the API.
type request struct {
	method string
	path   string
	query  url.Values
	accept string
	ctype  string
	body   []byte
	stream io.Reader // instead of body; sent to the first peer that accepts a connection
}

// do sends a request to the first peer that can be reached and returns its answer; an answer of 400 and above becomes an
// error that carries the API's own words. The caller closes the body.
func (c *conn) do(ctx context.Context, r request) (*http.Response, error) {
	var last error
	for _, base := range c.urls {
		resp, err := c.send(ctx, base, r)
		if err != nil {
			last = err
			var dial *net.OpError
			if errors.As(err, &dial) && dial.Op == "dial" && ctx.Err() == nil {
				continue
			}
			return nil, explain(err, base)
		}
		if resp.StatusCode >= 400 {
			return nil, statusError(resp)
		}
		return resp, nil
	}
	if len(c.urls) > 1 {
		return nil, fmt.Errorf("none of the %d peers can be reached, the last error being: %w", len(c.urls), last)
	}
	return nil, fmt.Errorf("the peer cannot be reached: %w", last)
}

func (c *conn) send(ctx context.Context, base string, r request) (*http.Response, error) {
	u := base + r.path
	if len(r.query) > 0 {
		u += "?" + r.query.Encode()
	}
	body := r.stream
	if r.body != nil {
		body = strings.NewReader(string(r.body))
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "shoal/"+version)
	if r.accept != "" {
		req.Header.Set("Accept", r.accept)
	}
	if r.ctype != "" {
		req.Header.Set("Content-Type", r.ctype)
	}
	if c.rest.BearerToken != "" {
		req.Header.Set("Authorization", "Bearer "+c.rest.BearerToken)
	}
	return c.client.Do(req)
}

func explain(err error, base string) error {
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return fmt.Errorf("%s belongs to another cluster than these credentials (%w)", base, err)
	}
	return err
}

// statusError reads a metav1.Status, or whatever the body holds.
func statusError(resp *http.Response) error {
	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var s metav1.Status
	if json.Unmarshal(b, &s) == nil && s.Kind == "Status" {
		return &apierrors.StatusError{ErrStatus: s}
	}
	text := strings.TrimSpace(string(b))
	if text == "" {
		text = resp.Status
	}
	return errors.New(text)
}

// json sends a request and decodes its JSON answer into out.
func (c *conn) json(ctx context.Context, r request, out any) error {
	if r.accept == "" {
		r.accept = "application/json"
	}
	resp, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("answer of %s: %w", r.path, err)
	}
	return nil
}
