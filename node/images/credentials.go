package images

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"

	"shoal/node/runtime"
)

// Anonymous stands for no credential.
const Anonymous = "anonymous"

// ID names a credential without telling it. The zero credential is Anonymous.
func ID(c runtime.Credential) string {
	if c == (runtime.Credential{}) {
		return Anonymous
	}
	sum := sha256.Sum256([]byte(c.Registry + "\x00" + c.Username + "\x00" + c.Password))
	return hex.EncodeToString(sum[:])
}

// Login is a credential for the repository of an image, written as people write it.
func Login(image, username, password string) (runtime.Credential, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return runtime.Credential{}, fmt.Errorf("image %q: %w", image, err)
	}
	return runtime.Credential{Registry: reference.Domain(named), Username: username, Password: password}, nil
}

// login is what Docker's configuration says of one registry.
type login struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Auth     string `json:"auth"` // base64 of USERNAME:PASSWORD
}

// Credentials reads a Secret of one of the types kubernetes.io/dockerconfigjson and kubernetes.io/dockercfg.
func Credentials(s *corev1.Secret) ([]runtime.Credential, error) {
	logins := map[string]login{}
	var err error
	switch s.Type {
	case corev1.SecretTypeDockerConfigJson:
		var file struct {
			Auths map[string]login `json:"auths"`
		}
		err = json.Unmarshal(s.Data[corev1.DockerConfigJsonKey], &file)
		logins = file.Auths
	case corev1.SecretTypeDockercfg:
		err = json.Unmarshal(s.Data[corev1.DockerConfigKey], &logins)
	default:
		return nil, fmt.Errorf("secret %s is of type %s; one for pulling images is of type %s", s.Name, s.Type, corev1.SecretTypeDockerConfigJson)
	}
	if err != nil {
		// The error may quote what is secret.
		return nil, fmt.Errorf("secret %s is not a Docker configuration: make one with kubectl create secret docker-registry", s.Name)
	}
	var out []runtime.Credential
	for registry, l := range logins {
		c := runtime.Credential{Registry: bare(registry), Username: l.Username, Password: l.Password}
		if l.Auth != "" {
			if c.Username, c.Password, err = decodeAuth(l.Auth); err != nil {
				return nil, fmt.Errorf("secret %s: auth of %s: %w", s.Name, registry, err)
			}
		}
		if c.Username != "" || c.Password != "" {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b runtime.Credential) int { return strings.Compare(a.Registry, b.Registry) })
	return out, nil
}

func decodeAuth(auth string) (user, password string, err error) {
	b, err := base64.StdEncoding.DecodeString(auth)
	if err != nil {
		b, err = base64.RawStdEncoding.DecodeString(auth)
	}
	if err != nil {
		return "", "", errors.New("not base64")
	}
	user, password, ok := strings.Cut(string(b), ":")
	if !ok {
		return "", "", errors.New("not USERNAME:PASSWORD")
	}
	return user, strings.TrimRight(password, "\x00"), nil
}

// bare is a registry's key in Docker's configuration as HOST[:PORT][/PATH]: the scheme goes, and so does the version of the API, which older ones name.
func bare(key string) string {
	if _, rest, ok := strings.Cut(key, "://"); ok {
		key = rest
	}
	host, repo, _ := strings.Cut(key, "/")
	repo = strings.Trim(repo, "/")
	for _, version := range []string{"v1", "v2"} {
		if repo == version {
			repo = ""
		}
		repo = strings.TrimPrefix(repo, version+"/")
	}
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		host = "docker.io"
	}
	return strings.TrimSuffix(host+"/"+repo, "/")
}

// For returns the credentials that fit an image's whole name, the most particular first. A registry's name may have * for parts of its host names,
// and may go on with the beginning of a path, as Kubernetes documents of config.json.
func For(creds []runtime.Credential, image string) []runtime.Credential {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return nil
	}
	var out []runtime.Credential
	for _, c := range creds {
		if fits(c.Registry, named.Name()) && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(a, b runtime.Credential) int { return cmp.Compare(len(b.Registry), len(a.Registry)) })
	return out
}

func fits(pattern, repository string) bool {
	wantHost, wantPath, _ := strings.Cut(pattern, "/")
	host, rest, _ := strings.Cut(repository, "/")
	if wantPath != "" && rest != wantPath && !strings.HasPrefix(rest, wantPath+"/") {
		return false
	}
	want, have := (&url.URL{Host: wantHost}), (&url.URL{Host: host})
	if want.Port() != have.Port() {
		return false
	}
	parts, patterns := strings.Split(have.Hostname(), "."), strings.Split(want.Hostname(), ".")
	if len(parts) != len(patterns) {
		return false
	}
	for i := range parts {
		if ok, err := path.Match(patterns[i], parts[i]); err != nil || !ok {
			return false
		}
	}
	return true
}
