package api_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shoalapi "shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/api"
	"shoal/master/registry/registrytest"
)

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Data: map[string]string{"k": "v"}}
}

func TestAWriteAtAFollowerIsReadThereAtOnce(t *testing.T) {
	c := newCluster(t)
	h := c.other.client(t)
	for range 50 {
		cm := configMap("")
		cm.GenerateName = "a-"
		out, err := h.Create(t.Context(), shoalapi.ConfigMaps, cm, client.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		key := client.Key{Namespace: "ns", Name: out.(*corev1.ConfigMap).Name}
		// "0" is whatever the follower has: no read index hides a replica that is behind.
		if _, err := h.Get(t.Context(), shoalapi.ConfigMaps, key, client.GetOptions{ResourceVersion: "0"}); err != nil {
			t.Fatalf("read after write: %v", err)
		}
	}
}

func TestAPeerWithoutAVoteSendsAdministratorsToTheMaster(t *testing.T) {
	c := newCluster(t)
	c.other.voteless = true
	const path = "/api/v1/namespaces/ns/configmaps"
	for _, step := range []struct {
		method, user, token string
		want                int
	}{
		{http.MethodPost, "", "", http.StatusTemporaryRedirect},
		{http.MethodDelete, "", "", http.StatusTemporaryRedirect},
		{http.MethodGet, "", "", http.StatusOK},
		{http.MethodPost, "jane", "", http.StatusCreated},
		{http.MethodPost, "", "Bearer speaks-for-itself", http.StatusCreated},
	} {
		req, _ := http.NewRequestWithContext(t.Context(), step.method, c.other.http.URL+path+"?fieldManager=me",
			strings.NewReader(`{"metadata":{"generateName":"a-"}}`))
		if step.user != "" {
			req.Header.Set("Test-User", step.user)
		}
		if step.token != "" {
			req.Header.Set("Authorization", step.token)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != step.want {
			t.Errorf("%+v: %s %s", step, resp.Status, body)
		}
		if step.want != http.StatusTemporaryRedirect {
			continue
		}
		if got := resp.Header.Get("Location"); got != "https://master:6443"+path+"?fieldManager=me" {
			t.Errorf("sent to %q", got)
		}
		if !strings.Contains(string(body), "this peer has no vote") {
			t.Errorf("who does not follow reads %s", body)
		}
	}
}

func TestAForwardedWriteIsNeverForwardedAgain(t *testing.T) {
	c := newCluster(t)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, c.other.http.URL+"/api/v1/namespaces/ns/configmaps",
		strings.NewReader(`{"metadata":{"name":"a"}}`))
	req.Header.Set("X-Shoal-Forwarded", "1")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("got %s, Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
	}
	if c.log.Store().Rev() != 0 {
		t.Error("something was written")
	}
}

func TestAWriteWaitsForANewMaster(t *testing.T) {
	c := newCluster(t)
	c.setLeader("")
	done := make(chan error, 1)
	go func() {
		_, err := c.other.client(t).Create(t.Context(), shoalapi.ConfigMaps, configMap("a"), client.CreateOptions{})
		done <- err
	}()
	c.setLeader("master")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAWriteMovesOnFromAPeerThatIsNotReached(t *testing.T) {
	c := newCluster(t)
	c.master.setDown(true)
	done := make(chan error, 1)
	go func() {
		_, err := c.other.client(t).Create(t.Context(), shoalapi.ConfigMaps, configMap("a"), client.CreateOptions{})
		done <- err
	}()
	c.master.setDown(false)
	c.setLeader("master") // wakes the waiting request
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the write still waits")
	}
}

func TestAWriteThatStillDialsMovesOnToTheNextMaster(t *testing.T) {
	c := newCluster(t)
	c.setLeader("gone")
	done := make(chan error, 1)
	go func() {
		_, err := c.other.client(t).Create(t.Context(), shoalapi.ConfigMaps, configMap("a"), client.CreateOptions{})
		done <- err
	}()
	<-c.dialing
	c.setLeader("master")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAWriteIsHeldWhileTheMasterTakesUpItsRole(t *testing.T) {
	for _, at := range []string{"master", "other"} {
		t.Run(at, func(t *testing.T) {
			c := newCluster(t)
			c.log.SetMaster(false) // elected, but its log does not accept proposals yet
			p := map[string]*peer{"master": c.master, "other": c.other}[at]
			done := make(chan error, 1)
			go func() {
				_, err := p.client(t).Create(t.Context(), shoalapi.ConfigMaps, configMap("a"), client.CreateOptions{})
				done <- err
			}()
			c.log.WaitRefused(t.Context())
			c.log.SetMaster(true)
			c.master.wake() // the other peer knew the Master already, and hears nothing
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWithoutAMasterAWriteIsRefusedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, _ := registrytest.New(t)
		srv := api.New(api.Config{Registry: reg, Auth: everyone{}, Peers: &peer{c: &cluster{}, name: "other", changed: make(chan struct{})}})
		start := time.Now()
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v1/namespaces/ns/configmaps", strings.NewReader(`{"metadata":{"name":"a"}}`)))
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("refused after %v", took)
		}
	})
}

func TestWithoutQuorumReadsAreStaleAndSaySo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, l := registrytest.New(t)
		if _, err := reg.Create(t.Context(), shoalapi.ConfigMaps, configMap("a"), client.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		srv := api.New(api.Config{Registry: reg, Auth: everyone{}})
		read := func() (*httptest.ResponseRecorder, time.Duration) {
			start := time.Now()
			w := httptest.NewRecorder()
			srv.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/namespaces/ns/configmaps/a", nil))
			return w, time.Since(start)
		}
		l.SetQuorum(false)
		if w, took := read(); w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Warning"), "299 ") || took != 5*time.Second {
			t.Errorf("first read: %d, Warning %q, after %v", w.Code, w.Header().Get("Warning"), took)
		}
		if w, took := read(); w.Code != http.StatusOK || w.Header().Get("Warning") == "" || took >= time.Second {
			t.Errorf("second read: %d, Warning %q, after %v", w.Code, w.Header().Get("Warning"), took)
		}
		l.SetQuorum(true)
		if w, _ := read(); w.Code != http.StatusOK || w.Header().Get("Warning") != "" {
			t.Errorf("with quorum: %d, Warning %q", w.Code, w.Header().Get("Warning"))
		}
	})
}

