package main

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A figure is what one load run showed.
type figure struct {
	clients  int
	done     int
	perSec   float64
	p50, p99 time.Duration
	max      time.Duration
}

func (f figure) String() string {
	return fmt.Sprintf("%7.0f/s  p50 %8s  p99 %8s  max %8s", f.perSec, short(f.p50), short(f.p99), short(f.max))
}

func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%.0f µs", float64(d)/1e3)
	case d < time.Second:
		return fmt.Sprintf("%.2f ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

// A step is the n-th operation of a load, sent over the given connection. It
// returns an error when the answer is not the right one.
type step func(c *conn, n int) error

// load keeps that many clients busy with the step until the time is over or
// total operations were done (0: no such limit), after a warm-up of the given
// length that is not counted. The first wrong answer ends it.
func load(network, addr string, clients int, warm, length time.Duration, total int, do step) (figure, error) {
	f, _, err := loadOver(network, []string{addr}, clients, warm, length, total, do)
	return f, err
}

// loadOver is load with the clients spread over several addresses; it returns
// all times as well, sorted.
func loadOver(network string, addrs []string, clients int, warm, length time.Duration, total int, do step) (figure, []time.Duration, error) {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	start := time.Now()
	from := start.Add(warm)
	until := from.Add(length)
	times := make([][]time.Duration, clients)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c := newConn(network, addrs[i%len(addrs)])
			defer c.close()
			var own []time.Duration
			for failed.Load() == nil {
				n := int(next.Add(1) - 1)
				if total > 0 && n >= total {
					break
				}
				t0 := time.Now()
				if total == 0 && t0.After(until) {
					break
				}
				if err := do(c, n); err != nil {
					failed.CompareAndSwap(nil, &err)
					break
				}
				if total > 0 || t0.After(from) {
					own = append(own, time.Since(t0))
				}
			}
			times[i] = own
		}()
	}
	wg.Wait()
	if e := failed.Load(); e != nil {
		return figure{}, nil, *e
	}
	end := time.Now()
	if total > 0 {
		from = start
	}
	all := slices.Concat(times...)
	f := figureOf(all, end.Sub(from))
	f.clients = clients
	return f, all, nil
}

// figureOf sorts the times of what was done in the given while.
func figureOf(all []time.Duration, while time.Duration) figure {
	slices.Sort(all)
	return figure{
		done: len(all), perSec: float64(len(all)) / while.Seconds(),
		p50: quantile(all, 0.5), p99: quantile(all, 0.99), max: quantile(all, 1),
	}
}

// quantile reads a quantile of sorted values; 0 of none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
