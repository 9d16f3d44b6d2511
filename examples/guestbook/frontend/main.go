// Command frontend is the guestbook's web tier: it stores messages in the Redis leader and lists them from a replica.
package main

import (
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"os"
	"strings"
	"time"
)

const key = "guestbook"

type guestbook struct {
	leader, replica string // host:port
	host            string
}

func main() {
	g := guestbook{leader: address("REDIS_LEADER", "redis-leader"), replica: address("REDIS_REPLICA", "redis-replica")}
	g.host, _ = os.Hostname()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", g.page)
	mux.HandleFunc("GET /messages", g.list)
	mux.HandleFunc("POST /messages", g.add)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	srv := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	fmt.Println("listening on", srv.Addr)
	if err := srv.ListenAndServe(); err != nil {
		fmt.Fprintln(os.Stderr, "frontend:", err)
		os.Exit(1)
	}
}

// address finds a tier by DNS name, or by the environment variables that every pod gets when GET_HOSTS_FROM is env.
func address(service, name string) string {
	if os.Getenv("GET_HOSTS_FROM") == "env" {
		return os.Getenv(service+"_SERVICE_HOST") + ":" + os.Getenv(service+"_SERVICE_PORT")
	}
	return name + ":6379"
}

func (g guestbook) add(w http.ResponseWriter, r *http.Request) {
	text := strings.TrimSpace(r.FormValue("message"))
	if text == "" || len(text) > 1000 {
		http.Error(w, "message must have 1 to 1000 characters", http.StatusBadRequest)
		return
	}
	if _, err := redis(r.Context(), g.leader, "RPUSH", key, text); err != nil {
		http.Error(w, "redis-leader: "+err.Error(), http.StatusBadGateway)
		return
	}
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintln(w, "stored")
}

func (g guestbook) list(w http.ResponseWriter, r *http.Request) {
	msgs, err := redis(r.Context(), g.replica, "LRANGE", key, "0", "-1")
	if err != nil {
		http.Error(w, "redis-replica: "+err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"servedBy": g.host, "messages": append([]string{}, msgs...)})
}

var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Guestbook</title>
<style>body{font:16px/1.5 sans-serif;max-width:40rem;margin:3rem auto}li{border-bottom:1px solid #ddd}small{color:#777}</style>
<h1>Guestbook</h1>
<form method="post" action="/messages"><input name="message" size="40" autofocus> <button>Sign</button></form>
{{if .Err}}<p><b>{{.Err}}</b></p>{{end}}<ul>{{range .Messages}}<li>{{.}}</li>{{end}}</ul>
<small>served by {{.Host}}</small></html>
`))

func (g guestbook) page(w http.ResponseWriter, r *http.Request) {
	msgs, err := redis(r.Context(), g.replica, "LRANGE", key, "0", "-1")
	data := struct {
		Messages []string
		Host     string
		Err      error
	}{msgs, g.host, err}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = page.Execute(w, data)
}
