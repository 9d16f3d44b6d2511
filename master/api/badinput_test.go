package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shoalapi "shoal/internal/api"
	"shoal/internal/client"
)

// TestBadInput sends what no client should. Every answer is a Status that says what is wrong, and nothing of it is kept.
func TestBadInput(t *testing.T) {
	const (
		maps  = "/api/v1/namespaces/ns/configmaps"
		one   = maps + "/there"
		jsons = "application/json"
		yamls = "application/yaml"
		merge = "application/merge-patch+json"
		jpath = "application/json-patch+json"
		strat = "application/strategic-merge-patch+json"
		apply = "application/apply-patch+yaml"
	)
	nest := func(open, closed string, n int) string { return strings.Repeat(open, n) + strings.Repeat(closed, n) }
	object := func(data string) string { return `{"metadata":{"name":"bad"},"data":` + data + `}` }
	aliases := "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n" + "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n" +
		"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n" + "e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n" + "f: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n" +
		"g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f]\nmetadata: {name: bad}\n"
	for name, c := range map[string]struct {
		method, path, media, body string
		code                      int
		says                      string
	}{
		"a body over 3 MiB":           {"POST", maps, jsons, object(`{"v":"` + strings.Repeat("x", 3<<20) + `"}`), 413, "limit is 3145728"},
		"a patch over 3 MiB":          {"PATCH", one, merge, `{"data":{"v":"` + strings.Repeat("x", 3<<20) + `"}}`, 413, "limit is 3145728"},
		"an object over 1 MiB":        {"POST", maps, jsons, object(`{"v":"` + strings.Repeat("x", 2<<20) + `"}`), 422, "Too long"},
		"no body":                     {"POST", maps, jsons, "", 400, ""},
		"half a body":                 {"POST", maps, jsons, `{"metadata":{"na`, 400, "unexpected end of JSON input"},
		"two bodies":                  {"POST", maps, jsons, object(`{}`) + object(`{}`), 400, ""},
		"a list for an object":        {"POST", maps, jsons, `[]`, 400, "cannot unmarshal array"},
		"a number for an object":      {"POST", maps, jsons, `7`, 400, "cannot unmarshal number"},
		"null":                        {"POST", maps, jsons, `null`, 422, "name or generateName is required"},
		"lists in lists":              {"POST", maps, jsons, object(nest("[", "]", 100_000)), 400, "exceeded max depth"},
		"objects in objects":          {"POST", maps, jsons, object(nest(`{"a":`, "}", 50_000)), 400, ""},
		"objects in objects, merged":  {"PATCH", one, merge, `{"data":` + strings.Repeat(`{"a":`, 50_000) + "1" + strings.Repeat("}", 50_000) + `}`, 400, ""},
		"objects in objects, applied": {"PATCH", one + "?fieldManager=m", apply, "metadata: " + nest("{a: ", "}", 20_000), 400, ""},
		"aliases that multiply":       {"POST", maps, yamls, aliases, 413, "aliases"},
		"aliases that multiply, applied": {
			"PATCH", one + "?fieldManager=m", apply, "apiVersion: v1\nkind: ConfigMap\n" + aliases, 413, "aliases",
		},
		"an alias of itself":             {"POST", maps, yamls, "metadata: &a {name: bad, labels: *a}", 413, "aliases"},
		"YAML that is none":              {"POST", maps, yamls, "metadata: {name: bad", 400, ""},
		"a tab in YAML":                  {"POST", maps, yamls, "metadata:\n\tname: bad", 400, ""},
		"a number for a name":            {"POST", maps, jsons, `{"metadata":{"name":7}}`, 400, "name"},
		"a number that is too large":     {"POST", "/api/v1/namespaces/ns/replicationcontrollers", jsons, `{"metadata":{"name":"bad"},"spec":{"replicas":99999999999999999999}}`, 400, "replicas"},
		"a fraction for an integer":      {"POST", "/api/v1/namespaces/ns/replicationcontrollers", jsons, `{"metadata":{"name":"bad"},"spec":{"replicas":1.5}}`, 400, "replicas"},
		"a quantity that is none":        {"POST", "/api/v1/namespaces/ns/limitranges", jsons, `{"metadata":{"name":"bad"},"spec":{"limits":[{"type":"Pod","max":{"cpu":"much"}}]}}`, 400, "quantities must match"},
		"a time that is none":            {"POST", maps, jsons, `{"metadata":{"name":"bad","creationTimestamp":"yesterday"}}`, 400, "yesterday"},
		"another kind":                   {"POST", maps, jsons, `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"bad"}}`, 400, "Pod"},
		"another version":                {"POST", maps, jsons, `{"kind":"ConfigMap","apiVersion":"v2","metadata":{"name":"bad"}}`, 400, "v2"},
		"an unknown field, strictly":     {"POST", maps + "?fieldValidation=Strict", jsons, `{"metadata":{"name":"bad"},"nope":1}`, 400, `unknown field "nope"`},
		"a field twice, strictly":        {"POST", maps + "?fieldValidation=Strict", jsons, `{"metadata":{"name":"bad","name":"bad"}}`, 400, `duplicate field "metadata.name"`},
		"a wrong fieldValidation":        {"POST", maps + "?fieldValidation=Perhaps", jsons, object(`{}`), 422, "fieldValidation"},
		"a wrong dryRun":                 {"POST", maps + "?dryRun=perhaps", jsons, object(`{}`), 422, "dryRun"},
		"a wrong content type":           {"POST", maps, "text/html", object(`{}`), 415, "text/html"},
		"no content type at all":         {"POST", maps, "?", object(`{}`), 415, ""},
		"protobuf that is none":          {"POST", maps, "application/vnd.kubernetes.protobuf", "k8s\x00nothing", 400, ""},
		"protobuf without its mark":      {"POST", maps, "application/vnd.kubernetes.protobuf", object(`{}`), 400, ""},
		"an unknown patch":               {"PATCH", one, "application/patch", `{}`, 415, "accepted media types include"},
		"a patch that is none":           {"PATCH", one, merge, `}{`, 400, "error decoding patch"},
		"a JSON patch that is no list":   {"PATCH", one, jpath, `{"op":"add"}`, 400, ""},
		"a JSON patch without a path":    {"PATCH", one, jpath, `[{"op":"replace","path":"/data/none/deep","value":1}]`, 422, "/data/none/deep"},
		"a JSON patch of unknown op":     {"PATCH", one, jpath, `[{"op":"steal","path":"/data"}]`, 422, "steal"},
		"a JSON patch of 20,000 steps":   {"PATCH", one, jpath, "[" + strings.Repeat(`{"op":"test","path":"/kind","value":"ConfigMap"},`, 19_999) + `{"op":"test","path":"/kind","value":"ConfigMap"}]`, 413, "20000"},
		"a JSON patch that grows":        {"PATCH", one, jpath, `[{"op":"add","path":"/data","value":{"a":"` + strings.Repeat("x", 1<<20) + `"}},{"op":"copy","from":"/data/a","path":"/data/b"}]`, 422, ""},
		"a strategic patch of no kind":   {"PATCH", one, strat, `{"data":{"$patch":"nonsense"}}`, 422, "nonsense"},
		"an apply without a manager":     {"PATCH", one, apply, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: there}\n", 422, "fieldManager"},
		"an apply of a field of no type": {"PATCH", one + "?fieldManager=m", apply, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: there}\ndata: {a: [1]}\n", 400, ".data.a"},
		"an apply under another name":    {"PATCH", one + "?fieldManager=m", apply, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n", 400, "other"},
		"a manager of 200 letters":       {"POST", maps + "?fieldManager=" + strings.Repeat("m", 200), jsons, object(`{}`), 422, "fieldManager"},
		"a name of 300 letters":          {"POST", maps, jsons, `{"metadata":{"name":"` + strings.Repeat("n", 300) + `"}}`, 422, "metadata.name"},
		"a name that leads elsewhere":    {"POST", maps, jsons, `{"metadata":{"name":"../secrets/x"}}`, 422, "metadata.name"},
		"another namespace":              {"POST", maps, jsons, `{"metadata":{"name":"bad","namespace":"other"}}`, 400, "namespace"},
		"a label of no form":             {"POST", maps, jsons, `{"metadata":{"name":"bad","labels":{"a b":"c"}}}`, 422, "metadata.labels"},
		"a PUT under another name":       {"PUT", one, jsons, `{"metadata":{"name":"other"}}`, 400, "does not match the name on the URL"},
		"a PUT without a name":           {"PUT", one, jsons, `{"metadata":{}}`, 400, "name must be provided"},
		"a PUT with a wrong version":     {"PUT", one, jsons, `{"metadata":{"name":"there","resourceVersion":"x"}}`, 400, "resourceVersion"},
		"a label selector of no form":    {"GET", maps + "?labelSelector=a+in+(b", "", "", 400, "unable to parse requirement"},
		"a field selector of no form":    {"GET", maps + "?fieldSelector=a!b", "", "", 400, "a!b"},
		"a field nobody selects by":      {"GET", maps + "?fieldSelector=data.v%3D1", "", "", 400, `"data.v" is not a known field selector`},
		"a continue token of no form":    {"GET", maps + "?limit=1&continue=nonsense", "", "", 400, "continue"},
		"a continue token of elsewhere":  {"GET", maps + "?limit=1&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiIuLi9zZWNyZXRzL3gifQ", "", "", 400, "continue"},
		"a limit that is no number":      {"GET", maps + "?limit=many", "", "", 400, "many"},
		"a version that is no number":    {"GET", maps + "?resourceVersion=new", "", "", 400, "resourceVersion"},
		"an exact match of nothing":      {"GET", maps + "?resourceVersionMatch=Exact", "", "", 422, "resourceVersionMatch"},
		"a match of no kind":             {"GET", maps + "?resourceVersion=1&resourceVersionMatch=Roughly", "", "", 422, "Roughly"},
		"a timeout that is no number":    {"GET", maps + "?watch=1&timeoutSeconds=long", "", "", 400, "long"},
		"a format that is not served":    {"GET", maps, "accept:image/png", "", 406, "application/json"},
		"options of a deletion of no form": {
			"DELETE", one, jsons, `{"propagationPolicy":"Perhaps"}`, 422, "propagationPolicy",
		},
		"options of another kind":       {"DELETE", one, jsons, `{"kind":"Pod","apiVersion":"v1"}`, 400, "Pod"},
		"a negative grace":              {"DELETE", one, jsons, `{"gracePeriodSeconds":-7,"preconditions":{"uid":"none"}}`, 409, "UID"},
		"a method that there is not":    {"POST", one, jsons, object(`{}`), 405, "method"},
		"a resource that there is not":  {"GET", "/api/v1/namespaces/ns/nonsense", "", "", 404, ""},
		"a path that leads too deep":    {"GET", one + "/status/deeper", "", "", 404, ""},
		"a scale of what has none":      {"GET", one + "/scale", "", "", 404, ""},
		"a binding to nowhere":          {"POST", "/api/v1/namespaces/ns/pods/none/binding", jsons, `{"target":{"name":"n"}}`, 404, "none"},
		"a Service with a wrong port":   {"POST", "/api/v1/namespaces/ns/services", jsons, `{"metadata":{"name":"bad"},"spec":{"ports":[{"port":70000}]}}`, 422, "spec.ports[0].port"},
		"a pattern that takes for ever": {"GET", maps + "?labelSelector=" + strings.Repeat("a,", 50_000), "", "", 400, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, reg := server(t)
			if _, err := reg.Create(t.Context(), shoalapi.Namespaces, namespace("ns"), client.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			do(t, h, "POST", maps, `{"metadata":{"name":"there"},"data":{"v":"1"}}`, "Content-Type", jsons)
			was := do(t, h, "GET", one, "").Body.String()
			header, value := "Content-Type", c.media
			if v, ok := strings.CutPrefix(c.media, "accept:"); ok {
				header, value = "Accept", v
			}
			w := do(t, h, c.method, c.path, c.body, header, value)
			if w.Code != c.code {
				t.Errorf("%d, want %d: %.400s", w.Code, c.code, w.Body)
			}
			var st metav1.Status
			switch err := json.Unmarshal(w.Body.Bytes(), &st); {
			case err != nil || st.Kind != "Status" || st.Message == "" || int(st.Code) != w.Code:
				t.Errorf("no Status: %v %.400s", err, w.Body)
			case !strings.Contains(st.Message, c.says):
				t.Errorf("it does not say %q: %.600s", c.says, st.Message)
			case len(st.Message) > 8000:
				t.Errorf("a message of %d bytes", len(st.Message))
			}
			if now := do(t, h, "GET", one, "").Body.String(); now != was {
				t.Errorf("the object was\n%s\nand is\n%s", was, now)
			}
			if w := do(t, h, "GET", maps+"/bad", ""); w.Code != http.StatusNotFound {
				t.Errorf("it was kept: %d %.400s", w.Code, w.Body)
			}
		})
	}
}
