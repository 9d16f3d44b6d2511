package peer

import (
	"path/filepath"

	"shoal/internal/audit"
	masterapi "shoal/master/api"
)

// openAudit goes on with this peer's audit log.
func (p *Peer) openAudit() (err error) {
	c := &p.cfg.Log.Audit
	if !c.Enabled {
		return nil
	}
	p.audit, err = audit.Open(audit.Config{Dir: filepath.Join(p.dir.path, "audit"), MaxBytes: c.Bytes(), Keep: c.Keep, Now: p.now, Log: p.log})
	return err
}

func (p *Peer) closeAudit() {
	if p.audit != nil {
		p.audit.Close()
	}
}

// auditor is the log for the API's server, nil when there is none.
func (p *Peer) auditor() masterapi.Auditor {
	if p.audit == nil {
		return nil
	}
	return p.audit
}
