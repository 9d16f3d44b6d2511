package peer

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/api/custom/customtest"
	"shoal/internal/client"
	masterapi "shoal/master/api"
	"shoal/master/auth"
)

// subject is somebody who asks, with real credentials.
type subject struct {
	name, user string // in the file, in the audit log
	certs      []tls.Certificate
	token      string
}

// matrixWorld is a cluster with a little of everything, and those who ask about it.
type matrixWorld struct {
	t        *testing.T
	peers    []*Peer
	subjects []*subject
	signing  *certificatesv1.CertificateSigningRequest
}

func newMatrixWorld(t *testing.T, peers []*Peer) *matrixWorld {
	t.Helper()
	w := &matrixWorld{t: t, peers: peers}
	for _, name := range []string{inMine, inOther, "bots"} {
		w.make(api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	w.make(api.CustomResourceDefinitions, customtest.Definition(customtest.Boats))
	for _, ns := range []string{inMine, inOther} {
		for _, name := range []string{"default", "idle"} {
			w.make(api.ServiceAccounts, &corev1.ServiceAccount{ObjectMeta: in(ns, name)})
		}
	}
	for _, name := range []string{"used", "unused"} {
		w.make(api.Secrets, &corev1.Secret{ObjectMeta: in(inMine, name)})
		w.make(api.ConfigMaps, &corev1.ConfigMap{ObjectMeta: in(inMine, name)})
	}
	w.make(api.Pods, podOn("own", "peer-2"))
	w.make(api.Pods, podOn("anothers", "peer-1"))
	w.make(api.ServiceAccounts, &corev1.ServiceAccount{ObjectMeta: in("bots", "bot")})
	w.signing = signingRequest(t, "example.com/crew")
	w.signing.Name, w.signing.Spec.Usages = "asked", []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth}
	w.make(api.CertificateSigningRequests, w.signing)
	w.people()
	settle(t, peers)
	return w
}

func in(ns, name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: ns, Name: name} }

// podOn is a pod of the namespace mine that refers to the Secret and the ConfigMap "used".
func podOn(name, node string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: in(inMine, name)}
	p.Spec.NodeName = node
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: "x"}}
	if name == "own" {
		p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "used"}}},
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "used"}}},
		}
	}
	return p
}

// make creates an object as a part of the Master would, unless it is there.
func (w *matrixWorld) make(k *api.Kind, o api.Object) {
	w.t.Helper()
	if _, err := w.peers[0].registry.Create(w.t.Context(), k, o, client.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		w.t.Fatalf("%s %s: %v", k.Kind, o.GetName(), err)
	}
}

// people makes those who ask, and binds them.
func (w *matrixWorld) people() {
	w.t.Helper()
	leader := w.peers[0]
	cert := func(name, user string, groups ...string) {
		w.t.Helper()
		w.subjects = append(w.subjects, &subject{name: name, user: user, certs: []tls.Certificate{leader.certificate(w.t, user, groups...)}})
	}
	byToken := func(name, user string) {
		w.t.Helper()
		token, secret, err := api.NewUserToken(user, nil, time.Time{})
		if err != nil {
			w.t.Fatal(err)
		}
		w.make(api.Secrets, secret)
		w.subjects = append(w.subjects, &subject{name: name, user: user, token: token})
	}
	w.subjects = append(w.subjects, &subject{name: "nobody", user: "system:anonymous"}, &subject{name: "a token that is none", token: "shoal.0123456789abcdef.0"})
	cert("jane without a binding", "jane")
	w.account()
	byToken("a viewer of mine", "vera")
	cert("an editor of mine", "ed")
	byToken("an administrator of mine", "ada")
	cert("a viewer of everything", "victor")
	byToken("a cluster-admin", "root")
	cert("a clerk", "clara")
	cert("a clerk who may give away", "grant")
	cert("system:masters", "boss", auth.MastersGroup)
	w.subjects = append(w.subjects, &subject{name: "node peer-2", user: auth.NodePrefix + "peer-2", certs: []tls.Certificate{*w.peers[1].id.Certificate()}})
	for user, role := range map[string]string{"vera": "view", "ed": "edit", "ada": "admin"} {
		w.make(api.RoleBindings, &rbacv1.RoleBinding{ObjectMeta: in(inMine, user), RoleRef: clusterRole(role), Subjects: userSubject(user)})
	}
	w.make(api.ClusterRoles, clerk("clerk"))
	w.make(api.ClusterRoles, clerk("granting-clerk",
		rbacv1.PolicyRule{APIGroups: []string{rbacv1.GroupName}, Resources: []string{"roles", "clusterroles"}, Verbs: []string{"bind", "escalate"}},
		rbacv1.PolicyRule{APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"signers"}, Verbs: []string{"approve", "sign"}, ResourceNames: []string{"example.com/*"}},
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"users", "groups", "serviceaccounts"}, Verbs: []string{"impersonate"}},
		rbacv1.PolicyRule{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"uids", "userextras/scopes"}, Verbs: []string{"impersonate"}}))
	for user, role := range map[string]string{"victor": "view", "root": "cluster-admin", "clara": "clerk", "grant": "granting-clerk"} {
		w.make(api.ClusterRoleBindings, &rbacv1.ClusterRoleBinding{ObjectMeta: in("", user), RoleRef: clusterRole(role), Subjects: userSubject(user)})
	}
}

