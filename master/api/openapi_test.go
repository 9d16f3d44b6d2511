package api_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	openapi_v3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
)

const (
	askProto2 = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
	gotProto2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
	gotProto3 = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"
)

func TestEveryFormOfOpenAPI(t *testing.T) {
	s, _ := server(t)
	for _, c := range []struct {
		path, accept string
		code         int
		media        string
		into         proto.Message // nil for JSON
	}{
		{"/openapi/v2", "", 200, "application/json", nil},
		{"/openapi/v2", "application/json", 200, "application/json", nil},
		{"/openapi/v2", "application/*;q=0.1", 200, "application/json", nil},
		{"/openapi/v2", askProto2, 200, gotProto2, &openapi_v2.Document{}},
		{"/openapi/v2", gotProto2 + ", application/json;q=0.5", 200, gotProto2, &openapi_v2.Document{}},
		{"/openapi/v2", "text/html, application/json;q=0.2, " + gotProto2 + ";q=0.1", 200, "application/json", nil},
		{"/openapi/v2", "text/html", 406, "application/json", nil},
		{"/openapi/v3", "*/*", 200, "application/json", nil},
		{"/openapi/v3", gotProto3, 406, "application/json", nil},
		{"/openapi/v3/api/v1", "application/json", 200, "application/json", nil},
		{"/openapi/v3/api/v1", gotProto3, 200, gotProto3, &openapi_v3.Document{}},
		{"/openapi/v3/apis/apps/v1", gotProto3, 200, gotProto3, &openapi_v3.Document{}},
		{"/openapi/v3/apis/apps/v2", "", 404, "application/json", nil},
		{"/openapi/v3/apis/apps", "", 404, "application/json", nil},
		{"/openapi/v4", "", 404, "application/json", nil},
	} {
		var headers []string
		if c.accept != "" {
			headers = []string{"Accept", c.accept}
		}
		w := do(t, s, "GET", c.path, "", headers...)
		if w.Code != c.code || w.Header().Get("Content-Type") != c.media {
			t.Errorf("%s as %q: %d %s, want %d %s", c.path, c.accept, w.Code, w.Header().Get("Content-Type"), c.code, c.media)
			continue
		}
		if c.into != nil {
			if err := proto.Unmarshal(w.Body.Bytes(), c.into); err != nil {
				t.Errorf("%s as %q: %v", c.path, c.accept, err)
			}
		} else if !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s as %q is no JSON", c.path, c.accept)
		}
	}
}

func TestOpenAPIIsSentOnce(t *testing.T) {
	s, _ := server(t)
	plain := do(t, s, "GET", "/openapi/v2", "")
	packed := do(t, s, "GET", "/openapi/v2", "", "Accept-Encoding", "gzip")
	if packed.Header().Get("Content-Encoding") != "gzip" || packed.Body.Len() > plain.Body.Len()/5 {
		t.Errorf("gzip: %s, %d of %d bytes", packed.Header().Get("Content-Encoding"), packed.Body.Len(), plain.Body.Len())
	}
	zr, err := gzip.NewReader(packed.Body)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(zr); err != nil || !bytes.Equal(body, plain.Body.Bytes()) {
		t.Errorf("compressed and plain bodies differ: %v", err)
	}
	tag := plain.Header().Get("ETag")
	again := do(t, s, "GET", "/openapi/v2", "", "If-None-Match", `"x", W/`+tag)
	if tag == "" || again.Code != http.StatusNotModified || again.Body.Len() != 0 {
		t.Errorf("with its own tag %q: %d, %d bytes", tag, again.Code, again.Body.Len())
	}
	if head := do(t, s, "HEAD", "/openapi/v2", ""); head.Body.Len() != 0 || head.Header().Get("ETag") != tag {
		t.Errorf("HEAD: %d bytes, tag %s", head.Body.Len(), head.Header().Get("ETag"))
	}
}

func TestIndexOfOpenAPINamesEveryGroupWithItsHash(t *testing.T) {
	s, _ := server(t)
	var index struct {
		Paths map[string]struct {
			ServerRelativeURL string `json:"serverRelativeURL"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(do(t, s, "GET", "/openapi/v3", "").Body.Bytes(), &index); err != nil {
		t.Fatal(err)
	}
	var groups struct {
		Groups []struct {
			Versions []struct {
				GroupVersion string `json:"groupVersion"`
			} `json:"versions"`
		} `json:"groups"`
	}
	if err := json.Unmarshal(do(t, s, "GET", "/apis", "").Body.Bytes(), &groups); err != nil {
		t.Fatal(err)
	}
	want := []string{"api/v1"}
	for _, g := range groups.Groups {
		want = append(want, "apis/"+g.Versions[0].GroupVersion)
	}
	for _, path := range want {
		url := index.Paths[path].ServerRelativeURL
		_, hash, _ := strings.Cut(url, "?hash=")
		w := do(t, s, "GET", url, "")
		if w.Code != 200 || hash == "" || w.Header().Get("ETag") != `"`+hash+`"` || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("%s at %q: %d, ETag %s, %s", path, url, w.Code, w.Header().Get("ETag"), w.Header().Get("Cache-Control"))
		}
	}
}
