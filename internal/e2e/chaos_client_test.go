//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/testcluster/linear"
)

// apiHistory is what clients of all peers saw: each ConfigMap is a register, and nothing when it does not exist.
type apiHistory struct {
	linear.History
	c   *cluster
	url string
	at  []*apiAt

	mu    sync.Mutex
	acked map[uint64]string // what was acknowledged, by revision
}

// register is as much of a ConfigMap as a client needs.
type register struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Data              map[string]string `json:"data,omitempty"`
}

func (r *register) value() string {
	if r == nil {
		return ""
	}
	return r.Data["v"]
}

func (r *register) rev() uint64 {
	n, _ := strconv.ParseUint(r.ResourceVersion, 10, 64)
	return n
}

// client reads a register at one peer and changes it at another, depending on what it read.
func (h *apiHistory) client(ctx context.Context, id int, rng *rand.Rand) {
	began := time.Now()
	for i := 0; ctx.Err() == nil; i++ {
		// A key is left alone after some seconds: each call with an unknown outcome doubles the judge's work on it.
		key := fmt.Sprintf("r%d-%d", int(time.Since(began)/(5*time.Second)), rng.Intn(3))
		now, ok := h.read(ctx, id, key, h.at[rng.Intn(len(h.at))])
		if ok {
			h.change(ctx, id, key, now, fmt.Sprintf("%d-%d", id, i), h.at[rng.Intn(len(h.at))], rng.Intn(4) == 0)
		}
		select {
		case <-time.After(time.Duration(10+rng.Intn(40)) * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// patience is how long a client waits for an answer.
const patience = 3 * time.Second

func (h *apiHistory) read(ctx context.Context, id int, key string, at *apiAt) (*register, bool) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	begin := h.Begin()
	code, body, err := at.do(ctx, http.MethodGet, h.url+"/"+key, nil)
	var r *register
	switch {
	case err == nil && code == http.StatusOK:
		r = &register{}
		if json.Unmarshal(body, r) != nil {
			return nil, false
		}
	case err != nil || code != http.StatusNotFound:
		return nil, false
	}
	h.End(id, begin, linear.Call{Key: key, What: linear.Read}, linear.Answer{Read: r.value()})
	return r, true
}

// change creates, updates or deletes a register on condition that it is as it was read.
func (h *apiHistory) change(ctx context.Context, id int, key string, now *register, value string, at *apiAt, drop bool) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	call := linear.Call{Key: key, What: linear.Swap, Old: now.value(), New: value}
	next := &register{ObjectMeta: metav1.ObjectMeta{Name: key}, Data: map[string]string{"v": value}}
	method, url := http.MethodPost, h.url
	var body any = next
	if now != nil {
		method, url = http.MethodPut, h.url+"/"+key
		next.ResourceVersion = now.ResourceVersion
		if drop {
			call.New = ""
			method, body = http.MethodDelete, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &now.ResourceVersion}}
		}
	}
	sent, err := json.Marshal(body)
	if err != nil {
		return
	}
	begin := h.Begin()
	code, said, err := at.do(ctx, method, url, sent)
	switch {
	case err != nil && undialled(err), code == http.StatusServiceUnavailable:
		// Surely nothing was done: the API promises that of 503.
	case err != nil || code >= http.StatusInternalServerError:
		h.End(id, begin, call, linear.Answer{Unknown: true})
	case code == http.StatusConflict || code == http.StatusNotFound:
		h.End(id, begin, call, linear.Answer{})
	default:
		h.End(id, begin, call, linear.Answer{Swapped: code == http.StatusOK || code == http.StatusCreated})
		var r register
		if json.Unmarshal(said, &r) == nil && r.Kind == "ConfigMap" {
			h.acknowledge(&r)
		}
	}
}

// last makes one more register and returns its revision.
func (h *apiHistory) last(t *testing.T) uint64 {
	t.Helper()
	sent, err := json.Marshal(&register{ObjectMeta: metav1.ObjectMeta{Name: "last"}, Data: map[string]string{"v": "last"}})
	must(t, err)
	code, body, err := h.at[0].do(t.Context(), http.MethodPost, h.url, sent)
	var r register
	if err != nil || code != http.StatusCreated || json.Unmarshal(body, &r) != nil {
		t.Fatalf("the last write: %d %v %s", code, err, body)
	}
	h.acknowledge(&r)
	return r.rev()
}

func (h *apiHistory) acknowledge(r *register) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.acked == nil {
		h.acked = map[uint64]string{}
	}
	h.acked[r.rev()] = r.Name + "=" + r.value()
}

// undialled reports that a request never left.
func undialled(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// revision returns the newest revision that a peer knows.
func (a *apiAt) revision(t testing.TB, url string) uint64 {
	t.Helper()
	var list struct{ Metadata metav1.ListMeta }
	var rev uint64
	within(t, 20*time.Second, "list at "+a.name, func(ctx context.Context) error {
		code, body, err := a.do(ctx, http.MethodGet, url+"?limit=1", nil)
		if err != nil || code != http.StatusOK {
			return fmt.Errorf("%d %w", code, err)
		}
		if err := json.Unmarshal(body, &list); err != nil {
			return err
		}
		rev, err = strconv.ParseUint(list.Metadata.ResourceVersion, 10, 64)
		return err
	})
	return rev
}