// clerk may write what gives rights to others, and nothing else.
func clerk(name string, more ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	writes := []string{"create", "update", "patch"}
	return &rbacv1.ClusterRole{ObjectMeta: in("", name), Rules: append(more,
		rbacv1.PolicyRule{APIGroups: []string{rbacv1.GroupName}, Resources: []string{"roles", "clusterroles", "rolebindings", "clusterrolebindings"}, Verbs: writes},
		rbacv1.PolicyRule{
			APIGroups: []string{"certificates.k8s.io"}, Verbs: writes,
			Resources: []string{"certificatesigningrequests", "certificatesigningrequests/approval", "certificatesigningrequests/status"},
		})}
}

func clusterRole(name string) rbacv1.RoleRef {
	return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name}
}

func userSubject(name string) []rbacv1.Subject {
	return []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}}
}

// account adds a service account of a namespace without bindings, with a token.
func (w *matrixWorld) account() {
	w.t.Helper()
	o, err := w.peers[0].registry.Get(w.t.Context(), api.ServiceAccounts, client.Key{Namespace: "bots", Name: "bot"}, client.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	accounts := newAccounts(w.peers[0])
	token, err := accounts.Issue(w.t.Context(), masterapi.AccountToken{Account: o.(*corev1.ServiceAccount), Audiences: accounts.Audiences(), Life: time.Hour})
	if err != nil {
		w.t.Fatal(err)
	}
	w.subjects = append(w.subjects, &subject{name: "an account without a binding", user: auth.AccountPrefix + "bots:bot", token: token})
}

func (w *matrixWorld) subject(name string) *subject {
	return w.subjects[slices.IndexFunc(w.subjects, func(s *subject) bool { return s.name == name })]
}

// clients returns how each subject reaches a peer.
func (w *matrixWorld) clients(p *Peer) map[string]*http.Client {
	all := map[string]*http.Client{}
	for _, s := range w.subjects {
		all[s.name] = &http.Client{
			Transport:     &http.Transport{TLSClientConfig: p.clientTLS(s.certs...), ForceAttemptHTTP2: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		w.t.Cleanup(all[s.name].CloseIdleConnections)
	}
	return all
}

// table returns all questions, and the resources that discovery shows as GROUPVERSION/NAME.
func (w *matrixWorld) table() (all []cell, resources map[string]bool) {
	w.t.Helper()
	c := w.clients(w.peers[0])["system:masters"]
	get := func(path string, into any) {
		w.t.Helper()
		r, err := http.NewRequestWithContext(w.t.Context(), "GET", "https://"+w.peers[0].address()+path, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		resp, err := c.Do(r)
		if err != nil {
			w.t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil {
			err = json.Unmarshal(body, into)
		}
		if err != nil {
			w.t.Fatalf("%s: %v", path, err)
		}
	}
	roots := []string{"/api/v1"}
	var groups metav1.APIGroupList
	get("/apis", &groups)
	for _, g := range groups.Groups {
		for _, v := range g.Versions {
			roots = append(roots, "/apis/"+v.GroupVersion)
		}
	}
	resources, named := map[string]bool{}, map[string]bool{}
	for _, root := range roots {
		var list metav1.APIResourceList
		get(root, &list)
		group, version, _ := strings.Cut(list.GroupVersion, "/")
		if version == "" {
			group, version = "", group
		}
		for i := range list.APIResources {
			r := &list.APIResources[i]
			resources[list.GroupVersion+"/"+r.Name] = true
			what := r.Name
			if group != "" {
				what += "." + group
			}
			if named[what] { // by another version
				what += "@" + version
			}
			named[what] = true
			all = append(all, cellsOf(root, what, r)...)
		}
	}
	return append(append(all, pathCells()...), w.deeds()...), resources
}
