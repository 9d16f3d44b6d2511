//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// shoalKept is the ConfigMaps of a namespace of a lab.
type shoalKept struct {
	host, otherHost string
	conns, other    []*http.Transport
}

func startShoal(t *testing.T) kept {
	t.Helper()
	c := startLab(t, 3)
	shoal(t, "create", "namespace", "bench")
	followers := c.others(master(t))
	k := &shoalKept{}
	for i, to := range []*[]*http.Transport{&k.conns, &k.other} {
		cfg := restConfig(t, followers[i])
		tlsConfig, err := rest.TLSConfigFor(cfg)
		if err != nil {
			t.Fatal(err)
		}
		tlsConfig.NextProtos = []string{"h2"}
		for range connections {
			tr := &http.Transport{TLSClientConfig: tlsConfig.Clone(), ForceAttemptHTTP2: true}
			t.Cleanup(tr.CloseIdleConnections)
			*to = append(*to, tr)
		}
		if i == 0 {
			k.host = cfg.Host
		} else {
			k.otherHost = cfg.Host
		}
	}
	return k
}

const shoalPath = "/api/v1/namespaces/bench/configmaps"

func (k *shoalKept) do(ctx context.Context, client int, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, k.host+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	return k.conns[client%connections].RoundTrip(req)
}

// read reads an answer to its end and returns how many times it contains mark.
func read(resp *http.Response, mark string) (int, error) {
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s: %.200s", resp.Status, b)
	}
	return bytes.Count(b, []byte(mark)), err
}

func (k *shoalKept) create(ctx context.Context, client int, name string, size int) error {
	body := fmt.Sprintf(`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":%q},"data":{"v":%q}}`, name, strings.Repeat("x", size))
	resp, err := k.do(ctx, client, http.MethodPost, shoalPath, []byte(body))
	if err != nil {
		return err
	}
	_, err = read(resp, "")
	return err
}

func (k *shoalKept) get(ctx context.Context, client int, name string) error {
	resp, err := k.do(ctx, client, http.MethodGet, shoalPath+"/"+name, nil)
	if err != nil {
		return err
	}
	n, err := read(resp, `"name":"`+name+`"`)
	if err == nil && n != 1 {
		err = fmt.Errorf("%s is not what was read", name)
	}
	return err
}

func (k *shoalKept) list(ctx context.Context) (int, error) {
	resp, err := k.do(ctx, 0, http.MethodGet, shoalPath, nil)
	if err != nil {
		return 0, err
	}
	return read(resp, `"data":{"v":`) // the namespace has a ConfigMap of its own, too
}

func (k *shoalKept) watch(ctx context.Context, client int, created func(), f func(string)) error {
	first, err := k.do(ctx, client, http.MethodGet, shoalPath+"?limit=1", nil)
	if err != nil {
		return err
	}
	var l struct {
		Metadata struct{ ResourceVersion string }
	}
	err = json.NewDecoder(first.Body).Decode(&l)
	first.Body.Close()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.otherHost+shoalPath+"?watch=1&resourceVersion="+l.Metadata.ResourceVersion, nil)
	if err != nil {
		return err
	}
	resp, err := k.other[client%connections].RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("watch: %s", resp.Status)
	}
	created()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var ev struct {
			Type   string
			Object struct{ Metadata struct{ Name string } }
		}
		if err := json.Unmarshal(lines.Bytes(), &ev); err != nil {
			return err
		}
		f(ev.Object.Metadata.Name)
	}
	return lines.Err()
}

func (k *shoalKept) cpu(t *testing.T) time.Duration {
	t.Helper()
	var all time.Duration
	for _, p := range labPeers(t) {
		all += ran(t, p.Shoal.Pid)
	}
	return all
}
