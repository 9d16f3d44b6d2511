package oracle

import "testing"

// TestEventsOfTheRootCertificate: a controller may write it before a watch begins or after, so no recorded answer has it, in
// no form.
func TestEventsOfTheRootCertificate(t *testing.T) {
	said := `{"type":"ADDED","object":{"kind":"ConfigMap","metadata":{"name":"kube-root-ca.crt"}}}
{"type":"ADDED","object":{"kind":"Table","rows":[{"cells":["kube-root-ca.crt",1,"0s"]}]}}
{"type":"ADDED","object":{"kind":"Table","rows":[{"cells":["other",1,"0s"]}]}}
`
	if got := events(newNormal("ns", "", false), []byte(said)); len(got) != 1 {
		t.Errorf("got %d events, want the one about the other: %v", len(got), got)
	}
}
