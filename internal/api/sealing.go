package api

// Sealing says how the cluster keeps Secrets.
type Sealing struct {
	Key     string   `json:"key"`            // names the key that seals; empty: they are in clear
	Holders []string `json:"holders"`        // the peers that have it
	Secrets int      `json:"secrets"`        // how many there are
	Others  int      `json:"others"`         // of those, the ones in clear or sealed with an earlier key
	Anew    int      `json:"anew,omitempty"` // sealed anew by the rotation that this answers
}
