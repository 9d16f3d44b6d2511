package consensus

import (
	"sync"

	"github.com/hashicorp/raft"
)

// transport is Raft's own, but for its pipelines.
type transport struct{ *raft.NetworkTransport }

const (
	// inFlight is how many messages are on their way to one peer at once; more make batches smaller and nothing faster.
	inFlight = 2
	// slack is how many answers Raft's pipeline holds that nobody takes. It has to be more than inFlight, or a sender
	// waits for ever for a reader that gave up at the first refusal.
	slack = 16
)

// AppendEntriesPipeline implements raft.Transport.
func (t transport) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := t.NetworkTransport.AppendEntriesPipeline(id, to)
	if err != nil {
		return nil, err
	}
	p := &pipeline{
		AppendPipeline: inner,
		slots:          make(chan struct{}, inFlight),
		answers:        make(chan raft.AppendFuture, inFlight),
		over:           make(chan struct{}),
	}
	go p.forward()
	return p, nil
}

// pipeline lets a sender go when a message was refused or it is closed. It ends with Close.
type pipeline struct {
	raft.AppendPipeline
	slots   chan struct{}
	answers chan raft.AppendFuture
	over    chan struct{}
	once    sync.Once
}

// AppendEntries implements raft.AppendPipeline.
func (p *pipeline) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	select {
	case p.slots <- struct{}{}:
	case <-p.over:
		return nil, raft.ErrPipelineShutdown
	}
	return p.AppendPipeline.AppendEntries(req, resp)
}

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// Close implements raft.AppendPipeline.
func (p *pipeline) Close() error {
	p.once.Do(func() { close(p.over) })
	return p.AppendPipeline.Close()
}

// forward hands on the answers up to the first refusal, after which Raft gives the pipeline up.
func (p *pipeline) forward() {
	for {
		select {
		case a := <-p.AppendPipeline.Consumer():
			refused := a.Error() != nil || !a.Response().Success
			select {
			case p.answers <- a:
			case <-p.over:
				return
			}
			<-p.slots
			if refused {
				p.once.Do(func() { close(p.over) })
				return
			}
		case <-p.over:
			return
		}
	}
}
