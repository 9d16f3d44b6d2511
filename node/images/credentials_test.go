package images

import (
	"encoding/base64"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/node/runtime"
)

func secret(typ corev1.SecretType, key, content string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "pull"}, Type: typ, Data: map[string][]byte{key: []byte(content)}}
}

func TestCredentialsOfASecret(t *testing.T) {
	auth := base64.StdEncoding.EncodeToString([]byte("ann:s3:cret"))
	for _, row := range []struct {
		name string
		s    *corev1.Secret
		want []runtime.Credential // nil: refused
	}{
		{
			"config.json", secret(corev1.SecretTypeDockerConfigJson, ".dockerconfigjson", `{"auths":{"r.example:5000":{"username":"ann","password":"pw","auth":"`+auth+`"}}}`),
			[]runtime.Credential{{Registry: "r.example:5000", Username: "ann", Password: "s3:cret"}},
		},
		{
			"without auth", secret(corev1.SecretTypeDockerConfigJson, ".dockerconfigjson", `{"auths":{"https://r.example/team/":{"username":"ann","password":"pw"}}}`),
			[]runtime.Credential{{Registry: "r.example/team", Username: "ann", Password: "pw"}},
		},
		{
			"Docker's own registry", secret(corev1.SecretTypeDockerConfigJson, ".dockerconfigjson", `{"auths":{"https://index.docker.io/v1/":{"username":"ann","password":"pw"}}}`),
			[]runtime.Credential{{Registry: "docker.io", Username: "ann", Password: "pw"}},
		},
		{
			"the old format", secret(corev1.SecretTypeDockercfg, ".dockercfg", `{"r.example":{"username":"ann","password":"pw","email":"a@b"}}`),
			[]runtime.Credential{{Registry: "r.example", Username: "ann", Password: "pw"}},
		},
		{"nobody", secret(corev1.SecretTypeDockerConfigJson, ".dockerconfigjson", `{"auths":{"r.example":{}}}`), []runtime.Credential{}},
		{"opaque", secret(corev1.SecretTypeOpaque, ".dockerconfigjson", `{}`), nil},
		{"no JSON", secret(corev1.SecretTypeDockerConfigJson, ".dockerconfigjson", `hunter2`), nil},
		{"no key", secret(corev1.SecretTypeDockerConfigJson, "other", `{}`), nil},
		{"bad base64", secret(corev1.SecretTypeDockerConfigJson, ".dockerconfigjson", `{"auths":{"r.example":{"auth":"?"}}}`), nil},
		{"no colon", secret(corev1.SecretTypeDockerConfigJson, ".dockerconfigjson", `{"auths":{"r.example":{"auth":"YW5u"}}}`), nil},
	} {
		got, err := Credentials(row.s)
		if row.want == nil {
			if err == nil {
				t.Errorf("%s: got %+v", row.name, got)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
		}
		if d := cmp.Diff(row.want, append([]runtime.Credential{}, got...)); d != "" {
			t.Errorf("%s: %s", row.name, d)
		}
	}
}

// The rules, and the first five rows, are those of "Interpretation of config.json" in Kubernetes' documentation of images.
func TestCredentialsFit(t *testing.T) {
	for _, row := range []struct {
		pattern, image string
		want           bool
	}{
		{"my-registry.example/images", "my-registry.example/images", true},
		{"my-registry.example/images", "my-registry.example/images/my-image", true},
		{"my-registry.example/images", "my-registry.example/images/another-image", true},
		{"*.my-registry.example/images", "sub.my-registry.example/images/my-image", true},
		{"*.my-registry.example/images", "a.sub.my-registry.example/images/my-image", false},
		{"prefix.*.io", "prefix.kubernetes.io/app", true},
		{"*-good.kubernetes.io", "prefix-good.kubernetes.io/app", true},
		{"*.kubernetes.io", "kubernetes.io/app", false},
		{"my-registry.example/images", "my-registry.example/imagesquare/app", false},
		{"r.example", "r.example/team/app:v1", true},
		{"r.example", "r.example:5000/team/app:v1", false},
		{"r.example:5000", "r.example:5000/team/app@sha256:0123456789012345678901234567890123456789012345678901234567890123", true},
		{"docker.io", "nginx", true},
		{"docker.io/team", "team/app", true},
		{"docker.io/team", "nginx", false},
		{"[", "r.example/app", false},
		{"*.0.0.1:5000", "127.0.0.1:5000/app", true},
	} {
		c := runtime.Credential{Registry: row.pattern, Username: "ann"}
		if got := len(For([]runtime.Credential{c}, row.image)) == 1; got != row.want {
			t.Errorf("%s for %s: %v", row.pattern, row.image, got)
		}
	}
	wide, narrow := runtime.Credential{Registry: "r.example", Username: "wide"}, runtime.Credential{Registry: "r.example/team", Username: "narrow"}
	if d := cmp.Diff([]runtime.Credential{narrow, wide}, For([]runtime.Credential{wide, narrow, wide}, "r.example/team/app")); d != "" {
		t.Error(d)
	}
}

func TestMay(t *testing.T) {
	for _, row := range []struct {
		with, shown []string
		want        bool
	}{
		{nil, nil, true},
		{[]string{Anonymous}, nil, true},
		{[]string{"a"}, nil, false},
		{[]string{"a"}, []string{""}, false},
		{[]string{""}, []string{""}, false},
		{[]string{"a"}, []string{"b"}, false},
		{[]string{"a", "b"}, []string{"c", "b"}, true},
	} {
		if got := May(row.with, row.shown); got != row.want {
			t.Errorf("%q with %q: %v", row.with, row.shown, got)
		}
	}
}

func FuzzCredentials(f *testing.F) {
	f.Add([]byte(`{"auths":{"https://r.example/v1/":{"auth":"YTpi"}}}`), "r.example/app:v1")
	f.Add([]byte(`{"auths":{"*.[a-z":{"username":"a"}}}`), "x.y/z")
	f.Fuzz(func(t *testing.T, b []byte, image string) {
		for _, s := range []*corev1.Secret{
			secret(corev1.SecretTypeDockerConfigJson, corev1.DockerConfigJsonKey, string(b)), secret(corev1.SecretTypeDockercfg, corev1.DockerConfigKey, string(b)),
		} {
			creds, err := Credentials(s)
			if err != nil && len(creds) > 0 {
				t.Error("both an error and credentials")
			}
			if fitting := For(creds, image); len(fitting) > len(creds) {
				t.Error("more fit than there are")
			}
		}
	})
}
