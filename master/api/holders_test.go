package api_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	shoalapi "shoal/internal/api"
	"shoal/internal/client"
)

// ask sends a GET to a peer as jane.
func (p *peer) ask(t *testing.T, path string, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.http.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Shoal-User", "jane")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func text(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestWhatIsLockedIsReadElsewhere: a peer without the key has one answer that has it, lists and watches included.
func TestWhatIsLockedIsReadElsewhere(t *testing.T) {
	c := newCluster(t)
	c.other.lock("secrets")
	h := c.other.client(t)
	s := &corev1.Secret{Data: map[string][]byte{"a": []byte("correct horse")}}
	s.Namespace, s.Name = "ns", "s"
	if _, err := h.Create(t.Context(), shoalapi.Secrets, s, client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const path = "/api/v1/namespaces/ns/secrets"
	for _, from := range []string{path, path + "/s"} {
		resp := c.other.ask(t, from)
		if got := text(t, resp); resp.StatusCode != http.StatusOK || !strings.Contains(got, "Y29ycmVjdCBob3JzZQ==") || resp.Header.Get("X-Shoal-Locked") != "" {
			t.Errorf("%s: %s %s", from, resp.Status, got)
		}
	}
	if resp := c.other.ask(t, path+"/none"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("what is not there: %s", resp.Status)
	}
	watch := c.other.ask(t, path+"?watch=true&resourceVersion=0")
	lines := bufio.NewScanner(watch.Body)
	if !lines.Scan() || !strings.Contains(lines.Text(), `"ADDED"`) {
		t.Fatalf("the watch begins with %q, %v", lines.Text(), lines.Err())
	}
	s.Name = "t"
	if _, err := h.Create(t.Context(), shoalapi.Secrets, s, client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if !lines.Scan() || !strings.Contains(lines.Text(), `"name":"t"`) {
		t.Errorf("it goes on with %q, %v", lines.Text(), lines.Err())
	}
	if resp := c.other.ask(t, "/api/v1/namespaces/ns/configmaps"); resp.StatusCode != http.StatusOK {
		t.Errorf("other kinds: %s", resp.Status)
	}
}

// TestALockedReadIsPassedOnOnce: who was asked for another peer and has no key either says so, and does not ask a third.
func TestALockedReadIsPassedOnOnce(t *testing.T) {
	c := newCluster(t)
	c.master.lock("secrets")
	resp := c.master.ask(t, "/api/v1/secrets", "X-Shoal-Forwarded", "1")
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("X-Shoal-Locked") == "" {
		t.Errorf("%s, %q", resp.Status, resp.Header.Get("X-Shoal-Locked"))
	}
}

// TestALockedReadWaitsForTheKey: a peer that is given the key meanwhile answers by itself, and so does one whose holders come back.
func TestALockedReadWaitsForTheKey(t *testing.T) {
	c := newCluster(t)
	c.master.setDown(true)
	c.other.lock("secrets")
	time.AfterFunc(10*time.Millisecond, func() { c.other.lock("") })
	if resp := c.other.ask(t, "/api/v1/secrets?resourceVersion=0"); resp.StatusCode != http.StatusOK {
		t.Errorf("%s", resp.Status)
	}
	c.other.lock("secrets")
	time.AfterFunc(10*time.Millisecond, func() {
		c.master.setDown(false)
		c.other.wake()
	})
	if resp := c.other.ask(t, "/api/v1/secrets?resourceVersion=0"); resp.StatusCode != http.StatusOK {
		t.Errorf("%s", resp.Status)
	}
}

func TestAdministratorsAreSentToAHolder(t *testing.T) {
	c := newCluster(t)
	c.other.voteless = true
	c.other.lock("secrets")
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, c.other.http.URL+"/api/v1/secrets?limit=1", nil)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if to := resp.Header.Get("Location"); resp.StatusCode != http.StatusTemporaryRedirect || !strings.HasSuffix(to, ":6443/api/v1/secrets?limit=1") {
		t.Errorf("%s, to %q", resp.Status, to)
	}
}
