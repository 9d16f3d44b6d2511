package probe

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// port resolves a port by number or by the name the container gives it.
func port(c *corev1.Container, p intstr.IntOrString) (string, error) {
	if p.Type == intstr.Int {
		if p.IntVal < 1 || p.IntVal > 65535 {
			return "", fmt.Errorf("port %d is out of range", p.IntVal)
		}
		return strconv.Itoa(int(p.IntVal)), nil
	}
	for _, have := range c.Ports {
		if have.Name == p.StrVal {
			return strconv.Itoa(int(have.ContainerPort)), nil
		}
	}
	if n, err := strconv.Atoi(p.StrVal); err == nil && n > 0 && n < 65536 {
		return p.StrVal, nil
	}
	return "", fmt.Errorf("container %s has no port named %q", c.Name, p.StrVal)
}

// maxBody is how much of an answer is read, so that its connection ends cleanly.
const maxBody = 10 << 10

// HTTP gets a page of a container at ip; an answer below 400 is a good one.
func HTTP(ctx context.Context, ip string, c *corev1.Container, h *corev1.HTTPGetAction) error {
	number, err := port(c, h.Port)
	if err != nil {
		return err
	}
	u, err := url.Parse(h.Path)
	if err != nil {
		u = &url.URL{Path: h.Path}
	}
	u.Scheme = strings.ToLower(string(cmp.Or(h.Scheme, corev1.URISchemeHTTP)))
	u.Host = net.JoinHostPort(cmp.Or(h.Host, ip), number)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "kube-probe/1")
	req.Header.Set("Accept", "*/*")
	for _, header := range h.HTTPHeaders {
		if strings.EqualFold(header.Name, "Host") {
			req.Host = header.Value
			continue
		}
		req.Header.Add(header.Name, header.Value)
	}
	client := http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true, DisableCompression: true, Proxy: nil,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // pods' certificates are their own
		},
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			if next.URL.Hostname() != via[0].URL.Hostname() {
				return http.ErrUseLastResponse // elsewhere is not the container's health
			}
			if len(via) >= 10 {
				return errors.New("stopped after 10 redirects")
			}
			return nil
		},
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, maxBody)
	if res.StatusCode < 200 || res.StatusCode >= 400 {
		return fmt.Errorf("HTTP probe failed with statuscode: %d", res.StatusCode)
	}
	return nil
}

// TCP connects to a container at ip.
func TCP(ctx context.Context, ip string, c *corev1.Container, t *corev1.TCPSocketAction) error {
	number, err := port(c, t.Port)
	if err != nil {
		return err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(cmp.Or(t.Host, ip), number))
	if err != nil {
		return err
	}
	return conn.Close()
}

// GRPC asks a container's health service at ip.
func GRPC(ctx context.Context, ip string, g *corev1.GRPCAction) error {
	conn, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(ip, strconv.Itoa(int(g.Port))), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	service := ""
	if g.Service != nil {
		service = *g.Service
	}
	res, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
	if err != nil {
		return err
	}
	if res.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("service unhealthy (responded with %q)", res.GetStatus())
	}
	return nil
}
