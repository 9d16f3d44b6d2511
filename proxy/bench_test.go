package proxy

import (
	"fmt"
	"maps"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/proxy/source/sourcetest"
)

// crowd returns services with endpoints each, spread over machines.
func crowd(services, endpoints int) *Facts {
	var objects []api.Object
	for i := range services {
		name := fmt.Sprintf("default/svc-%d", i)
		var eps []string
		for j := range endpoints {
			n := (i*endpoints + j) % 20000
			eps = append(eps, fmt.Sprintf("10.244.%d.%d@node-%d", n/250, n%250+2, n/250))
		}
		objects = append(objects, sourcetest.Service(name, fmt.Sprintf("10.43.%d.%d", i/250, i%250+2), "http:80"),
			sourcetest.Slice(name, []string{"http:8080"}, eps...))
	}
	return factsOf(nil, objects...)
}

func BenchmarkRender(b *testing.B) {
	for _, n := range [][2]int{{100, 10}, {1000, 10}, {10000, 3}, {10000, 10}} {
		f := crowd(n[0], n[1])
		b.Run(fmt.Sprintf("services=%d/endpoints=%d", n[0], n[1]), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Render(f)
			}
		})
	}
}

// cloneWith returns slices in which svc-7 has one endpoint.
func cloneWith(all map[client.Key][]*discoveryv1.EndpointSlice, endpoint string) map[client.Key][]*discoveryv1.EndpointSlice {
	out := maps.Clone(all)
	out[client.Key{Namespace: "default", Name: "svc-7"}] = []*discoveryv1.EndpointSlice{
		sourcetest.Slice("default/svc-7", []string{"http:8080"}, endpoint),
	}
	return out
}

// BenchmarkOneEndpoint is a render after one endpoint changed, and what would be sent.
func BenchmarkOneEndpoint(b *testing.B) {
	for _, n := range [][2]int{{1000, 10}, {10000, 10}} {
		f := crowd(n[0], n[1])
		before := Render(f)
		f.Slices = cloneWith(f.Slices, "10.244.9.9@node-9")
		b.Run(fmt.Sprintf("services=%d/endpoints=%d", n[0], n[1]), func(b *testing.B) {
			b.ReportAllocs()
			sent := 0
			for b.Loop() {
				after := Render(f)
				sent = 0
				for _, input := range diff(before.chains, after.chains) {
					sent += len(input)
				}
				stale(before.services, after.services)
			}
			b.ReportMetric(float64(sent), "bytes-sent")
		})
	}
}
