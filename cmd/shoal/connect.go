package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"shoal/internal/client"
	"shoal/internal/config"
	"shoal/internal/lab"
)

// Globals are the flags of every verb that talks to a cluster.
type Globals struct {
	Peer       []string `env:"SHOAL_PEER" placeholder:"HOST" help:"Peer to talk to: an address, or a peer's name in the lab or the kubeconfig. Several are tried in turn."`
	Kubeconfig string   `env:"KUBECONFIG" placeholder:"FILE" help:"Kubeconfig with addresses and credentials."`
	DataDir    string   `default:"/var/lib/shoal" placeholder:"DIR" help:"Data directory of this machine's peer."`
	Namespace  string   `short:"n" default:"default" help:"Namespace."`

	warnings io.Writer // where the API's warnings go
}

// conn talks to the first of several peers that answers.
type conn struct {
	urls []string
	rest *rest.Config // the credentials, as streams want them
	lab  bool         // the cluster is the lab of this machine
	api  *client.HTTP

	warnings io.Writer
	mu       sync.Mutex
	warned   map[string]bool // what has been said need not be said again
}

// endpoints is where a cluster may be reached and as whom.
type endpoints struct {
	byName map[string]string // URL by peer name
	order  []string          // names, the preferred one first
	rest   rest.Config
	lab    bool
}

// connect finds peers and credentials: from --kubeconfig, the local peer's data directory, the running lab, or the usual
// kubeconfig, the first that exists; --peer then chooses among the peers.
func (g *Globals) connect() (*conn, error) {
	ends, err := g.discover()
	if err != nil {
		return nil, err
	}
	c := &conn{rest: &ends.rest, lab: ends.lab, warnings: g.warnings, warned: map[string]bool{}}
	for _, list := range g.Peer {
		for p := range strings.SplitSeq(list, ",") {
			u, err := ends.resolve(p)
			if err != nil {
				return nil, err
			}
			c.urls = append(c.urls, u)
		}
	}
	if len(c.urls) == 0 {
		for _, name := range ends.order {
			c.urls = append(c.urls, ends.byName[name])
		}
	}
	c.urls = reachableFirst(c.urls)
	c.rest.Host = c.urls[0]
	tlsConfig, err := rest.TLSConfigFor(c.rest)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	if tlsConfig == nil {
		tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	tlsConfig.NextProtos = []string{"h2", "http/1.1"}
	c.api, err = client.NewHTTP(client.HTTPConfig{
		BaseURLs: c.urls, UserAgent: "shoal/" + version, Token: c.rest.BearerToken,
		Transport: &http.Transport{
			TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 5 * time.Second,
			DialContext: (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
			HTTP2:       &http.HTTP2Config{SendPingTimeout: silence, PingTimeout: silence},
		},
	})
	return c, err
}

// silence is how long a connection may be silent before the peer is asked whether it is there, and how long it may take to answer: a machine that has
// lost its power says nothing, and TCP would wait for minutes. Tests are in more of a hurry.
var silence = 3 * time.Second

// headStart is how long a peer has to accept a connection before the next one is tried beside it.
const headStart = 150 * time.Millisecond

// reachableFirst puts the first peer that accepts a connection in front, so that a machine that is gone costs no time. When
// none does, the order stays.
func reachableFirst(urls []string) []string {
	if len(urls) < 2 {
		return urls
	}
	answers := make(chan int, len(urls))
	for i, u := range urls {
		go func() {
			<-time.After(time.Duration(i) * headStart)
			if conn, err := net.DialTimeout("tcp", hostOf(u), 2*time.Second); err == nil {
				_ = conn.Close()
				answers <- i
				return
			}
			answers <- -1
		}()
	}
	for range urls {
		if i := <-answers; i >= 0 {
			return slices.Concat([]string{urls[i]}, urls[:i], urls[i+1:])
		}
	}
	return urls
}

func hostOf(base string) string {
	u, err := url.Parse(base)
	if err != nil || u.Port() == "" {
		return base
	}
	return u.Host
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
	if _, err := os.Stat(filepath.Join(g.DataDir, "peer.json")); err == nil {
		return nil, fmt.Errorf("the peer in %s has no administrator's certificate: a machine has one once its peer votes; "+
			"see what the peer says, or give --kubeconfig FILE (shoal kubeconfig, on a machine whose peer votes)", g.DataDir)
	}
	if _, err := os.Stat(lab.Kubeconfig()); err == nil {
		ends, err := fromKubeconfig(lab.Kubeconfig())
		if err == nil {
			ends.lab = true
		}
		return ends, err
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
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no kubeconfig %s: give the right one with --kubeconfig (or unset KUBECONFIG), or make one on a peer with: shoal kubeconfig", file)
	}
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
	for _, name := range slices.Sorted(maps.Keys(raw.Clusters)) {
		e.byName[name] = raw.Clusters[name].Server
		if name == current {
			e.order = append([]string{name}, e.order...)
		} else {
			e.order = append(e.order, name)
		}
	}
	return e, nil
}

// resolve turns a --peer value into a URL.
func (e *endpoints) resolve(peer string) (string, error) {
	if u, ok := e.byName[peer]; ok {
		return u, nil
	}
	full := peer
	switch _, _, err := net.SplitHostPort(peer); {
	case strings.Contains(peer, "://"):
	case err == nil:
		full = "https://" + peer
	default:
		full = "https://" + net.JoinHostPort(strings.Trim(peer, "[]"), fmt.Sprint(config.Default().API.Port))
	}
	u, err := url.Parse(full)
	if err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", usagef("--peer %q is no peer: give a name (here: %s), an address, or a URL such as https://10.0.0.5:6443",
			peer, strings.Join(e.order, ", "))
	}
	return strings.TrimSuffix(full, "/"), nil
}

// request is one call of the API.
type request struct {
	method string
	path   string
	query  url.Values
	accept string
	ctype  string
	body   []byte
}

// do sends a request to the first peer that can be reached and returns its answer; an answer of 400 and above becomes an
// error that carries the API's own words. The caller closes the body.
func (c *conn) do(ctx context.Context, r request) (*http.Response, error) {
	header := http.Header{}
	if r.accept != "" {
		header.Set("Accept", r.accept)
	}
	if r.ctype != "" {
		header.Set("Content-Type", r.ctype)
	}
	resp, err := c.api.Do(ctx, r.method, r.path, r.query, header, r.body)
	if apierrors.IsServiceUnavailable(err) {
		return nil, c.unreachable(err)
	}
	if err != nil {
		return nil, err
	}
	c.warn(resp.Header["Warning"])
	if resp.StatusCode >= 400 {
		return nil, statusError(resp)
	}
	return resp, nil
}

// unreachable says what the client's error means for whoever typed the command.
func (c *conn) unreachable(err error) error {
	_, cause, _ := strings.Cut(err.Error(), "no API server answers: ")
	return fmt.Errorf("no peer answers at %s: %s\nIs it up? On its machine: shoal up (in the lab: shoal lab status). Another peer: --peer HOST",
		strings.Join(c.urls, ", "), cause)
}

// warn shows the API's warnings, each once.
func (c *conn) warn(headers []string) {
	if c.warnings == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	warnings, _ := utilnet.ParseWarningHeaders(headers)
	for _, w := range warnings {
		if !c.warned[w.Text] {
			c.warned[w.Text] = true
			fmt.Fprintln(c.warnings, "Warning:", w.Text)
		}
	}
}

// statusError reads a metav1.Status, or whatever the body holds.
func statusError(resp *http.Response) error {
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
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
