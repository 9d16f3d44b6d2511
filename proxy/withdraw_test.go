package proxy

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"shoal/proxy/source/sourcetest"
)

func TestWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, testMachine(), web(localA+"@node-1", remote+"@node-2")...)
		defer r.stop()
		if was, err := r.Withdrawn(t.Context(), netip.MustParseAddr(localB)); was || err != nil {
			t.Errorf("an address of no endpoint: %v, %v", was, err)
		}
		bounded, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if was, err := r.Withdrawn(bounded, netip.MustParseAddr(localA)); !was || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one that is ready: %v, %v", was, err)
		}
		answer := make(chan error, 1)
		go func() {
			was, err := r.Withdrawn(t.Context(), netip.MustParseAddr(localA))
			if !was {
				t.Error("it was ready")
			}
			answer <- err
		}()
		synctest.Wait()
		r.cluster.Apply(sourcetest.Slice("default/web", []string{"8080"}, localA+"@node-1", remote+"@node-2", localB+"@node-1"))
		synctest.Wait()
		select {
		case <-answer:
			t.Error("it is ready still")
		default:
		}
		r.cluster.Apply(sourcetest.Slice("default/web", []string{"8080"}, localA+"@node-1~", remote+"@node-2"))
		if err := <-answer; err != nil {
			t.Error(err)
		}
		r.expect(t, "withdrawn", remote)
		r.cluster.Apply(sourcetest.Slice("default/web", []string{"8080"}, localA+"@node-1~", remote+"@node-2~"))
		r.expect(t, "nobody is ready", localA, remote)
		if was, err := r.Withdrawn(t.Context(), netip.MustParseAddr(remote)); was || err != nil {
			t.Errorf("nobody else could take it: %v, %v", was, err)
		}
	})
}
