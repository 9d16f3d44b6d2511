package master

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"shoal/internal/client"
	"shoal/master/controller/quota"
)

// chargeWait is how long a write waits for a new Master to have counted what there is.
const chargeWait = 5 * time.Second

// account sets who charges writes, nil for nobody.
func (m *Master) account(l *quota.Ledger) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ledger = l
	close(m.news)
	m.news = make(chan struct{})
}

// Charge is a client.Charging. In the first moment of a term it waits, unless the Master itself writes: what it needs to begin must not wait for it.
func (m *Master) Charge(ctx context.Context, c *client.Charge) (settle func(rev uint64), err error) {
	ctx, cancel := context.WithTimeout(ctx, chargeWait)
	defer cancel()
	var l *quota.Ledger
	for {
		var news chan struct{}
		m.mu.Lock()
		l, news = m.ledger, m.news
		m.mu.Unlock()
		if c.Own && (l == nil || !l.IsReady()) {
			return func(uint64) {}, nil
		}
		if l != nil {
			break
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, apierrors.NewServiceUnavailable(quota.ErrUnready.Error())
		}
	}
	settle, err = l.Charge(ctx, c)
	switch {
	case err == nil:
		return settle, nil
	case errors.Is(err, quota.ErrUnready), ctx.Err() != nil:
		return nil, apierrors.NewServiceUnavailable(quota.ErrUnready.Error())
	}
	name := c.Key.Name
	if c.Old == nil && c.New.GetGenerateName() != "" {
		name = c.New.GetGenerateName()
	}
	return nil, apierrors.NewForbidden(c.Kind.GVR().GroupResource(), name, err)
}
