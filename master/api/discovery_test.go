package api_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/master/api"
	"shoal/master/registry/registrytest"
)

// notServed are the resources of a real server's lists that this one does not have.
func notServed() []string {
	return []string{
		"componentstatuses", "serviceaccounts/token",
	}
}

// A resource is described as a real server describes it, so that clients find it by all its names and know its verbs.
func TestRecordedDiscovery(t *testing.T) {
	reg, _ := registrytest.New(t)
	s := api.New(api.Config{Registry: reg, Auth: everyone{}})
	f, err := os.Open("testdata/discovery.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var recorded metav1.APIResourceList
		if err := json.Unmarshal(lines.Bytes(), &recorded); err != nil {
			t.Fatal(err)
		}
		t.Run(recorded.GroupVersion, func(t *testing.T) { compareResources(t, s, &recorded) })
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

func compareResources(t *testing.T, s http.Handler, recorded *metav1.APIResourceList) {
	path := "/apis/" + recorded.GroupVersion
	if recorded.GroupVersion == "v1" {
		path = "/api/v1"
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	var served metav1.APIResourceList
	if err := json.Unmarshal(w.Body.Bytes(), &served); err != nil {
		t.Fatalf("%v in %.200s", err, w.Body)
	}
	for _, want := range recorded.APIResources {
		i := slices.IndexFunc(served.APIResources, func(r metav1.APIResource) bool { return r.Name == want.Name })
		if i < 0 {
			if !slices.Contains(notServed(), want.Name) {
				t.Errorf("%s is not served", want.Name)
			}
			continue
		}
		got := served.APIResources[i]
		if got.Kind != want.Kind || got.Namespaced != want.Namespaced || got.Group != want.Group {
			t.Errorf("%s is described as %+v, recorded %+v", want.Name, got, want)
		}
		for _, list := range [][2][]string{{got.ShortNames, want.ShortNames}, {got.Categories, want.Categories}, {got.Verbs, want.Verbs}} {
			for _, word := range list[1] {
				if !slices.Contains(list[0], word) {
					t.Errorf("%s lacks %s: %v", want.Name, word, list[0])
				}
			}
		}
		for _, verb := range got.Verbs {
			if !slices.Contains(want.Verbs, verb) && want.Name+" "+verb != "services deletecollection" { // newer than the record
				t.Errorf("%s has a verb that Kubernetes has not: %s", want.Name, verb)
			}
		}
		if len(got.ShortNames) != len(want.ShortNames) || len(got.Categories) != len(want.Categories) {
			t.Errorf("%s has other names: %v %v", want.Name, got.ShortNames, got.Categories)
		}
	}
}

func TestNamespacesAreNotDeletedAllAtOnce(t *testing.T) {
	s, _ := server(t)
	if w := do(t, s, "DELETE", "/api/v1/namespaces", ""); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestUnknownGroupsAreNoPages(t *testing.T) {
	t.Parallel()
	reg, _ := registrytest.New(t)
	srv := httptest.NewServer(api.New(api.Config{Registry: reg, Auth: everyone{}}))
	t.Cleanup(srv.Close)
	for path, want := range map[string]string{
		"/apis/nope.example.com":                      "404 page not found\n",
		"/apis/nope.example.com/v1":                   "404 page not found\n",
		"/apis/nope.example.com/v1/foos":              "404 page not found\n",
		"/apis/apps/v9/namespaces/x/deployments/name": "the server could not find the requested resource",
		"/apis/apps/v1/foos":                          "the server could not find the requested resource",
	} {
		if code, body := fetch(t, srv.URL+path, "application/json"); code != http.StatusNotFound || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

// The hashes are what any Kubernetes says of these kinds.
func TestStorageVersionHashes(t *testing.T) {
	t.Parallel()
	reg, _ := registrytest.New(t)
	srv := httptest.NewServer(api.New(api.Config{Registry: reg, Auth: everyone{}}))
	t.Cleanup(srv.Close)
	_, body := fetch(t, srv.URL+"/api/v1", "application/json")
	var list metav1.APIResourceList
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, r := range list.APIResources {
		got[r.Name] = r.StorageVersionHash
	}
	if got["pods"] != "xPOwRZ+Yhw8=" || got["configmaps"] != "qFsyl6wFWjQ=" || got["pods/status"] != "" {
		t.Errorf("got %v", got)
	}
}
