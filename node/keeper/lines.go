package keeper

import (
	"bytes"
	"time"
)

type stream byte

const (
	streamOut stream = 1
	streamErr stream = 2
)

func (s stream) String() string {
	if s == streamErr {
		return "stderr"
	}
	return "stdout"
}

// maxLine is where a line is cut into partial entries, as container runtimes do.
const maxLine = 16 << 10

// stamp is RFC 3339 with all nine digits, so that entries of one file sort as text.
const stamp = "2006-01-02T15:04:05.000000000Z07:00"

// framer turns one stream's bytes into log entries: TIME STREAM F|P TEXT. What follows the last newline waits for more.
type framer struct {
	stream stream
	rest   []byte
}

// add appends the entries that data completes to out.
func (f *framer) add(out, data []byte, now time.Time) []byte {
	for len(data) > 0 {
		i := bytes.IndexByte(data, '\n')
		end := i >= 0
		line := data
		if end {
			line = data[:i]
		}
		if room := maxLine - len(f.rest); len(line) > room {
			out = f.entry(out, line[:room], 'P', now)
			data = data[room:]
			continue
		}
		if !end {
			f.rest = append(f.rest, line...)
			return out
		}
		out = f.entry(out, line, 'F', now)
		data = data[i+1:]
	}
	return out
}

// flush appends what waits: as a full entry when the stream has ended, else as a partial one.
func (f *framer) flush(out []byte, ended bool, now time.Time) []byte {
	if len(f.rest) == 0 {
		return out
	}
	tag := byte('P')
	if ended {
		tag = 'F'
	}
	return f.entry(out, nil, tag, now)
}

func (f *framer) entry(out, text []byte, tag byte, now time.Time) []byte {
	out = now.UTC().AppendFormat(out, stamp)
	out = append(out, ' ')
	out = append(out, f.stream.String()...)
	out = append(out, ' ', tag, ' ')
	out = append(out, f.rest...)
	out = append(out, text...)
	f.rest = nil // a line in pieces is rare: the memory is worth more
	return append(out, '\n')
}
