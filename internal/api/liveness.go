package api

// Liveness is what gossip believes of a machine. Decisions about it are made by those who ask, never by gossip.
type Liveness string

const (
	// Unknown: never seen since this peer started. Treated as alive by the data plane.
	Unknown Liveness = "Unknown"
	// Alive: answers gossip.
	Alive Liveness = "Alive"
	// Suspect: did not answer; the machine is being tried.
	Suspect Liveness = "Suspect"
	// Silent: the peer does not answer but its machine does. Its pods are presumed to run.
	Silent Liveness = "Silent"
	// Gone: the machine does not answer anyone who tried.
	Gone Liveness = "Gone"
	// Left: said goodbye (a planned stop). Its pods are presumed to run.
	Left Liveness = "Left"
)
