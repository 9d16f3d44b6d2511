package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/clientcmd"

	"shoal/internal/api"
)

func TestUsers(t *testing.T) {
	kept, codecs := map[string]*corev1.Secret{}, api.NewCodecs(api.NewScheme())
	at := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		const path = "/api/v1/namespaces/kube-system/secrets"
		switch {
		case r.URL.Path == "/shoal/v1/peers":
			fmt.Fprint(w, `{"peer":"peer-1","peers":[{"name":"peer-1","api":"https://192.0.2.1:6443"}]}`)
		case r.Method == "POST" && r.URL.Path == path:
			b, _ := io.ReadAll(r.Body)
			o, _, err := codecs.Decode(b, r.Header.Get("Content-Type"), "", api.Secrets.GroupVersionKind)
			if err != nil {
				t.Error(err)
				return
			}
			s := o.(*corev1.Secret)
			s.CreationTimestamp.Time = time.Now()
			kept[s.Name] = s
			w.WriteHeader(http.StatusCreated)
			_ = json.NewEncoder(w).Encode(s)
		case r.Method == "GET" && r.URL.Path == path:
			if got := r.URL.Query().Get("fieldSelector"); got != "type=shoal/user-token" {
				t.Errorf("listed by %q", got)
			}
			l := corev1.SecretList{}
			l.APIVersion, l.Kind, l.ResourceVersion = "v1", "SecretList", "1"
			for _, s := range kept {
				l.Items = append(l.Items, *s)
			}
			_ = json.NewEncoder(w).Encode(l)
		case r.Method == "DELETE":
			name := strings.TrimPrefix(r.URL.Path, path+"/")
			if kept[name] == nil {
				refuse(w, 404, "not found")
				return
			}
			_ = json.NewEncoder(w).Encode(kept[name])
			delete(kept, name)
		default:
			refuse(w, 500, r.Method+" "+r.URL.Path)
		}
	})
	run := func(args string) (out, stderr string, code int) {
		return cli(t, "", append(at, strings.Fields(args)...)...)
	}
	out, stderr, code := run("-n team user create jane --group crew --group deck")
	if code != 0 {
		t.Fatal(stderr)
	}
	cfg, err := clientcmd.Load([]byte(out))
	if err != nil || cfg.CurrentContext != "peer-1" || cfg.Contexts["peer-1"].Namespace != "team" || cfg.Contexts["peer-1"].AuthInfo != "jane" || len(kept) != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	name, secret, ok := api.SplitUserToken(cfg.AuthInfos["jane"].Token)
	u, err := api.UserTokenOf(kept[name])
	if !ok || err != nil || u.User != "jane" || strings.Join(u.Groups, ",") != "crew,deck" || !u.Matches(secret) || time.Until(u.Expires) < 89*24*time.Hour {
		t.Errorf("%+v, %v", u, err)
	}
	out, stderr, code = run("-n team kubeconfig --user joe")
	if cfg, err := clientcmd.Load([]byte(out)); code != 0 || err != nil || cfg.Contexts["peer-1"].Namespace != "team" || cfg.AuthInfos["joe"] == nil || cfg.AuthInfos["joe"].Token == "" {
		t.Errorf("kubeconfig --user: code %d, %v\n%s%s", code, err, out, stderr)
	}
	if _, stderr, code := run("user revoke joe"); code != 0 {
		t.Error(stderr)
	}
	if _, stderr, code := run("user create jane --ttl 0"); code != 0 {
		t.Fatal(stderr)
	}
	if out, _, _ := run("user list"); strings.Count(out, "jane") != 2 || !strings.Contains(out, "crew,deck") || !strings.Contains(out, "never") || !strings.Contains(out, u.ID) {
		t.Error(out)
	}
	if out, stderr, code := run("user revoke jane --token " + u.ID); code != 0 || out != "1 tokens of jane revoked\n" || kept[name] != nil {
		t.Errorf("%d %s%s", code, out, stderr)
	}
	if out, stderr, code := run("user revoke jane"); code != 0 || len(kept) != 0 {
		t.Errorf("%d %s%s", code, out, stderr)
	}
	for args, want := range map[string]string{
		"user revoke jane":           "jane has no such token: shoal user list",
		"user create system:admin":   "names that begin with system: are the cluster's own",
		"user create jane --ttl=-1s": "--ttl must not be negative",
	} {
		if _, stderr, code := run(args); code == 0 || !strings.Contains(stderr, want) {
			t.Errorf("shoal %s: %d, %s", args, code, stderr)
		}
	}
}
