package images

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// progressTimeout is how long a transfer may bring nothing before it is given up and tried elsewhere (containerd's image_pull_progress_timeout).
const progressTimeout = time.Minute

// moving is a transport whose answers are given up when nothing of them comes for so long: a connection that hangs would hold a pull, and those who wait for
// its turn, for ever.
type moving struct {
	http.RoundTripper
	patience time.Duration
}

// RoundTrip implements http.RoundTripper.
func (m moving) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	stalled := fmt.Errorf("nothing has come from %s for %v", r.URL.Host, m.patience)
	resp, err := m.RoundTripper.RoundTrip(r.WithContext(ctx))
	if err != nil {
		cancel(err)
		return nil, err
	}
	b := &movingBody{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, patience: m.patience}
	b.timer = time.AfterFunc(m.patience, func() { cancel(stalled) })
	resp.Body = b
	return resp, nil
}

type movingBody struct {
	io.ReadCloser
	ctx      context.Context //nolint:containedctx // the answer's, which lasts as long as its body
	cancel   context.CancelCauseFunc
	timer    *time.Timer
	patience time.Duration
}

// Read implements io.Reader.
func (b *movingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.timer.Reset(b.patience)
	}
	if err != nil && err != io.EOF && context.Cause(b.ctx) != nil {
		err = context.Cause(b.ctx)
	}
	return n, err
}

// Close implements io.Closer.
func (b *movingBody) Close() error {
	b.timer.Stop()
	b.cancel(nil)
	return b.ReadCloser.Close()
}
