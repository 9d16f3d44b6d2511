package api_test

import (
	"testing"

	"shoal/internal/client/clienttest"
)

func TestClientOverHTTPAtTheMaster(t *testing.T) {
	clienttest.Run(t, func(t *testing.T) clienttest.Backend {
		c := newCluster(t)
		return clienttest.Backend{Client: c.master.client(t)}
	})
}

func TestClientOverHTTPAtAFollower(t *testing.T) {
	clienttest.Run(t, func(t *testing.T) clienttest.Backend {
		c := newCluster(t)
		return clienttest.Backend{Client: c.other.client(t)}
	})
}
