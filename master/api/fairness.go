package api

import (
	"cmp"
	"errors"
	"net/http"
	"runtime"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"shoal/internal/fair"
	"shoal/master/auth"
)

// Limits are how much of what is scarce there is, and how much of it one user or namespace may have at once (Each). Zero means the default, which grows
// with the machine; then who is alone may have more, but for large answers.
type Limits struct {
	// Seats is how many requests compute at once. Default: as many as can; all but one of them for each.
	Seats, SeatsEach int
	// Reads is how many reads are under way: those that ask for the newest revision share a round, and all want to compute when it ends. Writes
	// are agreed in batches, and what is in front of a write in its batch delays it. Default for each: 2 and 4 for a core.
	Reads, ReadsEach   int
	Writes, WritesEach int
	// Large is how many large answers are made and sent at once; they take memory until slow clients have them. Default: 16, and 2.
	Large, LargeEach int
	// Present is how many requests of each sort may be here, waiting or not. Default: 2000.
	Present int
	// LastingEach is how many watches and conversations with pods one user may have. Default: 1000.
	LastingEach int
}

// gates divide what is scarce fairly. Every request passes seats; what it waits for on the way, it waits for without its seat.
type gates struct {
	seats, writes, reads, large *fair.Gate
	lasting                     *fair.Limit
}

// largeFrom is from how many objects on a list is a large answer.
const largeFrom = 500

func newGates(l Limits) *gates {
	cores := runtime.GOMAXPROCS(0)
	seats := cmp.Or(l.Seats, cores)
	gate := func(all, each, each0, alone int) *fair.Gate {
		if each != 0 {
			alone = each
		}
		return fair.New(fair.Config{Seats: all, Share: cmp.Or(each, each0), Alone: alone, Most: cmp.Or(l.Present, 2000)})
	}
	return &gates{
		seats:   gate(seats, l.SeatsEach, max(1, seats-1), seats),
		reads:   gate(cmp.Or(l.Reads, 256*cores), l.ReadsEach, 2*cores, 32*cores),
		writes:  gate(cmp.Or(l.Writes, 128*cores), l.WritesEach, 4*cores, 32*cores),
		large:   gate(cmp.Or(l.Large, 16), l.LargeEach, 2, 2),
		lasting: fair.NewLimit(cmp.Or(l.LastingEach, 1000)),
	}
}

// turns are a request's places at the gates; zero for who is exempt.
type turns struct{ seat, way, large fair.Seat }

// leave gives everything back for what lasts as long as the client wants.
func (t *turns) leave() {
	t.seat.Leave()
	t.way.Leave()
}

// withFairness has a request wait for its turn: first for a place among those under way, so that what waits has not been read yet.
func (s *Server) withFairness(next handler) handler {
	return func(w http.ResponseWriter, r *request) {
		if r.exempt() {
			next(w, r)
			return
		}
		f := r.flow()
		if r.lasts() {
			if !s.gates.lasting.Take(f.User) {
				s.fail(w, r, apierrors.NewTooManyRequests("too many watches and streams of this user are open, please try again later", 5))
				return
			}
			defer s.gates.lasting.GiveBack(f.User)
		}
		defer r.turns.large.Leave()
		way := s.gates.reads
		if r.forMaster() {
			way = s.gates.writes
		}
		defer r.turns.way.Leave()
		if err := r.turns.way.Enter(r.Context(), way, f); err != nil {
			s.fail(w, r, crowded(err))
			return
		}
		defer r.turns.seat.Leave()
		if err := r.turns.seat.Enter(r.Context(), s.gates.seats, f); err != nil {
			s.fail(w, r, crowded(err))
			return
		}
		r.Request = r.WithContext(fair.With(r.Context(), &r.turns.seat))
		next(w, r)
	}
}

// crowded is what to say when a gate let nobody in.
func crowded(err error) error {
	if errors.Is(err, fair.ErrTooMany) {
		return apierrors.NewTooManyRequests("Too many requests, please try again later.", 1) // as Kubernetes says it
	}
	return err
}

// exempt reports whether a request never waits: of administrators, who must be able to help, and of machines, whose pods depend on it.
func (r *request) exempt() bool {
	if !r.IsResource {
		switch p := r.URL.Path; {
		case p == "/livez", p == "/readyz", p == "/healthz", strings.HasPrefix(p, "/livez/"), strings.HasPrefix(p, "/readyz/"), strings.HasPrefix(p, "/healthz/"):
			return true
		}
	}
	return slices.Contains(r.user.Groups, auth.MastersGroup) || slices.Contains(r.user.Groups, auth.NodesGroup)
}

// flow is who a request counts for: who acts, not as whom, and of accounts of pods all of their namespace.
func (r *request) flow() fair.Flow {
	user := cmp.Or(r.user.By, r.user.Name)
	if strings.HasPrefix(user, accountPrefix) {
		user = user[:max(len(accountPrefix), strings.LastIndexByte(user, ':'))]
	}
	return fair.Flow{User: user, Namespace: r.Namespace}
}

// accountPrefix begins the names of service accounts; their namespace and name follow.
const accountPrefix = "system:serviceaccount:"

// enlarge takes a place among large answers, if this is one.
func (s *Server) enlarge(r *request, objects int) error {
	if objects < largeFrom || r.exempt() {
		return nil
	}
	r.turns.seat.Yield()
	defer r.turns.seat.Resume()
	return crowded(r.turns.large.Enter(r.Context(), s.gates.large, r.flow()))
}

// pause lets others go first now and then, in loops over many objects.
func (r *request) pause(i int) {
	if i%64 == 63 {
		r.turns.seat.Pause()
	}
}

// yielding writes an answer of which the rest is still to be computed: while the client takes as long as it does, the seat is somebody else's.
type yielding struct {
	http.ResponseWriter
	r *request
}

// Write implements io.Writer.
func (y yielding) Write(p []byte) (int, error) {
	y.r.turns.seat.Yield()
	defer y.r.turns.seat.Resume()
	return y.ResponseWriter.Write(p)
}

// flush writes p and sends all that was written.
func (y yielding) flush(p []byte) error {
	y.r.turns.seat.Yield()
	defer y.r.turns.seat.Resume()
	if _, err := y.ResponseWriter.Write(p); err != nil {
		return err
	}
	return http.NewResponseController(y.ResponseWriter).Flush()
}
