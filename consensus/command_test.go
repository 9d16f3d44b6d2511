package consensus

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"shoal/consensus/store"
)

var commands = []store.Txn{
	{},
	{Term: 7, Compact: 1 << 60},
	{Compares: []store.Compare{{Key: "a", Mod: 3}, {Key: "b"}}, Ops: []store.Op{{Key: "a", Delete: true}}},
	{Term: 1, Ops: []store.Op{{Key: "x", Value: []byte("value")}, {Key: "", Value: []byte{}}, {Key: "y", Value: make([]byte, 300)}}},
}

func TestCommandsComeBackAsTheyWere(t *testing.T) {
	for _, c := range commands {
		got, err := decodeCommand(encodeCommand(c))
		if diff := cmp.Diff(c, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Errorf("%v (-sent +got):\n%s", err, diff)
		}
	}
}

func TestACommandOfAnotherVersionIsRefusedByName(t *testing.T) {
	b := encodeCommand(commands[3])
	b[0] = 2
	if _, err := decodeCommand(b); !errors.Is(err, ErrVersion) {
		t.Error(err)
	}
	for i := range b[1:] {
		if _, err := decodeCommand(append([]byte{commandVersion}, b[1:i+1]...)); !errors.Is(err, ErrCommand) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
}

func FuzzDecodeCommand(f *testing.F) {
	for _, c := range commands {
		f.Add(encodeCommand(c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeCommand(b)
		if err == nil && !bytes.Equal(encodeCommand(c), b) {
			t.Errorf("%x means %+v but that is written %x", b, c, encodeCommand(c))
		}
	})
}
