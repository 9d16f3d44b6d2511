package fair

// queue is who waits of one flow. Those who had a seat before go first: their work is done for nothing else.
type queue struct {
	flow        Flow
	user, space *account
	back, fresh line
	at          int // in Gate.order
}

// line is a list of seats that wait, in the order in which they came.
type line struct{ first, last *Seat }

func (l *line) add(s *Seat) {
	s.before, s.after = l.last, nil
	if l.last == nil {
		l.first = s
	} else {
		l.last.after = s
	}
	l.last = s
}

func (l *line) remove(s *Seat) {
	if s.before == nil {
		l.first = s.after
	} else {
		s.before.after = s.after
	}
	if s.after == nil {
		l.last = s.before
	} else {
		s.after.before = s.before
	}
	s.before, s.after = nil, nil
}

func (q *queue) first() *Seat {
	if q.back.first != nil {
		return q.back.first
	}
	return q.fresh.first
}

func (q *queue) line(s *Seat) *line {
	if s.entered {
		return &q.back
	}
	return &q.fresh
}

// addLocked has s wait.
func (g *Gate) addLocked(s *Seat) {
	q := g.queues[s.flow]
	if q == nil {
		q = &queue{flow: s.flow, user: s.user, space: s.space, at: len(g.order)}
		g.queues[s.flow] = q
		g.order = append(g.order, q)
	}
	q.line(s).add(s)
	s.state = waiting
	g.waiting.Add(1)
}

// removeLocked ends the waiting of s.
func (g *Gate) removeLocked(s *Seat) {
	q := g.queues[s.flow]
	q.line(s).remove(s)
	s.state = away
	g.waiting.Add(-1)
	if q.first() != nil {
		return
	}
	delete(g.queues, q.flow)
	end := len(g.order) - 1
	g.order[q.at], g.order[end].at = g.order[end], q.at
	g.order[end] = nil
	g.order = g.order[:end]
}

// nextLocked returns the queue whose turn it is; nil when nobody waits, or only those who have their share.
func (g *Gate) nextLocked() *queue {
	var best *queue
	share := g.shareLocked()
	for _, q := range g.order {
		if within(share, q.user, q.space) && (best == nil || q.beforeThat(best)) {
			best = q
		}
	}
	return best
}

// nextWithoutLocked returns the queue whose turn it would be if s gave its seat back, unless that is its user's own.
func (g *Gate) nextWithoutLocked(s *Seat) *queue {
	s.user.held--
	if s.space != nil {
		s.space.held--
	}
	q := g.nextLocked()
	s.user.held++
	if s.space != nil {
		s.space.held++
	}
	if q == nil || q.user == s.user {
		return nil
	}
	return q
}

// beforeThat reports whether q has had less than p, or in the same namespace its user than the other.
func (q *queue) beforeThat(p *queue) bool {
	mine, theirs := q.user.had, p.user.had
	if q.space != nil {
		mine = max(mine, q.space.had)
	}
	if p.space != nil {
		theirs = max(theirs, p.space.had)
	}
	if mine != theirs {
		return mine < theirs
	}
	return q.user.had < p.user.had
}

// crowdLocked returns the queue with new requests that is the biggest crowd, if that is a bigger one than s belongs to; else nil.
func (g *Gate) crowdLocked(s *Seat) *queue {
	mine := queue{user: s.user, space: s.space}
	worst := &mine
	for _, q := range g.order {
		if q.fresh.last != nil && q.moreThan(worst) {
			worst = q
		}
	}
	if worst == &mine {
		return nil
	}
	return worst
}

// moreThan reports whether q's user or namespace has more requests here than p's, or in the same namespace its user than the other.
func (q *queue) moreThan(p *queue) bool {
	mine, theirs := q.user.present, p.user.present
	if q.space != nil {
		mine = max(mine, q.space.present)
	}
	if p.space != nil {
		theirs = max(theirs, p.space.present)
	}
	if mine != theirs {
		return mine > theirs
	}
	return q.user.present > p.user.present
}
