package dns

import (
	"errors"
	"net/netip"

	"github.com/miekg/dns"
)

var (
	errBusy       = errors.New("too many questions under way")
	errNoUpstream = errors.New("no server to ask")
)

// rcodeError is a server's refusal.
type rcodeError struct {
	server netip.AddrPort
	rcode  int
}

func (e *rcodeError) Error() string { return e.server.String() + " says " + dns.RcodeToString[e.rcode] }
