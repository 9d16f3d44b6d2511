package images

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// trickle is an answer that brings a byte each second, so many times, and then nothing.
type trickle struct{ bytes int }

func (t trickle) RoundTrip(r *http.Request) (*http.Response, error) {
	out, in := io.Pipe()
	go func() {
		for range t.bytes {
			time.Sleep(time.Second)
			if _, err := in.Write([]byte("x")); err != nil {
				return
			}
		}
		<-r.Context().Done()
		in.CloseWithError(r.Context().Err())
	}()
	return &http.Response{StatusCode: http.StatusOK, Body: out}, nil
}

func TestATransferThatStopsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://registry.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := moving{trickle{30}, 5 * time.Second}.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		begun := time.Now()
		b, err := io.ReadAll(resp.Body)
		if len(b) != 30 || err == nil || !strings.Contains(err.Error(), "nothing has come from registry.example for 5s") {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		if took := time.Since(begun); took != 35*time.Second {
			t.Errorf("given up after %v", took)
		}
	})
}

// stuck are peers of which one keeps turns and never gives one.
type stuck struct{}

func (stuck) Self() string      { return "me" }
func (stuck) Members() []string { return []string{"keeper", "other"} }
func (stuck) Alive() []string   { return nil }
func (stuck) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestNobodyWaitsForEverForATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Peers: stuck{}})
		begun := time.Now()
		from, done := s.turn(t.Context(), "app", one)
		done(true)
		if from != nil || time.Since(begun) != turnPatience {
			t.Errorf("from %v after %v", from, time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := s.askTurn(ctx, "keeper", one, time.Now().Add(time.Hour)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
