package keeper

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// The protocol: one request a connection, each message a length and JSON. After the answer to "follow" the connection
// carries frames of output instead, until either side closes it.

type request struct {
	Op    string `json:"op"`
	Drain *drain `json:"drain,omitempty"`
	ID    string `json:"id,omitempty"`
	Keep  bool   `json:"keep,omitempty"` // shutdown: leave containerd running
}

const (
	opStatus     = "status"
	opDrain      = "drain"
	opUndrain    = "undrain"
	opCloseStdin = "close-stdin"
	opFollow     = "follow"
	opShutdown   = "shutdown"
)

type response struct {
	Error  string  `json:"error,omitempty"`
	Status *Status `json:"status,omitempty"`
}

// Status is how a keeper is.
type Status struct {
	Version    int    `json:"version"`
	Pid        int    `json:"pid"`
	Socket     string `json:"socket"`            // containerd's
	Containerd int    `json:"containerd"`        // its pid; 0 when it does not run or is someone else's
	Failure    string `json:"failure,omitempty"` // why containerd does not run
	Restarts   int    `json:"restarts"`          // of containerd
	Drains     int    `json:"drains"`
	Dropped    uint64 `json:"dropped"` // bytes of output that could not be written
}

// drain is one container's output. It is also the file that lets the next keeper go on.
type drain struct {
	ID     string `json:"id"`
	Stdin  string `json:"stdin,omitempty"` // FIFO held open, so that the container's input does not end with a client
	Stdout string `json:"stdout,omitempty"`
	Stderr string `json:"stderr,omitempty"`
	Log    string `json:"log,omitempty"`
}

// maxMessage bounds what a peer or a keeper accepts from the other.
const maxMessage = 1 << 20

func send(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

func receive(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxMessage {
		return fmt.Errorf("message of %d bytes", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// frame returns output of one stream as it is sent to a follower.
func frame(s stream, data []byte) []byte {
	b := make([]byte, 0, len(data)+5)
	b = append(b, byte(s))
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// readFrames copies a follower's frames until the connection ends.
func readFrames(r io.Reader, stdout, stderr io.Writer) error {
	var head [5]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		n := binary.BigEndian.Uint32(head[1:])
		if n > maxMessage {
			return fmt.Errorf("frame of %d bytes", n)
		}
		w := stdout
		if stream(head[0]) == streamErr {
			w = stderr
		}
		if w == nil {
			w = io.Discard
		}
		if _, err := io.CopyN(w, r, int64(n)); err != nil {
			return err
		}
	}
}
