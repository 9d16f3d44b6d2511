package peer

import (
	"encoding/base64"
	"encoding/json"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	rbacPath    = "/apis/rbac.authorization.k8s.io/v1"
	signingPath = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
	merge       = "application/merge-patch+json"
)

// deeds are the questions that method and path alone do not answer: who gives rights away, acts as another one, says yes to certificates; and what a
// node does to what is its own and what is not. None of them is done: they are dry runs, or reads.
func (w *matrixWorld) deeds() []cell {
	all := append(w.grants(), actingAs()...)
	all = append(all, w.signatures()...)
	return append(all, ofNodes()...)
}

func deed(what, method, path, kind string, body any, headers ...string) cell {
	c := cell{scope: deeds, verb: "do", what: what + ";", method: method, path: path, kind: kind, headers: headers}
	switch b := body.(type) {
	case nil:
	case string:
		c.body = b
	default:
		text, err := json.Marshal(b)
		if err != nil {
			panic(err) // it is one of ours
		}
		c.body = string(text)
	}
	return c
}

func dryCreate(what, path string, o any) cell {
	return deed(what, "POST", path+"?dryRun=All", "application/json", o)
}

func (w *matrixWorld) grants() (all []cell) {
	meta := func(kind string) metav1.TypeMeta {
		return metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: kind}
	}
	for _, role := range []string{"view", "cluster-admin", "that-is-missing"} {
		all = append(all, dryCreate("bind "+role+" in mine", rbacPath+"/namespaces/mine/rolebindings", &rbacv1.RoleBinding{
			TypeMeta: meta("RoleBinding"), ObjectMeta: in("", "x"), RoleRef: clusterRole(role), Subjects: userSubject("joe"),
		}), dryCreate("bind "+role+" everywhere", rbacPath+"/clusterrolebindings", &rbacv1.ClusterRoleBinding{
			TypeMeta: meta("ClusterRoleBinding"), ObjectMeta: in("", "x"), RoleRef: clusterRole(role), Subjects: userSubject("joe"),
		}))
	}
	for _, r := range []struct {
		what string
		rule rbacv1.PolicyRule
	}{
		{"reads pods", rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}},
		{"may do everything", rbacv1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}},
	} {
		rules := []rbacv1.PolicyRule{r.rule}
		all = append(all,
			dryCreate("make a role that "+r.what+" in mine", rbacPath+"/namespaces/mine/roles", &rbacv1.Role{TypeMeta: meta("Role"), ObjectMeta: in("", "x"), Rules: rules}),
			dryCreate("make a cluster role that "+r.what, rbacPath+"/clusterroles", &rbacv1.ClusterRole{TypeMeta: meta("ClusterRole"), ObjectMeta: in("", "x"), Rules: rules}))
	}
	return append(all, dryCreate("make a cluster role that gathers", rbacPath+"/clusterroles", &rbacv1.ClusterRole{
		TypeMeta: meta("ClusterRole"), ObjectMeta: in("", "x"),
		AggregationRule: &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"a": "b"}}}},
	}))
}

func actingAs() []cell {
	as := func(what string, headers ...string) cell {
		return deed("act as "+what, "GET", "/version", "", nil, headers...)
	}
	return []cell{
		as("user joe", "Impersonate-User", "joe"),
		as("user joe of system:masters", "Impersonate-User", "joe", "Impersonate-Group", "system:masters"),
		as("account default of mine", "Impersonate-User", "system:serviceaccount:mine:default"),
		as("account default of other", "Impersonate-User", "system:serviceaccount:other:default"),
		as("node peer-1", "Impersonate-User", "system:node:peer-1", "Impersonate-Group", "system:nodes"),
		as("joe with a uid", "Impersonate-User", "joe", "Impersonate-Uid", "7"),
		as("joe with scopes", "Impersonate-User", "joe", "Impersonate-Extra-Scopes", "all"),
	}
}

func (w *matrixWorld) signatures() []cell {
	masters := signingRequest(w.t, certificatesv1.KubeAPIServerClientSignerName, "system:masters")
	masters.TypeMeta = metav1.TypeMeta{APIVersion: certificatesv1.SchemeGroupVersion.String(), Kind: "CertificateSigningRequest"}
	masters.Name, masters.Spec.Usages = "x", []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth}
	return []cell{
		dryCreate("ask for a certificate of system:masters", signingPath, masters),
		deed("approve a certificate", "PATCH", signingPath+"/asked/approval?dryRun=All", merge, `{"status":{"conditions":[{"type":"Approved","status":"True","reason":"x"}]}}`),
		deed("sign a certificate", "PATCH", signingPath+"/asked/status?dryRun=All", merge, fmt.Sprintf(`{"status":{"certificate":%q}}`, base64.StdEncoding.EncodeToString([]byte("x")))),
	}
}

