package peer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"shoal/internal/pki"
)

// helloPath is where machines that share a cluster secret meet before they have certificates.
const helloPath = "/shoal/v1/hello"

const (
	proofHeader  = "X-Shoal-Proof"
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

// errWrongSecret means that the other machine does not know our cluster secret.
var errWrongSecret = errors.New("it has another cluster secret: cluster_secret must be the same on every machine")

// greet exchanges hellos with the machine at addr.
func greet(ctx context.Context, secret string, addr string, mine hello) (hello, error) {
	limit := helloTimeout
	if mine.Wait {
		limit += helloWait
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	d := tls.Dialer{Config: pki.ProofTLS("http/1.1")}
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
	proof, err := pki.Proof(state, secret, "asks")
	if err != nil {
		return hello{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+addr+helloPath, bytes.NewReader(body))
	if err != nil {
		return hello{}, err
	}
	req.Header.Set(proofHeader, hex.EncodeToString(proof))
	if err := req.Write(conn); err != nil {
		return hello{}, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return hello{}, err
	}
	defer resp.Body.Close()
	return readAnswer(secret, resp, state)
}

func readAnswer(secret string, resp *http.Response, state tls.ConnectionState) (hello, error) {
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
	if !proves(resp.Header, state, secret, "answers") {
		return hello{}, errWrongSecret
	}
	var theirs hello
	return theirs, json.Unmarshal(body, &theirs)
}

// serveHello answers one hello; answer computes ours from theirs and may block while the asker waits.
func serveHello(w http.ResponseWriter, r *http.Request, secret string, answer func(context.Context, hello) hello) {
	if r.Method != http.MethodPost || r.TLS == nil {
		http.Error(w, "POST over TLS", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxHello))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !proves(r.Header, *r.TLS, secret, "asks") {
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
	proof, err := pki.Proof(*r.TLS, secret, "answers")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set(proofHeader, hex.EncodeToString(proof))
	_, _ = w.Write(out)
}

func proves(h http.Header, state tls.ConnectionState, secret, role string) bool {
	proof, err := hex.DecodeString(h.Get(proofHeader))
	return err == nil && pki.CheckProof(state, secret, role, proof)
}

func hostPort(address string, port int) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(address, fmt.Sprint(port))
}
