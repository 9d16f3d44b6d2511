package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/node/server"
)

// summaryMax bounds the answer of a peer: some thousand containers.
const summaryMax = 8 << 20

// usage asks a peer, which may be this one, what its machine and pods use.
func (p *Peer) usage(ctx context.Context, node string) (*api.Usage, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+node+"/peer/pods/stats/summary", nil)
	if err != nil {
		return nil, err
	}
	resp, err := p.transport.RoundTripTo(node, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, summaryMax))
	if err != nil {
		return nil, fmt.Errorf("figures of %s: %w", node, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("figures of %s: %s: %s", node, resp.Status, body)
	}
	var s server.Summary
	if err := json.Unmarshal(body, &s); err != nil {
		return nil, fmt.Errorf("figures of %s: %w", node, err)
	}
	return usageOf(&s), nil
}

func usageOf(s *server.Summary) *api.Usage {
	u := &api.Usage{Window: server.Apart, Machine: resourcesOf(s.Node.CPU, s.Node.Memory), Pods: map[types.UID]map[string]api.Used{}}
	if s.Node.CPU != nil {
		u.At = s.Node.CPU.Time.Time
	}
	for i := range s.Pods {
		pod := map[string]api.Used{}
		for _, c := range s.Pods[i].Containers {
			pod[c.Name] = resourcesOf(c.CPU, c.Memory)
		}
		u.Pods[types.UID(s.Pods[i].PodRef.UID)] = pod
	}
	return u
}

func resourcesOf(c *server.CPUStats, m *server.MemoryStats) (r api.Used) {
	if c != nil && c.UsageNanoCores != nil {
		r.NanoCores = *c.UsageNanoCores
	}
	if m != nil && m.WorkingSetBytes != nil {
		r.WorkingSet = *m.WorkingSetBytes
	}
	return r
}
