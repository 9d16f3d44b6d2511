package peer

import (
	"errors"
	"fmt"
	"io"

	"shoal/internal/api"
	masterapi "shoal/master/api"
)

// checks are what must be right for this peer to serve.
func (p *Peer) checks() []masterapi.Check {
	return []masterapi.Check{
		{Name: "log", Err: func() error {
			select {
			case <-p.raft.Ready():
				return nil
			default:
				return errors.New("the log is being loaded")
			}
		}},
		{Name: "master", Err: func() error {
			if _, ok := p.raft.Leader(); !ok {
				return errors.New("no Master is known: too few of the voting machines can reach one another")
			}
			return nil
		}},
	}
}

// writeMetrics writes figures of what is below the API.
func (p *Peer) writeMetrics(w io.Writer) {
	st := p.raft.Status()
	leads := 0.0
	if string(st.Leader) == p.cfg.Name {
		leads = 1
	}
	for _, m := range []struct {
		name  string
		value float64
	}{
		{"shoal_raft_is_leader", leads},
		{"shoal_raft_term", float64(st.Term)},
		{"shoal_raft_last_index", float64(st.Last)},
		{"shoal_raft_commit_index", float64(st.Commit)},
		{"shoal_raft_applied_index", float64(st.Applied)},
		{"shoal_raft_log_entries", float64(st.LogLen)},
		{"shoal_store_revision", float64(st.Rev)},
	} {
		masterapi.WriteGauge(w, m.name, map[string]float64{"": m.value})
	}
	if p.audit != nil {
		masterapi.WriteGauge(w, "shoal_audit_records", map[string]float64{"": float64(p.audit.Seq())})
	}
	count := map[api.Liveness]int{}
	for _, m := range p.members() {
		count[m.State]++
	}
	peers := map[string]float64{}
	for _, state := range []api.Liveness{api.Alive, api.Suspect, api.Silent, api.Gone, api.Left, api.Unknown} {
		peers[fmt.Sprintf("state=%q", state)] = float64(count[state])
	}
	masterapi.WriteGauge(w, "shoal_peers", peers)
	p.loops.WritePrometheus(w)
}
