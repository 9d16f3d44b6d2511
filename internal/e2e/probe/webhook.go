package main

import (
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"time"
)

// review is what of an AdmissionReview is used here.
type review struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Request    *struct {
		UID    string `json:"uid"`
		Object struct {
			Metadata struct {
				Labels, Annotations map[string]string
			} `json:"metadata"`
		} `json:"object"`
		UserInfo struct {
			Username string `json:"username"`
		} `json:"userInfo"`
	} `json:"request,omitempty"`
	Response map[string]any `json:"response,omitempty"`
}

// webhook refuses what has a label deny; at /mutate it notes in an annotation who asked.
func webhook(ctx context.Context, dir string) error {
	srv := &http.Server{Addr: ":8443", ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q review
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q.Request == nil {
			http.Error(w, "no AdmissionReview", http.StatusBadRequest)
			return
		}
		meta := q.Request.Object.Metadata
		_, deny := meta.Labels["deny"]
		q.Response = map[string]any{"uid": q.Request.UID, "allowed": !deny || r.URL.Path == "/mutate"}
		if r.URL.Path == "/mutate" {
			patch := []map[string]any{{"op": "add", "path": "/metadata/annotations/hooked", "value": q.Request.UserInfo.Username}}
			if meta.Annotations == nil {
				patch = append([]map[string]any{{"op": "add", "path": "/metadata/annotations", "value": map[string]string{}}}, patch...)
			}
			text, _ := json.Marshal(patch)
			q.Response["patch"], q.Response["patchType"] = text, "JSONPatch"
		} else if deny {
			q.Response["status"] = map[string]any{"message": "labelled deny", "code": http.StatusForbidden}
		}
		q.Request = nil
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(q)
	})}
	go func() {
		<-ctx.Done()
		_ = srv.Close()
	}()
	if err := srv.ListenAndServeTLS(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")); err != http.ErrServerClosed {
		return err
	}
	return nil
}
