package api_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"sort"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shoalapi "shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/api"
	"shoal/master/registry/registrytest"
)

func namespace(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// recordedCase is one line of a file of recorded answers.
type recordedCase struct {
	ID      string
	Seq     string
	Save    map[string]string
	Request struct {
		Method, Path string
		Query        map[string]string
		Headers      map[string]string
		Body         json.RawMessage
		Raw          *string
	}
	Response struct {
		Code   int
		Reason *string
		Causes []struct{ Field, Reason string }
		Object json.RawMessage
		Events []struct {
			Type   string
			Object json.RawMessage
		}
	}
}

// TestRecordedAnswers replays what a real API server answered. A field that was recorded must be there and equal; more
// fields may be there.
func TestRecordedAnswers(t *testing.T) {
	t.Parallel()
	replayAll(t, "recorded.jsonl")
}

// TestRecordedAnswersAboutWorkloads is TestRecordedAnswers for groups apps and batch.
func TestRecordedAnswersAboutWorkloads(t *testing.T) {
	t.Parallel()
	replayAll(t, "recorded-workloads.jsonl")
}

func replayAll(t *testing.T, file string) {
	t.Helper()
	for seq, cases := range readRecorded(t, file) {
		t.Run(seq, func(t *testing.T) {
			t.Parallel()
			reg, _ := registrytest.New(t)
			srv := httptest.NewServer(api.New(api.Config{Registry: reg, Auth: everyone{}}))
			t.Cleanup(srv.Close)
			p := &replay{t: t, url: srv.URL, vars: map[string]string{"ns": "o-1"}}
			// A resourceVersion of 0 has a meaning of its own, so the store must not be empty.
			if _, err := reg.Create(t.Context(), shoalapi.Namespaces, namespace("o-1"), client.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			var watches sync.WaitGroup
			for _, c := range cases {
				if !strings.HasPrefix(c.ID, "watch-cm/w-") {
					p.run(c)
					continue
				}
				watches.Go(func() { p.run(c) }) // each lasts the second it asks for
			}
			watches.Wait()
		})
	}
}

func readRecorded(t *testing.T, file string) map[string][]*recordedCase {
	t.Helper()
	f, err := os.Open("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string][]*recordedCase{}
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		c := &recordedCase{}
		if err := json.Unmarshal(sc.Bytes(), c); err != nil {
			t.Fatal(err)
		}
		out[c.Seq] = append(out[c.Seq], c)
	}
	return out
}

type replay struct {
	t    *testing.T
	url  string
	vars map[string]string
}

// fill replaces {ns} and {v:NAME}.
func (p *replay) fill(s string) string {
	s = strings.ReplaceAll(s, "{ns}", p.vars["ns"])
	for k, v := range p.vars {
		s = strings.ReplaceAll(s, "{v:"+k+"}", v)
	}
	return s
}

func (p *replay) run(c *recordedCase) {
	body := string(c.Request.Body)
	if c.Request.Raw != nil {
		body = *c.Request.Raw
	}
	q := url.Values{}
	for k, v := range c.Request.Query {
		q.Set(k, p.fill(v))
	}
	target := p.url + p.fill(c.Request.Path)
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(p.t.Context(), c.Request.Method, target, strings.NewReader(p.fill(body)))
	if err != nil {
		p.t.Error(err)
		return
	}
	req.Header.Set("Accept", "application/json")
	if body != "" && c.Request.Raw == nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range c.Request.Headers {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		p.t.Errorf("%s: %v", c.ID, err)
		return
	}
	got, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		p.t.Errorf("%s: %v", c.ID, err)
		return
	}
	p.save(c, got)
	diffs := p.compare(c, resp.StatusCode, got)
	why, known := knownDifferences()[c.ID]
	switch {
	case len(diffs) > 0 && !known:
		p.t.Errorf("%s: %s %s: %s\ngot %.400s", c.ID, c.Request.Method, target, strings.Join(diffs, "; "), got)
	case len(diffs) == 0 && known:
		p.t.Errorf("%s is listed as different (%s), but it is the same", c.ID, why)
	}
}

func (p *replay) save(c *recordedCase, got []byte) {
	var obj map[string]any
	if len(c.Save) == 0 || json.Unmarshal(got, &obj) != nil {
		return
	}
	for name, path := range c.Save {
		var v any = obj
		for _, part := range strings.Split(path, ".") {
			m, _ := v.(map[string]any)
			v = m[part]
		}
		p.vars[name] = fmt.Sprint(v)
	}
}

func (p *replay) compare(c *recordedCase, code int, got []byte) []string {
	var diffs []string
	if code != c.Response.Code {
		diffs = append(diffs, fmt.Sprintf("code %d, recorded %d", code, c.Response.Code))
	}
	var status struct {
		Reason  string
		Details struct {
			Causes []struct{ Field, Reason string }
		}
	}
	_ = json.Unmarshal(got, &status)
	if c.Response.Reason != nil && *c.Response.Reason != status.Reason {
		diffs = append(diffs, fmt.Sprintf("reason %q, recorded %q", status.Reason, *c.Response.Reason))
	}
	if want, have := fieldsOf(c.Response.Causes), fieldsOf(status.Details.Causes); len(want) > 0 && !reflect.DeepEqual(want, have) {
		diffs = append(diffs, fmt.Sprintf("causes %v, recorded %v", have, want))
	}
	if c.Response.Object != nil {
		diffs = append(diffs, p.contains("", c.Response.Object, got)...)
	}
	if c.Response.Events != nil {
		diffs = append(diffs, p.compareEvents(c, got)...)
	}
	return diffs
}

func fieldsOf(causes []struct{ Field, Reason string }) []string {
	seen := map[string]bool{}
	for _, c := range causes {
		seen[c.Field] = true
	}
	var out []string
	for f := range seen {
		out = append(out, f)
	}
	sort.Strings(out)
	return out
}

func (p *replay) compareEvents(c *recordedCase, got []byte) []string {
	d := json.NewDecoder(bytes.NewReader(got))
	var diffs []string
	for i := 0; ; i++ {
		var ev struct {
			Type   string
			Object json.RawMessage
		}
		err := d.Decode(&ev)
		switch {
		case err != nil && i < len(c.Response.Events):
			return append(diffs, fmt.Sprintf("%d events, recorded %d", i, len(c.Response.Events)))
		case err != nil:
			return diffs
		case i >= len(c.Response.Events):
			return append(diffs, fmt.Sprintf("another event %s", ev.Type))
		case ev.Type != c.Response.Events[i].Type:
			diffs = append(diffs, fmt.Sprintf("event %d is %s, recorded %s", i, ev.Type, c.Response.Events[i].Type))
		}
		diffs = append(diffs, p.contains(fmt.Sprintf("events[%d]", i), c.Response.Events[i].Object, ev.Object)...)
	}
}

// contains lists where got lacks or contradicts what was recorded.
func (p *replay) contains(path string, recorded, got []byte) []string {
	var want, have any
	if json.Unmarshal([]byte(p.fill(string(recorded))), &want) != nil || json.Unmarshal(got, &have) != nil {
		return []string{path + ": not JSON"}
	}
	return missing(path, want, have)
}

func missing(path string, want, have any) []string {
	// Texts for people, and what only Kubernetes' own admission adds.
	switch last := path[strings.LastIndex(path, ".")+1:]; last {
	case "description", "remainingItemCount", "volumeMounts", "volumes", "managedFields", "tolerations", "taints",
		"serviceAccount", "serviceAccountName", "priority", "preemptionPolicy", "serverAddress":
		return nil
	}
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok {
			return []string{fmt.Sprintf("%s is %v", path, have)}
		}
		var out []string
		for k, v := range w {
			out = append(out, missing(path+"."+k, v, h[k])...)
		}
		return out
	case []any:
		h, _ := have.([]any)
		if len(h) != len(w) {
			return []string{fmt.Sprintf("%s has length %d, recorded %d", path, len(h), len(w))}
		}
		var out []string
		for i := range w {
			out = append(out, missing(fmt.Sprintf("%s[%d]", path, i), w[i], h[i])...)
		}
		return out
	case string:
		if strings.Contains(w, "<") && strings.Contains(w, ">") { // a placeholder of what differs each time
			return nil
		}
	}
	if !reflect.DeepEqual(want, have) {
		return []string{fmt.Sprintf("%s is %v, recorded %v", path, have, want)}
	}
	return nil
}
