package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// cli runs the command line against a server and returns what it prints and its exit code.
func cli(t *testing.T, input string, args ...string) (out, stderr string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, streams{in: strings.NewReader(input), out: &o, err: &e})
	return o.String(), e.String(), code
}

// server is an API that answers with handler. Commands reach it with the flags it returns.
func server(t *testing.T, handler http.HandlerFunc) []string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: %q}}]\ncontexts: [{name: a, context: {cluster: a, user: u}}]\ncurrent-context: a\nusers: [{name: u}]\n", s.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--kubeconfig", file}
}

func refuse(w http.ResponseWriter, code int32, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(code))
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: code, Message: message,
	})
}

func TestExitCodes(t *testing.T) {
	t.Setenv("KUBECONFIG", "")
	t.Setenv("SHOAL_PEER", "")
	at := server(t, func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404, `pods "x" not found`) })
	for _, c := range []struct {
		args []string
		code int
		says string // on standard error
	}{
		{[]string{"--help"}, 0, ""},
		{[]string{"get", "--help"}, 0, ""},
		{nil, 0, ""},
		{[]string{"version"}, 0, ""},
		{[]string{"gte"}, exitUsage, `did you mean "get"`},
		{[]string{"get", "pods", "--frob"}, exitUsage, "See: shoal get --help"},
		{[]string{"token", "create", "--frob"}, exitUsage, "See: shoal token create --help"},
		{[]string{"get", "frobs"}, exitUsage, `no kind is called "frobs"`},
		{[]string{"get", "pods", "-l", "a==b==c"}, exitUsage, "-l"},
		{append(at, "get", "pod", "x"), exitFailed, `shoal: pods "x" not found` + "\n"},
		{append(at, "--peer", "ht!tp://x", "get", "pods"), exitUsage, "--peer"},
		{[]string{"--kubeconfig", "/nosuch", "get", "pods"}, exitFailed, "shoal kubeconfig"},
	} {
		_, stderr, code := cli(t, "", c.args...)
		if code != c.code || !strings.Contains(stderr, c.says) || c.says == "" && stderr != "" {
			t.Errorf("shoal %s: code %d, %q; want %d, %q", strings.Join(c.args, " "), code, stderr, c.code, c.says)
		}
	}
}

func TestTheAPIsWarningsAreShownOnce(t *testing.T) {
	at := server(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Warning", `299 - "no quorum: \"old\""`)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"kind":"Table","apiVersion":"meta.k8s.io/v1","columnDefinitions":[{"name":"Name"}],"rows":[{"cells":["web"]}]}`)
	})
	out, stderr, code := cli(t, "", append(at, "get", "pods,services")...)
	if code != 0 || strings.Count(out, "web") != 2 || stderr != "Warning: no quorum: \"old\"\n" {
		t.Errorf("code %d\n%s%s", code, out, stderr)
	}
}

func TestAnUnreachablePeerIsNamedWithARemedy(t *testing.T) {
	at := server(t, func(http.ResponseWriter, *http.Request) {})
	_, stderr, code := cli(t, "", append(at, "--peer", "127.0.0.1:1", "get", "pods")...)
	if code != exitFailed || !strings.Contains(stderr, "https://127.0.0.1:1: ") || !strings.Contains(stderr, "shoal up") || strings.Contains(stderr, "/api/v1") {
		t.Errorf("code %d: %s", code, stderr)
	}
}

func TestNothingIsSentBeforeAllFilesAreRead(t *testing.T) {
	sent := 0
	at := server(t, func(w http.ResponseWriter, _ *http.Request) { sent++; refuse(w, 500, "no") })
	good := "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\nkind: [\n"
	_, stderr, code := cli(t, good, append(at, "apply", "-f", "-")...)
	if code != exitFailed || sent != 0 || !strings.Contains(stderr, "standard input:5: not YAML") {
		t.Errorf("code %d, %d requests: %s", code, sent, stderr)
	}
}

func TestApplyGoesOnAfterAnObjectThatIsRefused(t *testing.T) {
	at := server(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/bad"):
			refuse(w, 422, `failed to create typed patch object (default/bad; /v1, Kind=Pod): .spec.frob: field not declared in schema`)
		case r.Method == http.MethodGet:
			refuse(w, 404, "not found")
		default:
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, `{"metadata":{"name":"good","uid":"1"}}`)
		}
	})
	one := func(name string) string { return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + "}\n" }
	out, stderr, code := cli(t, one("bad")+"---\n"+one("good"), append(at, "apply", "-f", "-")...)
	if code != exitFailed || out != "pod/good created\n" {
		t.Errorf("code %d: %s", code, out)
	}
	if !strings.HasPrefix(stderr, "shoal: standard input:1: pod/bad: unknown field .spec.frob\n") || !strings.Contains(stderr, errPartly.Error()) {
		t.Errorf("stderr %s", stderr)
	}
}

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"failed to create typed patch object (default/web; /v1, Kind=Pod): .spec.x: field not declared in schema": "unknown field .spec.x",
		"failed to create typed patch object (default/web; /v1, Kind=Pod): .spec.replicas: expected numeric":      ".spec.replicas: expected numeric",
		"anything else": "anything else",
	} {
		if got := plain(errors.New(in)).Error(); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}
