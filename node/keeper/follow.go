package keeper

// follower receives a container's output as it comes. One that is slow loses the connection, never the container's time.
type follower struct {
	frames chan []byte // closed by the drain when the output is over or the follower too slow
}

// backlog is how many frames wait for a follower: some 2 MiB at most.
const backlog = 64

func (x *draining) follow() *follower {
	f := &follower{frames: make(chan []byte, backlog)}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		close(f.frames)
		return f
	}
	x.followers[f] = true
	return f
}

func (x *draining) unfollow(f *follower) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.followers, f)
}

func (x *draining) publish(s stream, data []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for f := range x.followers {
		select {
		case f.frames <- frame(s, data):
		default:
			close(f.frames)
			delete(x.followers, f)
		}
	}
}
