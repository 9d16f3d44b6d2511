package clienttest_test

import (
	"testing"

	"shoal/internal/client/clienttest"
	"shoal/master/registry/registrytest"
)

func TestRegistryInProcess(t *testing.T) {
	clienttest.Run(t, func(t *testing.T) clienttest.Backend {
		r, log := registrytest.New(t)
		return clienttest.Backend{Client: r, Compact: func(*testing.T) { log.Compact() }}
	})
}
