package node

import (
	"bytes"
	"sync"
)

// head keeps the beginning of what is written to it and drops the rest. Safe for concurrent use.
type head struct {
	most int

	mu sync.Mutex
	b  bytes.Buffer
}

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.b.Write(p[:min(len(p), max(0, h.most-h.b.Len()))])
	return len(p), nil
}
