package clienttest_test

import (
	"testing"

	"shoal/internal/client/clienttest"
	"shoal/master/mastertest"
)

func TestRegistryInProcess(t *testing.T) {
	clienttest.Run(t, func(t *testing.T) clienttest.Backend {
		r := mastertest.New(t)
		return clienttest.Backend{Client: r, Compact: func(t *testing.T) { r.Compact(t) }}
	})
}
