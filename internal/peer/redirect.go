package peer

import (
	"net/http"

	masterapi "shoal/master/api"
	"shoal/master/auth"
)

// Redirect implements the API's Peers.
func (s peers) Redirect(u *masterapi.User, master string) (string, bool) {
	user := auth.User(*u)
	if !auth.OnlyForVoters(s.p.cfg.Name, &user) || s.p.isVoter(s.p.cfg.Name) {
		return "", false
	}
	return s.p.addressOf(master)
}

// redirected sends an administrator to the Master where this peer would have to ask another one for them and has no vote.
func (p *Peer) redirected(w http.ResponseWriter, r *http.Request) bool {
	u := masterapi.UserFrom(r.Context())
	master, known := p.raft.Leader()
	if u == nil || !known || r.Header.Get("Authorization") != "" {
		return false
	}
	address, ok := peers{p}.Redirect(u, string(master))
	if ok {
		fail(w, failf(http.StatusTemporaryRedirect, "%v", masterapi.Redirect(w, r, u, address)))
	}
	return ok
}
