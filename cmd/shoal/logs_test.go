package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestLogsOfWhatSelectsPods: a Deployment's selector has another form than a Service's.
func TestLogsOfWhatSelectsPods(t *testing.T) {
	for selector, want := range map[string]string{
		`{"app":"web"}`:                 "app=web",
		`{"matchLabels":{"app":"web"}}`: "app=web",
		`{"matchExpressions":[{"key":"app","operator":"In","values":["web"]}]}`: "app in (web)",
		`{}`:   "",
		`null`: "",
	} {
		asked := ""
		at := server(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			switch {
			case strings.HasSuffix(r.URL.Path, "/deployments/web"):
				fmt.Fprintf(w, `{"spec":{"selector":%s}}`, selector)
			case strings.HasSuffix(r.URL.Path, "/pods"):
				asked = r.URL.Query().Get("labelSelector")
				_, _ = io.WriteString(w, `{"items":[{"metadata":{"name":"web-1"}}]}`)
			default:
				_, _ = io.WriteString(w, "hello\n")
			}
		})
		out, stderr, code := cli(t, "", append(at, "logs", "deploy/web")...)
		if want == "" {
			if code != exitFailed || !strings.Contains(stderr, "deployment/web selects no pods") {
				t.Errorf("%s: code %d, %s", selector, code, stderr)
			}
			continue
		}
		if code != 0 || asked != want || !strings.Contains(out, "hello") {
			t.Errorf("%s: code %d, asked for %q, want %q\n%s%s", selector, code, asked, want, out, stderr)
		}
	}
}
