package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
)

// HTTPConfig says how to reach an API.
type HTTPConfig struct {
	// BaseURLs are tried in turn when one cannot be connected to; the last one that answered is tried first.
	BaseURLs []string
	// Transport carries the requests: TLS with a client certificate, or an in-memory connection. Nil is
	// http.DefaultTransport.
	Transport http.RoundTripper
	UserAgent string
	// Token is sent as bearer token when not empty.
	Token string
	// Scheme knows the types of bodies. Nil is api.NewScheme's.
	Scheme *runtime.Scheme
	Log    *slog.Logger
}

// HTTP is Interface over the Kubernetes wire protocol, to any server that speaks it.
type HTTP struct {
	cfg   HTTPConfig
	bases []*url.URL
	good  atomic.Int32 // index of the base that answered last
}

var _ Interface = (*HTTP)(nil)

// NewHTTP returns a client. It connects to nothing yet.
func NewHTTP(c HTTPConfig) (*HTTP, error) {
	if c.Transport == nil {
		c.Transport = http.DefaultTransport
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Scheme == nil {
		c.Scheme = api.NewScheme()
	}
	h := &HTTP{cfg: c}
	for _, s := range c.BaseURLs {
		u, err := url.Parse(s)
		if err != nil {
			return nil, fmt.Errorf("parse API address: %w", err)
		}
		if u.Scheme == "" || u.Host == "" {
			return nil, fmt.Errorf("API address %q has no scheme or no host", s)
		}
		u.Path = strings.TrimSuffix(u.Path, "/")
		h.bases = append(h.bases, u)
	}
	if len(h.bases) == 0 {
		return nil, errors.New("no API address")
	}
	return h, nil
}

// Do sends one request and returns the answer whatever its status; the caller closes its body. path begins with a
// slash. Servers are tried in turn until one can be connected to. The error is a StatusError unless ctx ended.
func (h *HTTP) Do(ctx context.Context, method, path string, query url.Values, header http.Header, body []byte) (*http.Response, error) {
	var last error
	start := int(h.good.Load())
	for i := range h.bases {
		n := (start + i) % len(h.bases)
		res, err := h.send(ctx, h.bases[n], method, path, query, header, body)
		if to := redirect(res); err == nil && to != nil {
			res, err = h.send(ctx, to, method, path, query, header, body)
		}
		if err == nil {
			h.good.Store(int32(n))
			return res, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		last = err
		h.cfg.Log.Debug("api did not answer", "peer", h.bases[n].Host, "err", err)
		// Once a write may have left, another server must not get it too: it could be done twice.
		if !neverSent(err) && method != http.MethodGet && method != http.MethodHead {
			return nil, statusError(http.StatusGatewayTimeout, metav1.StatusReasonTimeout,
				fmt.Sprintf("%s %s: outcome unknown: %v", method, path, err))
		}
	}
	return nil, statusError(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable,
		fmt.Sprintf("%s %s: no API server answers: %v", method, path, last))
}

// redirect returns the server that an answer sends its asker to, and closes the answer; nil if it does not. A peer without a
// vote sends administrators to the Master with their writes.
func redirect(res *http.Response) *url.URL {
	if res == nil || res.StatusCode != http.StatusTemporaryRedirect {
		return nil
	}
	to, err := res.Location()
	if err != nil || to.Scheme != "https" && to.Scheme != res.Request.URL.Scheme {
		return nil
	}
	_ = res.Body.Close()
	return &url.URL{Scheme: to.Scheme, Host: to.Host}
}

// Base returns the address of the server that answered last.
func (h *HTTP) Base() *url.URL {
	u := *h.bases[h.good.Load()]
	return &u
}

func (h *HTTP) send(ctx context.Context, base *url.URL, method, path string, query url.Values, header http.Header, body []byte) (*http.Response, error) {
	u := *base
	u.Path += path
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if h.cfg.UserAgent != "" {
		req.Header.Set("User-Agent", h.cfg.UserAgent)
	}
	if h.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+h.cfg.Token)
	}
	return h.cfg.Transport.RoundTrip(req)
}

// call is Do for one API request: busy answers are tried again as the server asks when that is safe, and error
// answers become StatusErrors. The returned response is a success.
func (h *HTTP) call(ctx context.Context, method, path string, query url.Values, header http.Header, body []byte) (*http.Response, error) {
	for {
		res, err := h.Do(ctx, method, path, query, header, body)
		if err != nil {
			return nil, err
		}
		if res.StatusCode < 300 {
			return res, nil
		}
		err = readError(res, method, path)
		wait, ok := retryAfter(res)
		if !ok || !repeatable(method, header) {
			return nil, err
		}
		if deadline, has := ctx.Deadline(); has && time.Until(deadline) < wait {
			return nil, err // the server's own words say more than "deadline exceeded"
		}
		if err := sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// retryAfter reports whether the server asked for another try, and when.
func retryAfter(res *http.Response) (time.Duration, bool) {
	if res.StatusCode != http.StatusTooManyRequests && res.StatusCode != http.StatusServiceUnavailable {
		return 0, false
	}
	s := res.Header.Get("Retry-After")
	if s == "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, false
	}
	return max(time.Duration(n)*time.Second, 50*time.Millisecond), true
}

// repeatable reports whether doing the request twice is as good as once.
func repeatable(method string, header http.Header) bool {
	switch method {
	case http.MethodPost:
		return false
	case http.MethodPatch:
		return header.Get("Content-Type") != string(types.JSONPatchType)
	}
	return true
}

// neverSent reports whether err happened before anything reached a server.
func neverSent(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &op) && op.Op == "dial" || errors.As(err, &dns)
}

// readError turns an error answer into a StatusError and closes it.
func readError(res *http.Response, method, path string) error {
	defer res.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if st := decodeStatus(res.Header.Get("Content-Type"), body); st != nil && st.Status == metav1.StatusFailure {
		if st.Code == 0 {
			st.Code = int32(res.StatusCode)
		}
		return &apierrors.StatusError{ErrStatus: *st}
	}
	e := apierrors.NewGenericServerResponse(res.StatusCode, method, schema.GroupResource{}, "", strings.TrimSpace(string(body)), 0, true)
	e.ErrStatus.Message = fmt.Sprintf("%s %s: %s", method, path, e.ErrStatus.Message)
	return e
}

func statusError(code int32, reason metav1.StatusReason, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message,
	}}
}
