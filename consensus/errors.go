package consensus

import "errors"

var (
	// ErrNotMaster means that this peer is not the Master, or no longer: nothing was done. Ask the Master.
	ErrNotMaster = errors.New("this peer is not the master")
	// ErrNoMaster means that no Master could be reached in time.
	ErrNoMaster = errors.New("no master can be reached")
	// ErrUnknownOutcome means that a proposal was sent but nobody knows whether it was or will be committed: read again.
	ErrUnknownOutcome = errors.New("outcome unknown")
	// ErrVersion means that the log holds a command that this program does not understand. The peer stops.
	ErrVersion = errors.New("unknown command version")
	// ErrCommand means that a command is damaged. The peer stops.
	ErrCommand = errors.New("malformed command")
)
