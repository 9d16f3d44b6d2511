package oracle

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Server is what the cases are replayed against.
type Server struct {
	Host string // and port
	// Admin has the administrator's client certificate, Anyone none.
	Admin, Anyone http.RoundTripper
}

// Result is how a server answered a case.
type Result struct {
	*Case
	Got         *Answer
	Differences []Difference
}

// Replay runs a sequence in a new namespace, deletes what it made, and calls f with each result.
func (s *Server) Replay(ctx context.Context, namespace string, sequence []*Case, f func(Result)) error {
	if err := s.makeNamespace(ctx, namespace); err != nil {
		return err
	}
	r := &replay{Server: s, namespace: namespace, vars: map[string]string{}}
	defer func() {
		r.sweep(ctx)
		r.remove(ctx, "/api/v1/namespaces/"+namespace)
	}()
	for _, c := range sequence {
		got, err := r.run(ctx, c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.ID, err)
		}
		f(Result{c, got, compare(c, got)})
		if c.Indep {
			r.sweep(ctx)
		}
	}
	return nil
}

// makeNamespace waits for its service account, too, as the recorded sequences did, and for the ConfigMap that published leaves out: the
// first event of a watch of tables must not be about it.
func (s *Server) makeNamespace(ctx context.Context, name string) error {
	body := []byte(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"` + name + `"}}`)
	code, _, said, err := s.do(ctx, http.MethodPost, "/api/v1/namespaces", nil, jsonBody, body, "")
	if err != nil || code != http.StatusCreated {
		return fmt.Errorf("make namespace %s: %d %w %s", name, code, err, said)
	}
	for _, object := range []string{"/serviceaccounts/default", "/configmaps/kube-root-ca.crt"} {
		if err := s.await(ctx, "/api/v1/namespaces/"+name+object); err != nil {
			return err
		}
	}
	return nil
}

// await waits until there is something at path.
func (s *Server) await(ctx context.Context, path string) error {
	for ctx.Err() == nil {
		code, _, _, err := s.do(ctx, http.MethodGet, path, nil, nil, nil, "")
		if err != nil || code == http.StatusOK {
			return err
		}
		pause(ctx, 10*time.Millisecond)
	}
	return ctx.Err()
}

// pause waits where the recording did, or where there is nothing to wait for.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

var jsonBody = map[string]string{"Content-Type": "application/json"}

func (s *Server) do(ctx context.Context, method, path string, query url.Values, headers map[string]string, body []byte, auth string) (int, http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+s.Host, bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	req.URL = &url.URL{Scheme: "https", Host: s.Host, Opaque: path, RawQuery: query.Encode()} // opaque: as it is written
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "oracle")
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	via := s.Anyone
	kind, value, _ := strings.Cut(auth, ":")
	switch kind {
	case "", "admin":
		via = s.Admin
	case "token":
		req.Header.Set("Authorization", "Bearer "+value)
	case "raw":
		req.Header.Set("Authorization", value)
	}
	resp, err := via.RoundTrip(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, said, err
}

// replay is one sequence under way.
type replay struct {
	*Server
	namespace string
	vars      map[string]string
	trash     []string
}

var (
	repeats = regexp.MustCompile(`\{repeat:(\d+)\}`)
	saved   = regexp.MustCompile(`\{v:([a-zA-Z0-9_]+)\}`)
)

// fill puts this run's values into a recorded request.
func (r *replay) fill(s string) string {
	s = strings.ReplaceAll(s, "{ns}", r.namespace)
	s = repeats.ReplaceAllStringFunc(s, func(m string) string {
		n, _ := strconv.Atoi(repeats.FindStringSubmatch(m)[1])
		return strings.Repeat("x", n)
	})
	return saved.ReplaceAllStringFunc(s, func(m string) string { return r.vars[saved.FindStringSubmatch(m)[1]] })
}

func (r *replay) run(ctx context.Context, c *Case) (*Answer, error) {
	path, query := r.fill(c.Request.Path), url.Values{}
	for k, v := range c.Request.Query {
		query.Set(k, r.fill(v))
	}
	var body []byte
	headers := map[string]string{}
	switch {
	case c.Request.Raw != nil:
		body = []byte(r.fill(*c.Request.Raw))
	case c.Request.Body != nil:
		body = []byte(r.fill(string(c.Request.Body)))
	}
	if body != nil {
		headers["Content-Type"] = "application/json"
	}
	for k, v := range c.Request.Headers {
		if delete(headers, http.CanonicalHeaderKey(k)); v != nil {
			headers[http.CanonicalHeaderKey(k)] = *v
		}
	}
	if c.Sleep > 0 {
		pause(ctx, time.Duration(c.Sleep*float64(time.Second)))
	}
	code, header, said, err := r.do(ctx, c.Request.Method, path, query, headers, body, r.fill(c.Request.Auth))
	if err != nil {
		return nil, err
	}
	n := newNormal(r.namespace, path+key(c.Request.Query)+string(body), c.KeepManaged)
	a, raw := answer(c, n, code, header, said)
	r.save(c, raw)
	r.note(ctx, c, path, code, raw)
	return a, nil
}

// answer makes a server's answer comparable. Raw is the object, as it came.
func answer(c *Case, n *normal, code int, header http.Header, said []byte) (a *Answer, raw map[string]any) {
	a = &Answer{Code: code, Headers: map[string]any{}}
	if v := header.Get("Content-Type"); v != "" {
		a.Headers["content-type"] = n.text(v)
	}
	text := func(s string) (*Answer, map[string]any) {
		a.Text = &s
		return a, nil
	}
	switch {
	case bytes.HasPrefix(said, []byte("k8s\x00")):
		return text("<protobuf>")
	case !utf8.Valid(said):
		return text(fmt.Sprintf("<binary %d bytes>", len(said)))
	case code == http.StatusOK && (c.Request.Query["watch"] == "1" || c.Request.Query["watch"] == "true"):
		a.Events = events(n, said)
		return a, nil
	}
	var v any
	if json.Unmarshal(said, &v) != nil {
		s := n.text(string(said))
		return text(s[:min(len(s), 4000)])
	}
	raw, _ = v.(map[string]any)
	if raw["kind"] == "Status" && raw["status"] == "Failure" {
		a.fail(n, said)
		return a, raw
	}
	a.Object = n.value(v, "")
	settle(c, a.Object)
	return a, raw
}

func (a *Answer) fail(n *normal, said []byte) {
	var st struct {
		Reason, Message string
		Details         struct{ Causes []Cause }
	}
	_ = json.Unmarshal(said, &st) // it was JSON before
	a.Reason, a.Message = &st.Reason, n.text(st.Message)
	for _, c := range st.Details.Causes {
		a.Causes = append(a.Causes, Cause{n.text(c.Field), n.text(c.Reason), n.text(c.Message)})
	}
}

// settle orders what had no order when it was recorded.
func settle(c *Case, object any) {
	o, _ := object.(map[string]any)
	if items, _ := o["items"].([]any); c.Request.Query["resourceVersion"] == "0" {
		sortList(items, func(v any) string {
			item, _ := v.(map[string]any)
			m, _ := item["metadata"].(map[string]any)
			return fmt.Sprint(m["namespace"], "/", m["name"])
		})
	}
	if st, _ := o["status"].(map[string]any); o["kind"] == "SelfSubjectRulesReview" {
		for _, k := range []string{"resourceRules", "nonResourceRules"} {
			rules, _ := st[k].([]any)
			sortList(rules, key)
		}
	}
}

func events(n *normal, said []byte) []any {
	out := []any{}
	var last any
	for line := range bytes.Lines(said) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var e map[string]any
		if json.Unmarshal(line, &e) != nil {
			out = append(out, map[string]any{"raw": n.text(string(line))})
			continue
		}
		if e["type"] == "BOOKMARK" && last == "BOOKMARK" {
			continue // how many there are is a matter of timing
		}
		if published(e) {
			continue
		}
		last = e["type"]
		out = append(out, map[string]any{"type": last, "object": n.value(e["object"], "")})
	}
	return out
}

func (r *replay) save(c *Case, raw map[string]any) {
	for name, path := range c.Save {
		var v any = raw
		for part := range strings.SplitSeq(path, ".") {
			switch o := v.(type) {
			case map[string]any:
				v = o[part]
			case []any:
				if i, err := strconv.Atoi(part); err == nil && i < len(o) {
					v = o[i]
				}
			}
		}
		if v != nil {
			r.vars[name] = fmt.Sprint(v)
		}
	}
}

var (
	clusterPath    = regexp.MustCompile(`^/(?:api/v1|apis/[^/]+/[^/]+)/([a-z]+)(?:/([^/]+))?$`)
	namespacedPath = regexp.MustCompile(`^/(?:api/v1|apis/[^/]+/[^/]+)/namespaces/[^/]+/([a-z]+)(?:/([^/]+))?$`)
)

// note remembers what a case made outside its namespace, and deletes what an independent one made inside.
func (r *replay) note(ctx context.Context, c *Case, path string, code int, raw map[string]any) {
	made := code == http.StatusOK || code == http.StatusCreated
	switch c.Request.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
	default:
		made = false
	}
	meta, _ := raw["metadata"].(map[string]any)
	name, _ := meta["name"].(string)
	if _, dry := c.Request.Query["dryRun"]; dry || !made || name == "" {
		return
	}
	if m := clusterPath.FindStringSubmatch(path); m != nil && name != r.namespace {
		if m[2] == "" {
			path += "/" + name
		}
		r.trash = append(r.trash, path)
		return
	}
	m := namespacedPath.FindStringSubmatch(path)
	if m == nil || !c.Indep || code != http.StatusCreated || c.Request.Method != http.MethodPost {
		return
	}
	if m[1] == "persistentvolumeclaims" {
		r.unhold(ctx, path+"/"+name)
	}
	r.delete(ctx, path+"/"+name)
}

func (r *replay) sweep(ctx context.Context) {
	for _, path := range r.trash {
		r.remove(ctx, path)
	}
	r.trash = nil
}

// remove deletes what is at path, whatever holds it. That it fails is no matter: what is left is in nobody's way.
func (r *replay) remove(ctx context.Context, path string) {
	if strings.HasSuffix(path, "/namespaces/default") || strings.Contains(path, "/namespaces/kube-") {
		return
	}
	if !strings.Contains(path, "/namespaces/") {
		r.unhold(ctx, path)
	}
	r.delete(ctx, path)
}

func (r *replay) unhold(ctx context.Context, path string) {
	merge := map[string]string{"Content-Type": "application/merge-patch+json"}
	_, _, _, _ = r.do(ctx, http.MethodPatch, path, nil, merge, []byte(`{"metadata":{"finalizers":null}}`), "")
}

func (r *replay) delete(ctx context.Context, path string) {
	_, _, _, _ = r.do(ctx, http.MethodDelete, path, nil, jsonBody, []byte(`{"gracePeriodSeconds":0,"propagationPolicy":"Background"}`), "")
}
