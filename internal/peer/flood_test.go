package peer

import (
	"encoding/json"
	"net/http"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A user who writes Events about one pod as fast as it goes is told 429, wherever it asks; others are not.
func TestAFloodOfEventsIsToldSo(t *testing.T) {
	peers := startPeers(t, 2)
	w := newMatrixWorld(t, peers)
	flooder, other := w.subject("system:masters"), w.subject("a cluster-admin")
	follower := &decider{t: t, p: peers[1], http: w.clients(peers[1])}
	write := func(s *subject, ns, about string) int {
		t.Helper()
		body, err := json.Marshal(&corev1.Event{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Event"}, ObjectMeta: metav1.ObjectMeta{Namespace: ns, GenerateName: "e"},
			InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: ns, Name: about}, Reason: "R", Type: "Normal",
		})
		if err != nil {
			t.Error(err)
		}
		code, err := follower.ask(t.Context(), s, &cell{method: "POST", path: "/api/v1/namespaces/" + ns + "/events", kind: "application/json", body: string(body)})
		if err != nil {
			t.Error(err)
		}
		return code
	}
	var made, refused atomic.Int32
	var g errgroup.Group
	g.SetLimit(64)
	for range 180 {
		g.Go(func() error {
			switch code := write(flooder, inMine, "own"); code {
			case http.StatusCreated:
				made.Add(1)
			case http.StatusTooManyRequests:
				refused.Add(1)
			default:
				t.Errorf("answered with %d", code)
			}
			return nil
		})
	}
	_ = g.Wait()
	// The bucket holds a hundred, and gets one more a second.
	if made.Load() < 100 || refused.Load() < 50 {
		t.Errorf("%d are made, %d refused", made.Load(), refused.Load())
	}
	if a, b := write(flooder, inOther, "x"), write(other, inMine, "anothers"); a != http.StatusCreated || b != http.StatusCreated {
		t.Errorf("about another pod: %d, of another user: %d", a, b)
	}
}
