package etcd

import (
	"context"
	"errors"
	"fmt"
	"math"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/encoding/protowire"
)

// Conn is a connection to one member.
type Conn struct{ cc *grpc.ClientConn }

// plain passes messages on as they are.
type plain struct{}

func (plain) Name() string { return "proto" }

func (plain) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

func (plain) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

// Dial connects to a member, when it is first used.
func (c *Cluster) Dial(m *Member) (*Conn, error) {
	cc, err := grpc.NewClient(m.Addr, grpc.WithTransportCredentials(credentials.NewTLS(c.tls)),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(plain{}), grpc.MaxCallRecvMsgSize(math.MaxInt32)))
	if err != nil {
		return nil, err
	}
	return &Conn{cc}, nil
}

// Close ends the connection and its watches.
func (c *Conn) Close() { _ = c.cc.Close() }

func (c *Conn) call(ctx context.Context, method string, in []byte) ([]byte, error) {
	var out []byte
	err := c.cc.Invoke(ctx, method, &in, &out)
	return out, err
}

func bytesField(b []byte, n protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
}

// Put stores value under key.
func (c *Conn) Put(ctx context.Context, key string, value []byte) error {
	_, err := c.call(ctx, "/etcdserverpb.KV/Put", bytesField(bytesField(nil, 1, []byte(key)), 2, value))
	return err
}

// Get returns how many bytes answer a linearizable read of key.
func (c *Conn) Get(ctx context.Context, key string) (int, error) {
	out, err := c.call(ctx, "/etcdserverpb.KV/Range", bytesField(nil, 1, []byte(key)))
	return len(out), err
}

// List returns how many keys begin with prefix, having read them all with their values.
func (c *Conn) List(ctx context.Context, prefix string) (int, error) {
	out, err := c.call(ctx, "/etcdserverpb.KV/Range", under(prefix))
	if err != nil {
		return 0, err
	}
	n := 0
	err = fields(out, func(field protowire.Number, _ []byte) error {
		if field == 2 { // kvs
			n++
		}
		return nil
	})
	return n, err
}

// under is the part of a message that means all keys with a prefix.
func under(prefix string) []byte {
	end := []byte(prefix)
	end[len(end)-1]++
	return bytesField(bytesField(nil, 1, []byte(prefix)), 2, end)
}

// Watch calls created once the watch of a prefix is there, and f with each key that is put, until ctx ends.
func (c *Conn) Watch(ctx context.Context, prefix string, created func(), f func(key string)) error {
	s, err := c.cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/etcdserverpb.Watch/Watch")
	if err != nil {
		return err
	}
	in := bytesField(nil, 1, under(prefix))
	if err := s.SendMsg(&in); err != nil {
		return err
	}
	for first := true; ; first = false {
		var out []byte
		if err := s.RecvMsg(&out); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if first {
			created()
		}
		err := fields(out, func(field protowire.Number, event []byte) error {
			if field != 11 { // events
				return nil
			}
			return fields(event, func(field protowire.Number, kv []byte) error {
				if field != 2 {
					return nil
				}
				return fields(kv, func(field protowire.Number, key []byte) error {
					if field == 1 {
						f(string(key))
					}
					return nil
				})
			})
		})
		if err != nil {
			return err
		}
	}
}

// status returns the member's own id and the leader's, 0 when it knows none.
func (c *Conn) status(ctx context.Context) (self, leader uint64, err error) {
	out, err := c.call(ctx, "/etcdserverpb.Maintenance/Status", nil)
	if err != nil {
		return 0, 0, err
	}
	number := func(b []byte, want protowire.Number, to *uint64) {
		for len(b) > 0 {
			field, kind, n := protowire.ConsumeTag(b)
			if n < 0 {
				return
			}
			b = b[n:]
			if field == want && kind == protowire.VarintType {
				*to, _ = protowire.ConsumeVarint(b)
			}
			if n = protowire.ConsumeFieldValue(field, kind, b); n < 0 {
				return
			}
			b = b[n:]
		}
	}
	number(out, 4, &leader)
	err = fields(out, func(field protowire.Number, header []byte) error {
		if field == 1 {
			number(header, 2, &self)
		}
		return nil
	})
	if err == nil && self == 0 {
		err = errors.New("no id in the status")
	}
	return self, leader, err
}

// fields calls f with each field that has bytes.
func fields(b []byte, f func(protowire.Number, []byte) error) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("answer: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(field, kind, b); n < 0 {
			return fmt.Errorf("answer: %w", protowire.ParseError(n))
		}
		if kind == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(b)
			if err := f(field, v); err != nil {
				return err
			}
		}
		b = b[n:]
	}
	return nil
}
