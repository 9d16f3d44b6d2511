package images

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"

	"shoal/node/runtime"
)

// dialTimeout is how long a registry has to accept a connection before it counts as away.
const dialTimeout = 5 * time.Second

func webClient() *http.Client {
	t := docker.DefaultHTTPTransport(nil)
	t.DialContext = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext
	t.ResponseHeaderTimeout = 30 * time.Second
	return &http.Client{Transport: moving{t, progressTimeout}}
}

// registry returns a resolver that asks the registry of a name, and its mirrors before it. Content is taken from near first.
func (s *Sources) registry(c runtime.Credential, near []docker.RegistryHost) remotes.Resolver {
	auth := docker.NewDockerAuthorizer(docker.WithAuthClient(s.web), docker.WithAuthCreds(func(string) (string, string, error) {
		return c.Username, c.Password, nil
	}))
	return docker.NewResolver(docker.ResolverOptions{Hosts: func(host string) ([]docker.RegistryHost, error) {
		hosts := slices.Clone(near)
		for _, mirror := range s.cfg.Mirrors[host] {
			if u, err := url.Parse(mirror); err == nil {
				hosts = append(hosts, docker.RegistryHost{
					Client: s.web, Authorizer: s.mirrorAuth(), Scheme: u.Scheme, Host: u.Host, Path: strings.TrimSuffix(u.Path, "/") + "/v2",
					Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve,
				})
			}
		}
		own := docker.RegistryHost{
			Client: s.web, Authorizer: auth, Scheme: "https", Host: host, Path: "/v2",
			Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve,
		}
		if s.plain(host) {
			own.Scheme = "http"
		}
		if host == "docker.io" {
			own.Host = "registry-1.docker.io"
		}
		return append(hosts, own), nil
	}})
}

// mirrorAuth asks a mirror for an anonymous token where it wants one: a pod's credentials are for the registry that they name.
func (s *Sources) mirrorAuth() docker.Authorizer {
	return docker.NewDockerAuthorizer(docker.WithAuthClient(s.web))
}

// plain reports whether a registry is spoken to without TLS.
func (s *Sources) plain(host string) bool {
	bare, _, err := net.SplitHostPort(host)
	if err != nil {
		bare = host
	}
	if slices.Contains(s.cfg.PlainHTTP, host) || slices.Contains(s.cfg.PlainHTTP, bare) || bare == "localhost" {
		return true
	}
	ip := net.ParseIP(bare)
	return ip != nil && ip.IsLoopback()
}

// away reports whether an error says nothing about the image: the registry could not be asked, or could not answer.
func away(err error) bool {
	if errdefs.IsNotFound(err) || errors.Is(err, docker.ErrInvalidAuthorization) {
		return false
	}
	var status remoteerrors.ErrUnexpectedStatus
	if errors.As(err, &status) {
		return status.StatusCode >= 500 || status.StatusCode == http.StatusTooManyRequests
	}
	return true
}
