package store

import (
	"fmt"
	"sync"
	"testing"
)

func filled(n int) *Store {
	s := New()
	value := make([]byte, 512)
	for i := range n {
		s.Apply(1, Txn{Ops: []Op{{Key: Key(fmt.Sprintf("/pods/default/pod-%07d", i)), Value: value}}})
	}
	s.Apply(1, Txn{Compact: s.Rev()})
	return s
}

func BenchmarkApply(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			s := filled(n)
			value := make([]byte, 512)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				v := fmt.Append(value[:500:500], i)
				s.Apply(1, Txn{Ops: []Op{{Key: Key(fmt.Sprintf("/pods/default/pod-%07d", i%n)), Value: v}}})
				if i%50_000 == 0 {
					s.Apply(1, Txn{Compact: s.Rev() - 25_000})
				}
			}
		})
	}
}

// BenchmarkApplyRead reads after each change, which copies a path of the index.
func BenchmarkApplyRead(b *testing.B) {
	s := filled(100_000)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		key := Key(fmt.Sprintf("/pods/default/pod-%07d", i%100_000))
		s.Apply(1, Txn{Ops: []Op{{Key: key, Value: fmt.Append(nil, i)}}})
		if _, ok, err := s.Get(key, 0); !ok || err != nil {
			b.Fatal(ok, err)
		}
		if i%50_000 == 0 {
			s.Apply(1, Txn{Compact: s.Rev() - 25_000})
		}
	}
}

func BenchmarkGet(b *testing.B) {
	s := filled(100_000)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, ok, err := s.Get("/pods/default/pod-0050000", 0); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
}

func BenchmarkList(b *testing.B) {
	for _, n := range []int{500, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := filled(n)
			b.ReportAllocs()
			for b.Loop() {
				if page, err := s.List("/pods/", "", 0, 0); err != nil || len(page.KVs) != n {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkWatch is one change seen by all watchers of its prefix.
func BenchmarkWatch(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("watchers=%d", n), func(b *testing.B) {
			s := filled(1000)
			var all, seen sync.WaitGroup
			for range n {
				w := s.Watch("/pods/", s.Rev())
				b.Cleanup(w.Close)
				all.Go(func() {
					for {
						events, err := w.Next(b.Context())
						if err != nil {
							return
						}
						for range events {
							seen.Done()
						}
					}
				})
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				seen.Add(n)
				s.Apply(1, Txn{Ops: []Op{{Key: "/pods/default/pod-0000001", Value: fmt.Append(nil, i)}}})
				seen.Wait()
				if i%1000 == 0 {
					s.Apply(1, Txn{Compact: s.Rev()})
				}
			}
		})
	}
}
