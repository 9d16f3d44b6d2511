package peer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// helloPath is where machines that share a cluster secret meet before they have certificates.
const helloPath = "/shoal/v1/hello"

const (
	macHeader    = "X-Shoal-Mac"
	maxHello     = 64 << 10
	helloTimeout = 5 * time.Second
	helloWait    = 20 * time.Second // how long a question with Wait is held
)

// hello is what one machine tells another. Both sides of an exchange have this form.
type hello struct {
	Name    string            `json:"name"`
	Address string            `json:"address"` // host:port of the API
	Expect  int               `json:"expect,omitempty"`
	Known   map[string]string `json:"known,omitempty"`  // addresses of the machines without data, by name
	Member  bool              `json:"member,omitempty"` // is in a cluster
	CAHash  string            `json:"caHash,omitempty"` // of that cluster
	Wait    bool              `json:"wait,omitempty"`   // question only: answer when you are a member
}

// sum proves knowledge of the secret over this very TLS connection: the connection's exported key (RFC 8446, section 7.5)
// goes into it, so that a man in the middle, who has two connections, cannot pass it on.
func sum(secret []byte, role string, state *tls.ConnectionState, body []byte) (string, error) {
	bound, err := state.ExportKeyingMaterial("shoal hello", nil, 32)
	if err != nil {
		return "", err
	}
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(role))
	h.Write(bound)
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil)), nil
}

// errWrongSecret means that the other machine does not know our cluster secret.
var errWrongSecret = errors.New("it has another cluster secret: cluster_secret must be the same on every machine")

// greet exchanges hellos with the machine at addr.
func greet(ctx context.Context, secret []byte, addr string, mine hello) (hello, error) {
	limit := helloTimeout
	if mine.Wait {
		limit += helloWait
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// Who answers is proved by the sum, not by its certificate, which nobody can know yet.
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}}
	raw, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return hello{}, err
	}
	defer raw.Close()
	conn := raw.(*tls.Conn)
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	body, err := json.Marshal(mine)
	if err != nil {
		return hello{}, err
	}
	state := conn.ConnectionState()
	mac, err := sum(secret, "client", &state, body)
	if err != nil {
		return hello{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+addr+helloPath, bytes.NewReader(body))
	if err != nil {
		return hello{}, err
	}
	req.Header.Set(macHeader, mac)
	if err := req.Write(conn); err != nil {
		return hello{}, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return hello{}, err
	}
	defer resp.Body.Close()
	return readAnswer(secret, resp, &state)
}

func readAnswer(secret []byte, resp *http.Response, state *tls.ConnectionState) (hello, error) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxHello))
	if err != nil {
		return hello{}, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusForbidden:
		return hello{}, errWrongSecret
	default:
		return hello{}, fmt.Errorf("it answers %s: %s", resp.Status, bytes.TrimSpace(body))
	}
	want, err := sum(secret, "server", state, body)
	if err != nil {
		return hello{}, err
	}
	if !hmac.Equal([]byte(want), []byte(resp.Header.Get(macHeader))) {
		return hello{}, errWrongSecret
	}
	var theirs hello
	return theirs, json.Unmarshal(body, &theirs)
}

// serveHello answers one hello; answer computes ours from theirs and may block while the asker waits.
func serveHello(w http.ResponseWriter, r *http.Request, secret []byte, answer func(context.Context, hello) hello) {
	if r.Method != http.MethodPost || r.TLS == nil {
		http.Error(w, "POST over TLS", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxHello))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	want, err := sum(secret, "client", r.TLS, body)
	if err != nil || len(secret) == 0 || !hmac.Equal([]byte(want), []byte(r.Header.Get(macHeader))) {
		http.Error(w, "another cluster secret", http.StatusForbidden)
		return
	}
	var theirs hello
	if err := json.Unmarshal(body, &theirs); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out, err := json.Marshal(answer(r.Context(), theirs))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	mac, err := sum(secret, "server", r.TLS, out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set(macHeader, mac)
	_, _ = w.Write(out)
}

func hostPort(address string, port int) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(address, fmt.Sprint(port))
}
