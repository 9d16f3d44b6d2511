package config

import (
	"net/url"
	"strings"
)

// OIDC is the issuer of tokens that users bring with them. It must be the same on every peer.
type OIDC struct {
	Issuer         string `toml:"issuer"` // empty: there is none
	ClientID       string `toml:"client_id"`
	UsernameClaim  string `toml:"username_claim"`
	UsernamePrefix string `toml:"username_prefix"` // empty: the issuer and #, or nothing for addresses; "-": nothing
	GroupsClaim    string `toml:"groups_claim"`
	GroupsPrefix   string `toml:"groups_prefix"`
	CAFile         string `toml:"ca_file"` // empty: the machine's CAs
}

// Prefix is what stands before users' names, as Kubernetes has it.
func (o *OIDC) Prefix() string {
	switch {
	case o.UsernamePrefix == "-", o.UsernamePrefix == "" && o.UsernameClaim == "email":
		return ""
	case o.UsernamePrefix == "":
		return o.Issuer + "#"
	}
	return o.UsernamePrefix
}

func (k *checker) oidc(o *OIDC) {
	if o.Issuer == "" {
		if o.ClientID != "" {
			k.fail("api.oidc.client_id", "is of no use without api.oidc.issuer")
		}
		return
	}
	if u, err := url.Parse(o.Issuer); err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		k.fail("api.oidc.issuer", "is %q; write its URL, which begins with https://", o.Issuer)
	}
	if o.ClientID == "" {
		k.fail("api.oidc.client_id", "is empty; write the name that the issuer knows this cluster by")
	}
	if o.UsernameClaim == "" {
		k.fail("api.oidc.username_claim", "is empty; write sub, email or another claim")
	}
	if strings.HasPrefix(o.GroupsPrefix, "system:") || strings.HasPrefix(o.UsernamePrefix, "system:") {
		k.fail("api.oidc.username_prefix", "names that begin with system: are the cluster's own")
	}
	if o.CAFile != "" {
		k.absolute("api.oidc.ca_file", o.CAFile)
	}
}
