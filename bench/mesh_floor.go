package main

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A meshFloor measures the parts of a call on Kafka alone, one client: two
// produces with acks=all and two HTTP round trips.
type meshFloor struct {
	app    *proc
	conn   *conn
	log    runtime.Log
	closer func() error

	sums, appends, trips []time.Duration
}

func (s *sharedMesh) floor() (*meshFloor, error) {
	port := freePort()
	f := &meshFloor{conn: newConn("tcp", "127.0.0.1:"+port)}
	var err error
	if f.app, err = start(s.dir, "floor-app", []string{"KAR_APP_PORT=" + port}, s.b.self, "app"); err != nil {
		return nil, err
	}
	cluster, logs, err := openLogs(s.b.ctx, s.kafka.Brokers(), "floor", 1)
	if err != nil {
		f.app.end(syscall.SIGKILL)
		return nil, err
	}
	f.log, f.closer = logs[0], cluster.Close
	if _, err := until(s.b.ctx, "the handler", func() bool { return f.trip() == nil }); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *meshFloor) trip() error {
	_, _, err := f.conn.do("POST", "/kar/impl/v1/actor/Bench/a1/echo", callHeader, []byte(argument))
	return err
}

// run measures for a while and adds to what was measured before.
func (f *meshFloor) run(ctx context.Context, length time.Duration) error {
	record := make([]byte, kafkaRecord)
	for end := time.Now().Add(length); time.Now().Before(end); {
		t0 := time.Now()
		for range 2 {
			if _, _, err := f.log.Append(ctx, [][]byte{record}); err != nil {
				return err
			}
		}
		t1 := time.Now()
		for range 2 {
			if err := f.trip(); err != nil {
				return err
			}
		}
		t2 := time.Now()
		f.sums, f.appends, f.trips = append(f.sums, t2.Sub(t0)), append(f.appends, t1.Sub(t0)/2), append(f.trips, t2.Sub(t1)/2)
	}
	return nil
}

func (f *meshFloor) p50() time.Duration {
	for _, s := range [][]time.Duration{f.sums, f.appends, f.trips} {
		slices.Sort(s)
	}
	return quantile(f.sums, 0.5)
}

func (f *meshFloor) String() string {
	return fmt.Sprintf("p50 %s (append %s, trip %s)", short(f.p50()), short(quantile(f.appends, 0.5)), short(quantile(f.trips, 0.5)))
}

func (f *meshFloor) close() {
	f.conn.close()
	f.app.end(syscall.SIGKILL)
	if f.closer != nil {
		f.closer()
	}
}
