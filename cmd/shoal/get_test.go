package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
)

func TestGetSeveralByName(t *testing.T) {
	at := server(t, func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(r.URL.Path, "/")
		name := parts[len(parts)-1]
		if name == "gone" {
			refuse(w, 404, `pods "gone" not found`)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(metav1.Table{
			TypeMeta:          metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "Table"},
			ColumnDefinitions: []metav1.TableColumnDefinition{{Name: "Name"}, {Name: "Age"}},
			Rows:              []metav1.TableRow{{Cells: []any{name, "5s"}}},
		})
	})
	for args, want := range map[string]string{
		"get pods a longer-name":          "NAME          AGE\na             5s\nlonger-name   5s\n",
		"get pods a gone b":               "NAME   AGE\na      5s\nb      5s\n",
		"get pods gone a":                 "NAME   AGE\na      5s\n",
		"get pod/a svc/longer-name pod/b": "NAME    AGE\npod/a   5s\n\nNAME                  AGE\nservice/longer-name   5s\n\nNAME    AGE\npod/b   5s\n",
	} {
		out, stderr, code := cli(t, "", append(at, strings.Fields(args)...)...)
		if failed := strings.Contains(args, "gone"); out != want || (code != 0) != failed || failed && !strings.Contains(stderr, "gone") {
			t.Errorf("shoal %s: code %d\n%s%s", args, code, out, stderr)
		}
	}
}

// A deletion that takes its time says what it waits for, and goes on waiting.
func TestDeleteSaysWhatItWaitsFor(t *testing.T) {
	defer func(d time.Duration) { deletionPatience = d }(deletionPatience)
	deletionPatience = time.Millisecond
	claim := corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data", UID: "u", ResourceVersion: "7", Finalizers: []string{api.FinalizerClaim}}}
	var reads atomic.Int32 // since the deletion
	told := make(chan struct{})
	at := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Query().Get("watch") != "":
			<-told
			_ = json.NewEncoder(w).Encode(map[string]any{"type": "DELETED", "object": claim})
			return
		case r.Method == http.MethodDelete:
			reads.Store(0)
		case r.Method == http.MethodGet && reads.Add(1) == 2: // by who waits, and by who says why
			close(told)
		}
		_ = json.NewEncoder(w).Encode(claim)
	})
	out, stderr, code := cli(t, "", append(at, "delete", "pvc", "data")...)
	if code != 0 || !strings.Contains(out, `"data" deleted`) || !strings.Contains(stderr, "its finalizers are kubernetes.io/pvc-protection, which means that a pod uses it") {
		t.Errorf("code %d\n%s%s", code, out, stderr)
	}
}

// The second of two pods has been replaced by the time that the first one is gone: it is not the new one that is waited for.
func TestDeleteWaitsForWhatItDeleted(t *testing.T) {
	for what, answer := range map[string]string{"the object": `{"metadata":{"name":"a","uid":"old"}}`, "a status": `{"kind":"Status","status":"Success","details":{"name":"a","uid":"old"}}`} {
		at := server(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			switch {
			case r.URL.Query().Get("watch") != "":
				t.Errorf("%s: somebody waits for another pod's end", what)
			case r.Method == http.MethodDelete:
				_, _ = io.WriteString(w, answer)
			default:
				_, _ = io.WriteString(w, `{"metadata":{"name":"a","uid":"new","resourceVersion":"7","finalizers":["x/y"]}}`)
			}
		})
		if out, stderr, code := cli(t, "", append(at, "delete", "pod", "a")...); code != 0 || !strings.Contains(out, `"a" deleted`) {
			t.Errorf("%s: code %d\n%s%s", what, code, out, stderr)
		}
	}
}
