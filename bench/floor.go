package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// The record size of the floor's appends, bytes: about what one call adds to the log at each of its two appends.
const recordSize = 400

// argument is the body of every benchmark call.
const argument = `["a benchmark argument that is neither tiny nor large, as most arguments are"]`

// floor measures one durable call's parts alone, one client: two fsynced
// appends and two HTTP round trips to the handler.
func (b *bench) floor() error {
	port := freePort()
	app, err := start(b.dir, "floor-app", []string{"KAR_APP_PORT=" + port}, b.self, "app")
	if err != nil {
		return err
	}
	defer app.end(syscall.SIGKILL)
	f, err := os.Create(filepath.Join(b.dir, "floor.log"))
	if err != nil {
		return err
	}
	defer f.Close()
	c := newConn("tcp", "127.0.0.1:"+port)
	defer c.close()
	trip := func() error {
		_, _, err := c.do("POST", "/kar/impl/v1/actor/Bench/a1/echo", callHeader, []byte(argument))
		return err
	}
	if _, err := until(b.ctx, "the handler", func() bool { return trip() == nil }); err != nil {
		return err
	}
	record := make([]byte, recordSize)
	var sums, syncs, trips []time.Duration
	for end := time.Now().Add(b.length(5 * time.Second)); time.Now().Before(end); {
		t0 := time.Now()
		for range 2 {
			if _, err := f.Write(record); err != nil {
				return err
			}
			if err := f.Sync(); err != nil {
				return err
			}
		}
		t1 := time.Now()
		for range 2 {
			if err := trip(); err != nil {
				return err
			}
		}
		t2 := time.Now()
		sums, syncs, trips = append(sums, t2.Sub(t0)), append(syncs, t1.Sub(t0)/2), append(trips, t2.Sub(t1)/2)
	}
	for _, s := range [][]time.Duration{sums, syncs, trips} {
		slices.Sort(s)
	}
	b.floorP50 = quantile(sums, 0.5)
	b.row("floor: 2 fsynced appends + 2 HTTP round trips, 1 client", fmt.Sprintf("p50 %s (append %s, trip %s)", short(b.floorP50), short(quantile(syncs, 0.5)), short(quantile(trips, 0.5))), "", "")
	return nil
}