func TestAWatchResumesAtAnotherPeer(t *testing.T) {
	c := newCluster(t)
	at, other := c.master.client(t), c.other.client(t)
	first, err := at.Create(t.Context(), shoalapi.ConfigMaps, configMap("a"), client.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.replica.Hold()
	w, err := other.Watch(t.Context(), shoalapi.ConfigMaps, client.ListOptions{ResourceVersion: first.(*corev1.ConfigMap).ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := at.Create(t.Context(), shoalapi.ConfigMaps, configMap("b"), client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.replica.Release()
	evs, err := w.Next(t.Context())
	if err != nil || len(evs) != 1 || evs[0].Object.GetName() != "b" {
		t.Errorf("got %v %v", evs, err)
	}
}

func TestAReadAheadOfTheFollowerWaitsForIt(t *testing.T) {
	c := newCluster(t)
	c.replica.Hold()
	out, err := c.master.client(t).Create(t.Context(), shoalapi.ConfigMaps, configMap("a"), client.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rv := out.(*corev1.ConfigMap).ResourceVersion
	key := client.Key{Namespace: "ns", Name: "a"}
	done := make(chan error, 1)
	go func() {
		_, err := c.other.client(t).Get(t.Context(), shoalapi.ConfigMaps, key, client.GetOptions{ResourceVersion: rv})
		done <- err
	}()
	c.replica.Release()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestTheMasterSeesWhoWrites(t *testing.T) {
	c := newCluster(t)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, c.other.http.URL+"/api/v1/namespaces/ns/configmaps",
		strings.NewReader(`{"metadata":{"name":"a"}}`))
	// The follower knows the client by its certificate; a client's own assertion must not reach the Master.
	req.Header.Set("X-Shoal-User", "nobody")
	req.Header.Set("Test-User", "somebody")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Errorf("got %s", resp.Status)
	}
}

func TestErrorsKeepTheirReasonOverTheHop(t *testing.T) {
	c := newCluster(t)
	h := c.other.client(t)
	key := client.Key{Namespace: "ns", Name: "none"}
	if _, err := h.Delete(t.Context(), shoalapi.ConfigMaps, key, client.DeleteOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("delete of nothing: %v", err)
	}
	if _, err := h.Create(t.Context(), shoalapi.ConfigMaps, configMap("Not A Name"), client.CreateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("bad name: %v", err)
	}
	c.log.LoseAnswers(1)
	if _, err := h.Create(t.Context(), shoalapi.ConfigMaps, configMap("a"), client.CreateOptions{}); !apierrors.IsTimeout(err) {
		t.Errorf("unknown outcome: %v", err)
	}
}
