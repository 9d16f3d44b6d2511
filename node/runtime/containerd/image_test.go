package containerd

import (
	"bytes"
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	corev1 "k8s.io/api/core/v1"

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
		img, err := m.Image(t.Context(), row.ref, row.policy)
		if got := runtime.Reason(err); got != row.want || err == nil && img.Name != row.ref {
			t.Errorf("%s %s: got %v, %+v", row.ref, row.policy, err, img)
		}
	}
	server.Close()
	if _, err := m.Image(t.Context(), host+"/team/app:v1", corev1.PullAlways); runtime.Reason(err) != runtime.ReasonImagePull {
		t.Errorf("a registry that is gone: %v", err)
	}
	if _, err := m.Image(t.Context(), host+"/team/app:v1", corev1.PullIfNotPresent); err != nil {
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
	img, err := m.Image(t.Context(), "other:v2", corev1.PullNever)
	if err != nil || !strings.HasPrefix(img.ID, "sha256:") || len(img.Digests) != 1 || img.Size == 0 {
		t.Errorf("got %+v, %v", img, err)
	}
	list, err := m.Images(t.Context())
	if err != nil || len(list) != 2 {
		t.Errorf("got %+v, %v", list, err)
	}
	if _, err := m.Import(t.Context(), strings.NewReader("no archive")); err == nil {
		t.Error("nonsense was imported")
	}
}
