package containerd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	corev1 "k8s.io/api/core/v1"

	"shoal/node/images"
	"shoal/node/runtime"
)

func TestImagePoliciesAndReasons(t *testing.T) {
	m := newMachine(t)
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	ref, err := name.ParseReference(host + "/team/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, probeImage(t)); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		ref    string
		policy corev1.PullPolicy
		want   string
	}{
		{"Not A Name", corev1.PullIfNotPresent, runtime.ReasonInvalidImage},
		{"probe", corev1.PullNever, ""},
		{"docker.io/library/probe:latest", corev1.PullIfNotPresent, ""},
		{host + "/team/app:v1", corev1.PullNever, runtime.ReasonImageNeverPull},
		{host + "/team/app:v2", corev1.PullIfNotPresent, runtime.ReasonImagePull},
		{host + "/team/app:v1", corev1.PullIfNotPresent, ""},
		{host + "/team/app:v1", corev1.PullNever, ""},
		{host + "/team/app:v1", corev1.PullAlways, ""},
	} {
		img, err := m.Image(t.Context(), row.ref, runtime.Pull{Policy: row.policy})
		if got := runtime.Reason(err); got != row.want || err == nil && img.Name != row.ref {
			t.Errorf("%s %s: got %v, %+v", row.ref, row.policy, err, img)
		}
	}
	server.Close()
	if _, err := m.Image(t.Context(), host+"/team/app:v3", runtime.Pull{Policy: corev1.PullAlways}); runtime.Reason(err) != runtime.ReasonImagePull {
		t.Errorf("a registry that is gone: %v", err)
	}
	if _, err := m.Image(t.Context(), host+"/team/app:v1", runtime.Pull{Policy: corev1.PullAlways}); err != nil {
		t.Errorf("a registry that is gone, of an image that is here: %v", err)
	}
	if _, err := m.Image(t.Context(), host+"/team/app:v1", runtime.Pull{Policy: corev1.PullIfNotPresent}); err != nil {
		t.Errorf("an image that is here: %v", err)
	}
}

func TestImportNamesImagesAsPodsDo(t *testing.T) {
	m := newMachine(t)
	names, err := m.Import(t.Context(), bytes.NewReader(archive(t, "index.docker.io/library/other:v2")))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"docker.io/library/other:v2"}, names); d != "" {
		t.Error(d)
	}
	img, err := m.Image(t.Context(), "other:v2", runtime.Pull{Policy: corev1.PullNever})
	if err != nil || !strings.HasPrefix(img.ID, "sha256:") || len(img.Digests) != 1 || img.Size == 0 {
		t.Errorf("got %+v, %v", img, err)
	}
	list, _, err := m.Images(t.Context())
	if err != nil || len(list) != 2 {
		t.Errorf("got %+v, %v", list, err)
	}
	if _, err := m.Import(t.Context(), strings.NewReader("no archive")); err == nil {
		t.Error("nonsense was imported")
	}
}

// guarded is a registry with one image and one user.
func guarded(t *testing.T) (*httptest.Server, string, runtime.Credential) {
	t.Helper()
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ann" || password != "right" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	ref, err := name.ParseReference(host + "/team/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, probeImage(t), remote.WithAuth(&authn.Basic{Username: "ann", Password: "right"})); err != nil {
		t.Fatal(err)
	}
	return server, ref.Name(), runtime.Credential{Registry: host, Username: "ann", Password: "right"}
}

func TestAnImageIsForThoseWhoMayPullIt(t *testing.T) {
	m := newMachine(t)
	server, image, ann := guarded(t)
	bob := ann
	bob.Password = "wrong"
	want := func(when string, policy corev1.PullPolicy, reason string, creds ...runtime.Credential) {
		t.Helper()
		if _, err := m.Image(t.Context(), image, runtime.Pull{Policy: policy, Credentials: creds}); runtime.Reason(err) != reason {
			t.Errorf("%s: got %v, not %q", when, err, reason)
		}
	}
	want("nobody", corev1.PullIfNotPresent, runtime.ReasonImagePull)
	want("the wrong password", corev1.PullIfNotPresent, runtime.ReasonImagePull, bob)
	want("the right one", corev1.PullIfNotPresent, "", ann)
	for range 2 {
		want("nobody, of an image that is here", corev1.PullIfNotPresent, runtime.ReasonImagePull)
		want("nobody, never pulled", corev1.PullNever, runtime.ReasonImageNeverPull)
		want("the wrong password, of an image that is here", corev1.PullIfNotPresent, runtime.ReasonImagePull, bob)
		want("the right one again", corev1.PullNever, "", bob, ann)
		m.stop()
		m.boot() // what is known outlives the peer
	}
	_, with, err := m.Named(t.Context(), image)
	if err != nil || len(with) != 1 {
		t.Errorf("%q, %v", with, err)
	}
	// Passwords that change by the hour do not fill its label.
	for i := range 2 * withMost {
		more := ann
		more.Registry = strings.Repeat("*", i+1) + "." + "0.0.1" + ann.Registry[strings.LastIndex(ann.Registry, ":"):]
		want("one more credential", corev1.PullAlways, "", more)
	}
	if _, with, err := m.Named(t.Context(), image); err != nil || len(with) != withMost {
		t.Errorf("%d credentials are remembered, %v", len(with), err)
	}
	want("the right one", corev1.PullAlways, "", ann)
	server.Close()
	want("the right one without the registry", corev1.PullIfNotPresent, "", ann)
	want("nobody without the registry", corev1.PullIfNotPresent, runtime.ReasonImagePull)
}

