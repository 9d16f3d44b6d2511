package api_test

import (
	"context"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"shoal/master/api"
	"shoal/master/registry/registrytest"
)

// judge notes what it is asked about.
type judge struct {
	everyone
	mu    sync.Mutex
	asked []string
}

func (j *judge) Authorize(_ context.Context, _ *api.User, a *api.Attributes) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.asked = append(j.asked, a.Verb+" "+a.Name)
	return nil
}

// TestOneObjectByFieldSelector: a list or watch of one name needs the right to that name only. Nodes, which may read only what their
// pods refer to, follow ConfigMaps and Secrets so.
func TestOneObjectByFieldSelector(t *testing.T) {
	reg, _ := registrytest.New(t)
	j := &judge{}
	srv := httptest.NewServer(api.New(api.Config{Registry: reg, Auth: j}))
	t.Cleanup(srv.Close)
	for query, want := range map[string]string{
		"":                                  "list ",
		"?fieldSelector=metadata.name%3Da":  "list a",
		"?fieldSelector=metadata.name=a,x=": "list a",
		"?fieldSelector=metadata.name!%3Da": "list ",
		"?watch=1&timeoutSeconds=-1&fieldSelector=metadata.name%3Da": "watch a",
	} {
		j.asked = nil
		fetch(t, srv.URL+"/api/v1/namespaces/default/configmaps"+query, "application/json")
		if !slices.Equal(j.asked, []string{want}) {
			t.Errorf("%s is judged as %q, want %q", query, j.asked, want)
		}
	}
}
