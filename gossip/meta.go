package gossip

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/hashicorp/memberlist"
)

// UpdateMeta replaces what this peer says of itself. It fails, changing nothing, if that is over 512 bytes.
func (g *Gossip) UpdateMeta(meta map[string]string) error {
	data, err := encodeMeta(meta)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if string(data) == string(g.meta) {
		return nil
	}
	g.meta = data
	if self := g.members[g.cfg.Name]; self != nil {
		self.Meta = maps.Clone(meta)
		g.notifyLocked()
	}
	signal(g.announce)
	return nil
}

func encodeMeta(meta map[string]string) ([]byte, error) {
	if len(meta) == 0 {
		return nil, nil
	}
	data, err := json.Marshal(meta)
	if err != nil {
		return nil, fmt.Errorf("encode gossip metadata: %w", err)
	}
	if len(data) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("gossip metadata is %d bytes, more than the %d that fit: %q", len(data), memberlist.MetaMaxSize, data)
	}
	return data, nil
}

// decodeMeta reads another peer's metadata; what cannot be read is none.
func decodeMeta(data []byte) map[string]string {
	var meta map[string]string
	if len(data) == 0 || json.Unmarshal(data, &meta) != nil {
		return nil
	}
	return meta
}