func ofNodes() []cell {
	const mine, pods, nodes = "/api/v1/namespaces/mine", "/api/v1/namespaces/mine/pods", "/api/v1/nodes"
	all := []cell{}
	for _, pod := range []string{"own", "anothers"} {
		all = append(all,
			deed("write the status of pod "+pod, "PATCH", pods+"/"+pod+"/status?dryRun=All", merge, `{"status":{"message":"x"}}`),
			deed("label pod "+pod+" through its status", "PATCH", pods+"/"+pod+"/status?dryRun=All", merge, `{"metadata":{"labels":{"a":"b"}}}`),
			deed("label pod "+pod, "PATCH", pods+"/"+pod+"?dryRun=All", merge, `{"metadata":{"labels":{"a":"b"}}}`),
			deed("delete pod "+pod, "DELETE", pods+"/"+pod+"?dryRun=All", "", nil),
			deed("evict pod "+pod, "POST", pods+"/"+pod+"/eviction?dryRun=All", "application/json", `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"`+pod+`"}}`),
			deed("read the log of pod "+pod, "GET", pods+"/"+pod+"/log", "", nil),
			deed("run a program in pod "+pod, "POST", pods+"/"+pod+"/exec?command=true&stdout=1", "", nil),
		)
	}
	for _, kind := range []string{"secrets", "configmaps"} {
		for _, name := range []string{"used", "unused"} {
			all = append(all, deed("read "+kind+"/"+name, "GET", mine+"/"+kind+"/"+name+"?resourceVersion=0", "", nil))
		}
		all = append(all, deed("list "+kind+" called used", "GET", mine+"/"+kind+"?fieldSelector=metadata.name%3Dused&resourceVersion=0", "", nil))
	}
	const request = `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{%s}}`
	for _, pod := range []string{"own", "anothers"} {
		bound := `"boundObjectRef":{"apiVersion":"v1","kind":"Pod","name":"` + pod + `"}`
		all = append(all, dryCreate("make a token of default bound to pod "+pod, mine+"/serviceaccounts/default/token", fmt.Sprintf(request, bound)))
	}
	for _, account := range []string{"default", "idle"} { // of pods, of none
		all = append(all, dryCreate("make a token of "+account, mine+"/serviceaccounts/"+account+"/token", fmt.Sprintf(request, "")))
	}
	newPod := func(node string, mirror bool) *corev1.Pod {
		p := podOn("x", node)
		p.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
		if mirror {
			p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
		}
		return p
	}
	all = append(all, dryCreate("make a pod on peer-2", pods, newPod("peer-2", false)), dryCreate("mirror a pod of peer-2", pods, newPod("peer-2", true)), dryCreate("mirror a pod of peer-1", pods, newPod("peer-1", true)))
	for _, node := range []string{"peer-2", "peer-1"} {
		all = append(all,
			deed("label node "+node, "PATCH", nodes+"/"+node+"?dryRun=All", merge, `{"metadata":{"labels":{"example.com/a":"b"}}}`),
			deed("write the status of node "+node, "PATCH", nodes+"/"+node+"/status?dryRun=All", merge, `{"status":{"phase":"Running"}}`),
			deed("label node "+node+" as node-restriction.kubernetes.io/tier", "PATCH", nodes+"/"+node+"?dryRun=All", merge, `{"metadata":{"labels":{"node-restriction.kubernetes.io/tier":"secret"}}}`),
			deed("label node "+node+" so through its status", "PATCH", nodes+"/"+node+"/status?dryRun=All", merge, `{"metadata":{"labels":{"node-restriction.kubernetes.io/tier":"secret"}}}`),
			deed("taint node "+node, "PATCH", nodes+"/"+node+"?dryRun=All", merge, `{"spec":{"taints":[{"key":"a","effect":"NoSchedule"}]}}`),
			deed("delete node "+node, "DELETE", nodes+"/"+node+"?dryRun=All", "", nil),
		)
	}
	return append(all, dryCreate("make node peer-9", nodes, `{"apiVersion":"v1","kind":"Node","metadata":{"name":"peer-9"}}`))
}