// other stands for the network between two machines: requests go to the handler of the one.
type other struct{ handler http.Handler }

func (other) Self() string      { return "peer-2" }
func (other) Members() []string { return []string{"peer-1", "peer-2"} }
func (other) Alive() []string   { return []string{"peer-1", "peer-2"} }

func (o other) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/turn") {
		return nil, errors.New("nobody keeps turns here")
	}
	w := httptest.NewRecorder()
	o.handler.ServeHTTP(w, r)
	return w.Result(), nil
}

// itself is the only machine of its cluster.
type itself string

func (i itself) Self() string      { return string(i) }
func (i itself) Members() []string { return []string{string(i)} }
func (i itself) Alive() []string   { return i.Members() }

func (itself) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("nobody else is there")
}

func TestMachinesHaveImagesFromOneAnother(t *testing.T) {
	one, two := newMachine(t), newMachine(t)
	server, image, ann := guarded(t)
	if _, err := one.Image(t.Context(), image, runtime.Pull{Policy: corev1.PullAlways, Credentials: []runtime.Credential{ann}}); err != nil {
		t.Fatal(err)
	}
	server.Close()
	shared := images.New(images.Config{Peers: itself("peer-1")})
	two.stop()
	two.config.Sources = images.New(images.Config{
		Peers:   other{shared.Handler(one, func(*http.Request) string { return "peer-2" })},
		Holders: func(context.Context, string) []string { return []string{"peer-1"} },
	})
	two.boot()
	if _, err := two.Image(t.Context(), image, runtime.Pull{Policy: corev1.PullAlways}); runtime.Reason(err) != runtime.ReasonImagePull {
		t.Errorf("without a password: %v", err)
	}
	_, changed, err := two.Images(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := two.Image(t.Context(), image, runtime.Pull{Policy: corev1.PullAlways, Credentials: []runtime.Credential{ann}})
	if err != nil {
		t.Fatal(err)
	}
	<-changed
	have, _, err := two.Images(t.Context())
	if err != nil || !slices.ContainsFunc(have, func(i runtime.Image) bool { return i.ID == got.ID && i.Name == image }) {
		t.Errorf("%+v, %v", have, err)
	}
	// What names the layers is for those who may pull; the layers are for who knows their names.
	target, _, err := two.Named(t.Context(), image)
	if err != nil {
		t.Fatal(err)
	}
	content, with, err := two.Open(t.Context(), target.Digest)
	if err != nil || len(with) != 1 {
		t.Fatalf("a manifest: with %q, %v", with, err)
	}
	b, err := io.ReadAll(io.NewSectionReader(content, 0, content.Size()))
	_ = content.Close()
	var m ocispec.Manifest
	if err := errors.Join(err, json.Unmarshal(b, &m)); err != nil || len(m.Layers) == 0 {
		t.Fatalf("%s: %v", b, err)
	}
	layer, with, err := two.Open(t.Context(), m.Layers[0].Digest)
	if err != nil || with != nil {
		t.Fatalf("a layer: with %q, %v", with, err)
	}
	_ = layer.Close()
}

func TestAnImageThatIsRemovedIsGoneFromTheDisk(t *testing.T) {
	m := newMachine(t)
	server, image, ann := guarded(t)
	pull := runtime.Pull{Policy: corev1.PullIfNotPresent, Credentials: []runtime.Credential{ann}}
	got, err := m.Image(t.Context(), image, pull)
	if err != nil || got.Imported {
		t.Fatalf("%+v, %v", got, err)
	}
	if own, err := m.Image(t.Context(), imageName, runtime.Pull{Policy: corev1.PullNever}); err != nil || !own.Imported {
		t.Errorf("%+v, %v", own, err)
	}
	target, _, err := m.Named(t.Context(), image)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.RemoveImage(t.Context(), image); err != nil {
			t.Fatal(err)
		}
	}
	server.Close()
	if _, err := m.Image(t.Context(), image, pull); runtime.Reason(err) != runtime.ReasonImagePull {
		t.Errorf("it is still there: %v", err)
	}
	// The other name of the same content keeps what it needs.
	if err := m.RemoveImage(t.Context(), imageName); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.Open(t.Context(), target.Digest); err == nil {
		t.Error("its manifest is still there")
	}
}
