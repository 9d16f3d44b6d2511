package api

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Check is one thing that must be right with this peer.
type Check struct {
	Name string
	// Live means that a peer with which it is wrong is not even alive: it should be started again. Else it is not ready, for now.
	Live bool
	// Err returns what is wrong, nil when nothing is. It must not block.
	Err func() error
}

// serveHealth answers /healthz and /livez, which ask whether this peer lives, and /readyz; each also with one check's name behind it. The
// answers read as Kubernetes', but say what is wrong.
func (s *Server) serveHealth(w http.ResponseWriter, r *request, parts []string) {
	checks := []Check{{Name: "ping", Live: true, Err: func() error { return nil }}}
	for _, c := range s.cfg.Checks {
		if c.Live || parts[0] == "readyz" {
			checks = append(checks, c)
		}
	}
	w.Header().Set("Cache-Control", "no-cache, private")
	if len(parts) > 1 {
		name := strings.Join(parts[1:], "/")
		i := slices.IndexFunc(checks, func(c Check) bool { return c.Name == name })
		if i < 0 {
			s.servePaths(w, r, http.StatusNotFound)
			return
		}
		if err := checks[i].Err(); err != nil {
			http.Error(w, fmt.Sprintf("internal server error: %v", err), http.StatusInternalServerError)
			return
		}
		writeText(w, "ok")
		return
	}
	text, well := report(parts[0], checks, r.query()["exclude"])
	switch _, verbose := r.query()["verbose"]; {
	case !well:
		http.Error(w, text, http.StatusInternalServerError)
	case verbose:
		writeText(w, text)
	default:
		writeText(w, "ok")
	}
}

// report says how each check is, and whether all but the excluded ones are well.
func report(path string, checks []Check, excluded []string) (text string, well bool) {
	var out strings.Builder
	var unknown []string
	for _, name := range excluded {
		if !slices.ContainsFunc(checks, func(c Check) bool { return c.Name == name }) {
			unknown = append(unknown, fmt.Sprintf("%q", name))
		}
	}
	well = true
	for _, c := range checks {
		if slices.Contains(excluded, c.Name) {
			fmt.Fprintf(&out, "[+]%s excluded: ok\n", c.Name)
		} else if err := c.Err(); err != nil {
			well = false
			fmt.Fprintf(&out, "[-]%s failed: %v\n", c.Name, err)
		} else {
			fmt.Fprintf(&out, "[+]%s ok\n", c.Name)
		}
	}
	if len(unknown) > 0 {
		fmt.Fprintf(&out, "warn: some health checks cannot be excluded: no matches for %s\n", strings.Join(unknown, ","))
	}
	verdict := "passed"
	if !well {
		verdict = "failed"
	}
	fmt.Fprintf(&out, "%s check %s\n", path, verdict)
	return out.String(), well
}

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write([]byte(text))
}
