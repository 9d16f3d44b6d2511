// Package source holds what a machine knows of Services: the one copy of Services and EndpointSlices that packet rules
// and DNS answers are both made from, and the one choice of which endpoints get traffic. It decides nothing else and
// writes nothing. Its invariant: a choice is never empty while there is an endpoint that could be chosen.
package source

import (
	"context"
	"log/slog"
	"net/netip"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// Liveness is what gossip believes of machines. Safe for concurrent use; neither method blocks.
type Liveness interface {
	Liveness(node string) api.Liveness
	// Changed returns a channel that is closed at the next change of any machine. Get it before reading.
	Changed() <-chan struct{}
}

// Config is what New needs.
type Config struct {
	Client client.Interface
	Log    *slog.Logger
	// Detector is for tests: see client.CacheConfig.
	Detector *client.MutationDetector
}

// Source is this machine's copy of the Services and their endpoints. Objects it hands out are read-only. Safe for
// concurrent use.
type Source struct {
	services *client.Cache[*corev1.Service]
	slices   *client.Cache[*discoveryv1.EndpointSlice]
}

const (
	byService = "service" // ns/name of the Service a slice belongs to
	byAddress = "address"
)

// New returns a Source that is empty until Run.
func New(c Config) *Source {
	return &Source{
		services: client.NewCache[*corev1.Service](client.CacheConfig{
			Client: c.Client, Kind: api.Services, Log: c.Log, Detector: c.Detector,
			Indexes: map[string]func(api.Object) []string{byAddress: serviceAddresses},
		}),
		slices: client.NewCache[*discoveryv1.EndpointSlice](client.CacheConfig{
			Client: c.Client, Kind: api.EndpointSlices, Log: c.Log, Detector: c.Detector,
			Indexes: map[string]func(api.Object) []string{
				byService: func(o api.Object) []string {
					key, ok := ServiceOf(o)
					if !ok {
						return nil
					}
					return []string{key.String()}
				},
				byAddress: sliceAddresses,
			},
		}),
	}
}

// Run keeps the copy up to date until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.services.Run(ctx) })
	g.Go(func() error { return s.slices.Run(ctx) })
	return g.Wait()
}

// OnChange calls f after every change. f must not block. Must be called before Run.
func (s *Source) OnChange(f func()) {
	s.services.OnChange(func(_, _ *corev1.Service) { f() })
	s.slices.OnChange(func(_, _ *discoveryv1.EndpointSlice) { f() })
}

// WaitSynced blocks until the copy is complete for the first time.
func (s *Source) WaitSynced(ctx context.Context) error {
	return client.WaitSynced(ctx, s.services, s.slices)
}

// Services returns every Service, in no particular order.
func (s *Source) Services() []*corev1.Service { return s.services.List("", nil) }

// Service returns one Service.
func (s *Source) Service(key client.Key) (*corev1.Service, bool) { return s.services.Get(key) }

// ServicesAt returns the Services that have addr as a cluster IP.
func (s *Source) ServicesAt(addr netip.Addr) []*corev1.Service {
	return s.services.ByIndex(byAddress, addr.String())
}

// HasService reports whether there is any Service in a namespace.
func (s *Source) HasService(namespace string) bool { return len(s.services.List(namespace, nil)) > 0 }

// Slices returns the EndpointSlices of one Service, in no particular order.
func (s *Source) Slices(key client.Key) []*discoveryv1.EndpointSlice {
	return s.slices.ByIndex(byService, key.String())
}

// SlicesAt returns the EndpointSlices that hold addr.
func (s *Source) SlicesAt(addr netip.Addr) []*discoveryv1.EndpointSlice {
	return s.slices.ByIndex(byAddress, addr.String())
}

// AllSlices returns every EndpointSlice of IPv4 addresses by its Service.
func (s *Source) AllSlices() map[client.Key][]*discoveryv1.EndpointSlice {
	all := s.slices.List("", nil)
	by := make(map[client.Key][]*discoveryv1.EndpointSlice, len(all))
	for _, sl := range all {
		if key, ok := ServiceOf(sl); ok && sl.AddressType == discoveryv1.AddressTypeIPv4 {
			by[key] = append(by[key], sl)
		}
	}
	return by
}

// ServiceOf returns the Service that an EndpointSlice belongs to, and false when it belongs to none.
func ServiceOf(o api.Object) (client.Key, bool) {
	name := o.GetLabels()[discoveryv1.LabelServiceName]
	return client.Key{Namespace: o.GetNamespace(), Name: name}, name != ""
}

func serviceAddresses(o api.Object) []string {
	svc := o.(*corev1.Service)
	if !HasVIP(svc) {
		return nil
	}
	if len(svc.Spec.ClusterIPs) > 0 {
		return svc.Spec.ClusterIPs
	}
	return []string{svc.Spec.ClusterIP}
}

func sliceAddresses(o api.Object) []string {
	var out []string
	for i := range o.(*discoveryv1.EndpointSlice).Endpoints {
		out = append(out, o.(*discoveryv1.EndpointSlice).Endpoints[i].Addresses...)
	}
	return out
}

// HasVIP reports whether svc has a cluster IP: it is neither headless nor an external name, and has been given one.
func HasVIP(svc *corev1.Service) bool {
	return svc.Spec.Type != corev1.ServiceTypeExternalName &&
		svc.Spec.ClusterIP != "" && svc.Spec.ClusterIP != corev1.ClusterIPNone
}
