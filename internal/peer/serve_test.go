package peer

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A planned stop ended with "use of closed network connection", and code 1, when the mux closed its queues before the servers had
// heard that it was time.
func TestTheMuxMayEndBeforeItsServers(t *testing.T) {
	q := newQueue(&net.TCPAddr{})
	_ = q.Close()
	if err := serveUntil(t.Context(), &http.Server{}, q); err != nil {
		t.Error(err)
	}
	if err := serveUntil(t.Context(), &http.Server{}, broken{q}); err == nil {
		t.Error("a listener that breaks is no error")
	}
}

type broken struct{ net.Listener }

func (broken) Accept() (net.Conn, error) { return nil, errors.New("no file descriptors") }

// TestSilentClientsAreGivenUp: a client that reads nothing more, and one whose machine is gone, hold their streams for a while only.
func TestSilentClientsAreGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		window  uint32 // how much the client says it takes
		handler func(w http.ResponseWriter, r *http.Request)
	}{
		"one that reads nothing more of a watch": {1 << 30, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
				w.(http.Flusher).Flush()
			}
		}},
		"one that is gone while its watch is idle": {1 << 16, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			begun, over := make(chan struct{}), make(chan struct{})
			srv := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer close(over)
				close(begun)
				c.handler(w, r)
			})}
			srv.Protocols.SetUnencryptedHTTP2(true)
			if err := http2.ConfigureServer(srv, streamsUntilSilent(50*time.Millisecond, clientStreams)); err != nil {
				t.Fatal(err)
			}
			go func() { _ = srv.Serve(l) }() // until it is closed
			defer srv.Close()
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := ask(conn, c.window); err != nil {
				t.Fatal(err)
			}
			<-begun
			select {
			case <-over:
			case <-time.After(20 * time.Second):
				t.Fatal("it is still served")
			}
		})
	}
}

// ask sends a GET over HTTP/2 and reads nothing.
func ask(conn net.Conn, window uint32) error {
	var head bytes.Buffer
	enc := hpack.NewEncoder(&head)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "a"}, {":path", "/"}} {
		if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			return err
		}
	}
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		return err
	}
	framer := http2.NewFramer(conn, nil)
	return errors.Join(
		framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}),
		framer.WriteWindowUpdate(0, window),
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndStream: true, EndHeaders: true}))
}
