package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// ask sends requests at a steady rate, each on a connection of its own with a one-second limit, and prints when each
// failed one was sent (Unix milliseconds). The summary line is "sent N failed M span MS", span being the milliseconds
// from the first to the last failed request's start.
func ask(ctx context.Context, url string, rate int, length time.Duration) error {
	if url == "" || rate < 1 || rate > 1000 {
		return fmt.Errorf("ask wants a URL and a rate of 1 to 1000, got %q %d", url, rate)
	}
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var (
		mu          sync.Mutex
		sent        int
		failed      int
		first, last time.Time
		wg          sync.WaitGroup
	)
	fmt.Println("asking", time.Now().UnixMilli())
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			continue
		case at := <-tick.C:
			sent++
			wg.Go(func() {
				_, err := get(url, time.Second)
				if err == nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				failed++
				if first.IsZero() || at.Before(first) {
					first = at
				}
				if at.After(last) {
					last = at
				}
				fmt.Println("failed", at.UnixMilli(), err)
			})
		}
	}
	wg.Wait()
	fmt.Println("sent", sent, "failed", failed, "span", last.Sub(first).Milliseconds())
	return nil
}
