package peer

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"shoal/internal/api"
	"shoal/internal/audit"
	"shoal/internal/client"
	"shoal/master/auth"
)

// boss is what a forger would have peers believe.
var boss = []string{auth.UserHeader, "boss", auth.GroupsHeader, auth.MastersGroup, auth.ForwardedHeader, "1"}

// Nobody but a peer says for whom it asks: not over HTTP, where the words mean nothing, and not as peers do, where a certificate of a peer is asked for.
func TestAUserIsAssertedByPeersOnly(t *testing.T) {
	peers := startPeers(t, 2)
	w := newMatrixWorld(t, peers)
	for _, p := range peers {
		d := &decider{t: t, p: p, http: w.clients(p)}
		for _, name := range []string{"nobody", "jane without a binding", "a viewer of mine", "an editor of mine", "an account without a binding", "node peer-2"} {
			for _, path := range []string{"/api/v1/secrets", "/api/v1/namespaces/mine/secrets/unused", "/shoal/v1/backup", "/shoal/v1/tokens"} {
				s := w.subject(name)
				code, err := d.ask(t.Context(), s, &cell{method: "GET", path: path, headers: boss})
				mine := name == "an editor of mine" && strings.Contains(path, "/mine/")
				if err != nil || mine != (code == http.StatusOK) {
					t.Errorf("%s: %s as boss, %s: %d, %v", p.cfg.Name, name, path, code, err)
				}
			}
		}
		for _, proto := range []string{protoPeer, protoStream, protoRaft} {
			for _, name := range []string{"nobody", "jane without a binding", "system:masters"} {
				conf := p.clientTLS(w.subject(name).certs...)
				conf.NextProtos = []string{proto}
				conn, err := tls.Dial("tcp", p.address(), conf)
				if err == nil { // in TLS 1.3 the refusal comes after the client's last word
					_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
					_, err = conn.Read(make([]byte, 1))
					_ = conn.Close()
				}
				if err == nil || !strings.Contains(err.Error(), "tls:") {
					t.Errorf("%s speaks %s to %s: %v", name, proto, p.cfg.Name, err)
				}
			}
		}
	}
}

// What an editor sends to a follower arrives at the Master as one request of that editor's, whatever else is in it.
func TestNothingIsSmuggledThroughTheForwarder(t *testing.T) {
	peers := startPeers(t, 2)
	w := newMatrixWorld(t, peers)
	conf := peers[1].clientTLS(w.subject("an editor of mine").certs...)
	conf.NextProtos = []string{"http/1.1"}
	const second = "POST /api/v1/namespaces/other/configmaps HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Shoal-User: boss\r\nX-Shoal-Groups: system:masters\r\n" +
		"X-Shoal-Forwarded: 1\r\nContent-Length: 36\r\n\r\n{\"metadata\":{\"name\":\"smuggled\"}}    "
	for i, head := range []string{
		"Content-Length: %d",
		"Content-Length: %d\r\nTransfer-Encoding: chunked",
		"Transfer-Encoding: chunked\r\nContent-Length: %d",
		"Content-Length: %d\r\nTransfer-Encoding: identity",
		"Content-Length: %d\r\nTransfer-Encoding:\tchunked",
		"Content-Length: %d\r\nX-Shoal-User: boss\r\nX-Shoal-Groups: system:masters",
		"Content-Length: %d\r\nConnection: X-Shoal-User, X-Shoal-Groups, Authorization\r\nX-Shoal-User: boss",
		"Content-Length: %d\r\nConnection: close, X-Shoal-Forwarded\r\nX-Shoal-Forwarded: 1",
		"Content-Length: %d\r\nX-Shoal-Groups: a\r\n X-Shoal-User: boss",
		"Content-Length: %d\r\nImpersonate-User: boss\r\nImpersonate-Group: system:masters",
		"Content-Length: %d\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
		"Content-Length: %d\r\nExpect: 100-continue",
		"Content-Length: %d\r\nContent-Length: 0",
	} {
		body := fmt.Sprintf(`{"metadata":{"name":"first-%d"}}`, i)
		text := "POST /api/v1/namespaces/mine/configmaps HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + fmt.Sprintf(head, len(body)) + "\r\n\r\n" + body + second
		conn, err := tls.Dial("tcp", peers[1].address(), conf)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		// The last request asks for the end, so that nobody waits for one more.
		_, _ = io.WriteString(conn, "GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		_, _ = io.Copy(io.Discard, bufio.NewReader(conn))
		_ = conn.Close()
	}
	leader := peers[0].registry
	l, err := leader.List(t.Context(), api.ConfigMaps, client.ListOptions{Namespace: inMine})
	if err != nil {
		t.Fatal(err)
	}
	if made := slices.DeleteFunc(l.Items, func(o api.Object) bool { return !strings.HasPrefix(o.GetName(), "first-") }); len(made) < 3 {
		t.Errorf("%d of the editor's own requests went through", len(made))
	}
	if _, err := leader.Get(t.Context(), api.ConfigMaps, client.Key{Namespace: inOther, Name: "smuggled"}, client.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("smuggled: %v", err)
	}
	peers[0].audit.Close()
	forwarded := 0
	if _, err := audit.Read(filepath.Join(peers[0].dir.path, "audit"), func(r audit.Record) {
		if r.Via == "" {
			return
		}
		forwarded++
		if r.User != "ed" || r.Namespace != inMine {
			t.Errorf("the Master was asked: %+v", r)
		}
	}); err != nil || forwarded < 3 {
		t.Errorf("%d requests were forwarded: %v", forwarded, err)
	}
}
