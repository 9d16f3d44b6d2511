package api_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	shoalapi "shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/api"
	"shoal/master/registry"
	"shoal/master/registry/registrytest"
)

// server is one peer without a network.
func server(t testing.TB) (*api.Server, *registry.Registry) {
	t.Helper()
	reg, _ := registrytest.New(t)
	return api.New(api.Config{Registry: reg, Auth: everyone{}}), reg
}

func do(t testing.TB, h http.Handler, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func decodeProto(t *testing.T, b []byte, into interface{ Unmarshal([]byte) error }) runtime.Unknown {
	t.Helper()
	rest, ok := bytes.CutPrefix(b, []byte("k8s\x00"))
	if !ok {
		t.Fatalf("no protobuf: %q", b[:min(len(b), 20)])
	}
	var u runtime.Unknown
	if err := u.Unmarshal(rest); err != nil {
		t.Fatal(err)
	}
	if err := into.Unmarshal(u.Raw); err != nil {
		t.Fatal(err)
	}
	return u
}

func TestOneObjectInEveryMediaType(t *testing.T) {
	s, reg := server(t)
	for i := range 3 {
		if _, err := reg.Create(t.Context(), shoalapi.ConfigMaps, configMap(fmt.Sprint("cm-", i)), client.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	const one, all = "/api/v1/namespaces/ns/configmaps/cm-1", "/api/v1/namespaces/ns/configmaps"
	var fromJSON, fromYAML, fromProto corev1.ConfigMap
	if err := json.Unmarshal(do(t, s, "GET", one, "").Body.Bytes(), &fromJSON); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(do(t, s, "GET", one, "", "Accept", "application/yaml").Body.Bytes(), &fromYAML); err != nil {
		t.Fatal(err)
	}
	u := decodeProto(t, do(t, s, "GET", one, "", "Accept", "application/vnd.kubernetes.protobuf,application/json").Body.Bytes(), &fromProto)
	if u.Kind != "ConfigMap" || u.APIVersion != "v1" {
		t.Errorf("envelope names %s %s", u.APIVersion, u.Kind)
	}
	for name, got := range map[string]corev1.ConfigMap{"yaml": fromYAML, "proto": fromProto} {
		if got.UID != fromJSON.UID || got.ResourceVersion != fromJSON.ResourceVersion || got.Data["k"] != "v" {
			t.Errorf("%s differs from JSON: %+v", name, got)
		}
	}
	var list corev1.ConfigMapList
	u = decodeProto(t, do(t, s, "GET", all, "", "Accept", "application/vnd.kubernetes.protobuf").Body.Bytes(), &list)
	if u.Kind != "ConfigMapList" || len(list.Items) != 3 || list.Items[1].UID != fromJSON.UID || list.ResourceVersion == "" {
		t.Errorf("list: %s %+v", u.Kind, list)
	}
	var jsonList corev1.ConfigMapList
	if err := json.Unmarshal(do(t, s, "GET", all, "").Body.Bytes(), &jsonList); err != nil || len(jsonList.Items) != 3 {
		t.Errorf("JSON list: %v %v", jsonList, err)
	}
}

func TestTablesAndMetadataOnly(t *testing.T) {
	s, reg := server(t)
	if _, err := reg.Create(t.Context(), shoalapi.ConfigMaps, configMap("a"), client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const all = "/api/v1/namespaces/ns/configmaps"
	for include, want := range map[string]string{"": "PartialObjectMetadata", "Metadata": "PartialObjectMetadata", "Object": "ConfigMap", "None": ""} {
		w := do(t, s, "GET", all+"?includeObject="+include, "", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
		var table metav1.Table
		if err := json.Unmarshal(w.Body.Bytes(), &table); err != nil {
			t.Fatal(err)
		}
		if table.Kind != "Table" || len(table.ColumnDefinitions) == 0 || len(table.Rows) != 1 || table.Rows[0].Cells[0] != "a" {
			t.Errorf("includeObject=%s: %s", include, w.Body)
		}
		var row metav1.TypeMeta
		_ = json.Unmarshal(table.Rows[0].Object.Raw, &row)
		if row.Kind != want {
			t.Errorf("includeObject=%s has a %q", include, row.Kind)
		}
	}
	if w := do(t, s, "GET", all+"?includeObject=Some", "", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io"); w.Code != http.StatusBadRequest {
		t.Errorf("unknown includeObject: %d", w.Code)
	}
	w := do(t, s, "GET", all, "", "Accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")
	var list metav1.PartialObjectMetadataList
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list.Items) != 1 || list.Kind != "PartialObjectMetadataList" {
		t.Errorf("metadata list: %s", w.Body)
	}
}

func TestWatchInProtobufIsFramed(t *testing.T) {
	c := newCluster(t)
	if _, err := c.master.client(t).Create(t.Context(), shoalapi.ConfigMaps, configMap("a"), client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequestWithContext(t.Context(), "GET", c.other.http.URL+"/api/v1/configmaps?watch=1&timeoutSeconds=1", nil)
	req.Header.Set("Accept", "application/vnd.kubernetes.protobuf;stream=watch")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var size [4]byte
	if _, err := io.ReadFull(resp.Body, size[:]); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(resp.Body, frame); err != nil {
		t.Fatal(err)
	}
	var ev metav1.WatchEvent
	if err := ev.Unmarshal(frame); err != nil {
		t.Fatal(err)
	}
	var cm corev1.ConfigMap
	if decodeProto(t, ev.Object.Raw, &cm); ev.Type != "ADDED" || cm.Name != "a" {
		t.Errorf("got %s %+v", ev.Type, cm)
	}
}

func TestLargeListsAreCompressedOnRequest(t *testing.T) {
	s, reg := server(t)
	for i := range 20 {
		cm := configMap(fmt.Sprint("cm-", i))
		cm.Data["big"] = strings.Repeat("x", 20000)
		if _, err := reg.Create(t.Context(), shoalapi.ConfigMaps, cm, client.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	w := do(t, s, "GET", "/api/v1/configmaps", "", "Accept-Encoding", "gzip")
	if w.Header().Get("Content-Encoding") != "gzip" {
		t.Fatalf("headers: %v", w.Header())
	}
	zr, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	var list corev1.ConfigMapList
	if err := json.NewDecoder(zr).Decode(&list); err != nil || len(list.Items) != 20 {
		t.Errorf("%d items, %v", len(list.Items), err)
	}
}

func TestUnknownFieldsAreWarnedAboutOrRefused(t *testing.T) {
	s, _ := server(t)
	body := func(name string) string {
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q},"dta":{}}`, name)
	}
	const path = "/api/v1/namespaces/ns/configmaps"
	if w := do(t, s, "POST", path, body("warn"), "Content-Type", "application/json"); w.Code != http.StatusCreated || !strings.Contains(w.Header().Get("Warning"), "dta") {
		t.Errorf("default: %d, Warning %q", w.Code, w.Header().Get("Warning"))
	}
	if w := do(t, s, "POST", path+"?fieldValidation=Ignore", body("ignore"), "Content-Type", "application/json"); w.Code != http.StatusCreated || w.Header().Get("Warning") != "" {
		t.Errorf("Ignore: %d, Warning %q", w.Code, w.Header().Get("Warning"))
	}
	if w := do(t, s, "POST", path+"?fieldValidation=Strict", body("strict"), "Content-Type", "application/json"); w.Code != http.StatusBadRequest {
		t.Errorf("Strict: %d %s", w.Code, w.Body)
	}
	if w := do(t, s, "POST", path+"?fieldValidation=Perhaps", body("x"), "Content-Type", "application/json"); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("Perhaps: %d %s", w.Code, w.Body)
	}
}

func TestBodiesHaveALimit(t *testing.T) {
	s, _ := server(t)
	big := `{"metadata":{"name":"a"},"data":{"k":"` + strings.Repeat("x", 3<<20) + `"}}`
	if w := do(t, s, "POST", "/api/v1/namespaces/ns/configmaps", big, "Content-Type", "application/json"); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d", w.Code)
	}
}

func TestWhoMayNotIsToldSoInTheirFormat(t *testing.T) {
	s, _ := server(t)
	for user, want := range map[string]int{"anonymous": http.StatusUnauthorized, "nobody": http.StatusForbidden} {
		w := do(t, s, "GET", "/api/v1/pods", "", "Test-User", user, "Accept", "application/vnd.kubernetes.protobuf")
		var st metav1.Status
		decodeProto(t, w.Body.Bytes(), &st)
		if w.Code != want || int(st.Code) != want || st.Status != metav1.StatusFailure {
			t.Errorf("%s: %d %+v", user, w.Code, st)
		}
	}
}

func TestAggregatedDiscoveryHasEveryKind(t *testing.T) {
	s, reg := server(t)
	found := map[string]bool{}
	for _, path := range []string{"/api", "/apis"} {
		w := do(t, s, "GET", path, "", "Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json")
		if !strings.Contains(w.Header().Get("Content-Type"), "APIGroupDiscoveryList") {
			t.Errorf("%s: Content-Type %q", path, w.Header().Get("Content-Type"))
		}
		var list apidiscoveryv2.APIGroupDiscoveryList
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
			t.Fatal(err)
		}
		for _, g := range list.Items {
			for _, v := range g.Versions {
				for _, r := range v.Resources {
					found[g.Name+"/"+v.Version+"/"+r.Resource] = true
				}
			}
		}
	}
	for _, k := range reg.Kinds().Kinds() {
		if !found[k.Group+"/"+k.Version+"/"+k.Resource] {
			t.Errorf("%s is missing", k.Resource)
		}
	}
}

func TestAPodsConversationGoesToItsNode(t *testing.T) {
	reg, _ := registrytest.New(t)
	streams := &nodeStreams{}
	s := api.New(api.Config{Registry: reg, Auth: everyone{}, Streams: streams})
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"},
		Spec:       corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "a", Image: "i"}, {Name: "b", Image: "i"}}},
	}
	if _, err := reg.Create(t.Context(), shoalapi.Pods, pod, client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const path = "/api/v1/namespaces/ns/pods/p/log"
	if w := do(t, s, "GET", path, ""); w.Code != http.StatusBadRequest {
		t.Errorf("no container named: %d", w.Code)
	}
	if w := do(t, s, "GET", path+"?container=c", ""); w.Code != http.StatusBadRequest {
		t.Errorf("no such container: %d", w.Code)
	}
	if w := do(t, s, "GET", path+"?container=b&tailLines=3", ""); w.Code != http.StatusOK || w.Body.String() != "log of p at n1: container=b&tailLines=3" {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if w := do(t, s, "POST", "/api/v1/namespaces/ns/pods/p/exec?container=b&command=ls", "", "Test-User", "nobody"); w.Code != http.StatusForbidden {
		t.Errorf("exec by nobody: %d", w.Code)
	}
}

// nodeStreams answers with what it was asked.
type nodeStreams struct{}

func (*nodeStreams) ServePod(w http.ResponseWriter, r *http.Request, node string, pod *corev1.Pod, sub string) {
	fmt.Fprintf(w, "%s of %s at %s: %s", sub, pod.Name, node, r.URL.RawQuery)
}

func TestAPanicIsOneRequestsProblem(t *testing.T) {
	reg, _ := registrytest.New(t)
	s := api.New(api.Config{Registry: reg, Auth: everyone{}, Extra: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("oh") })})
	if w := do(t, s, "GET", "/shoal/v1/x", ""); w.Code != http.StatusInternalServerError {
		t.Errorf("got %d", w.Code)
	}
	if w := do(t, s, "GET", "/readyz", ""); w.Code != http.StatusOK {
		t.Errorf("got %d", w.Code)
	}
}
