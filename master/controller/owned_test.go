package controller

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
)

// However many there are, each is made once: the batches used to grow until their size was negative, at some 8,000.
func TestAnyNumberIsMade(t *testing.T) {
	var made atomic.Int64
	if err := createAll(t.Context(), make([]struct{}, 50000), func(context.Context, struct{}) error {
		made.Add(1)
		return nil
	}); err != nil || made.Load() != 50000 {
		t.Errorf("%d made: %v", made.Load(), err)
	}
}

func TestWhatCannotWorkCostsFewCalls(t *testing.T) {
	var tried atomic.Int64
	wrong := errors.New("no")
	if err := createAll(t.Context(), make([]struct{}, 50000), func(context.Context, struct{}) error {
		tried.Add(1)
		return wrong
	}); !errors.Is(err, wrong) || tried.Load() != 4 {
		t.Errorf("%d tried: %v", tried.Load(), err)
	}
}
