package main

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// shared measures the shared mesh: gateways as processes on a real Kafka and a
// real Redis, everything on this machine. What is compared is measured in turns
// within the same minute.
func (b *bench) shared() (err error) {
	s, err := b.startShared()
	var missing *missingError
	if errors.As(err, &missing) && os.Getenv("CI") != "true" {
		fmt.Println("  SKIPPED:", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, f := range []struct {
		name string
		take func() error
	}{{"calls", s.calls}, {"gateways", s.gateways}, {"hosts", s.hosts}, {"kills", s.kills}, {"joins", s.joins}, {"recovery", s.recovery}} {
		if b.ctx.Err() == nil && (b.figures == nil || b.figures[f.name]) {
			err = errors.Join(err, f.take())
		}
	}
	return err
}

// rounds is how often things that are compared take turns.
const rounds = 4

// load is a part of a measurement; an interrupted benchmark begins none.
func (s *sharedMesh) load(addrs []string, clients int, warm, length time.Duration, do step) ([]time.Duration, error) {
	if err := s.b.ctx.Err(); err != nil {
		return nil, err
	}
	_, times, err := loadOver("tcp", addrs, clients, warm, length, 0, do)
	return times, err
}

// calls measures one gateway beside the floor and the sketch.
func (s *sharedMesh) calls() error {
	b := s.b
	one, err := s.mesh("one", 1, defaultPartitions)
	if err != nil {
		return err
	}
	defer one.close()
	if _, err := one.startComponent(0); err != nil {
		return err
	}
	do := call(prefix, 1000, "echo")
	addr := one.gateways[0].addr
	if _, err := load("tcp", addr, 16, 0, time.Minute, 4000, do); err != nil { // every actor is active
		return fmt.Errorf("%w\n%s", err, one.tails())
	}
	floor, err := s.floor()
	if err != nil {
		return err
	}
	defer floor.close()
	if err := floor.run(b.ctx, time.Second); err != nil { // warm
		return err
	}
	floor.sums, floor.appends, floor.trips = nil, nil, nil
	sketch, err := s.startSketch(defaultPartitions)
	if err != nil {
		return err
	}
	defer sketch.close()
	var times, sketches []time.Duration
	for range rounds {
		if err := floor.run(b.ctx, b.length(2*time.Second)); err != nil {
			return err
		}
		more, err := s.load([]string{addr}, 1, b.length(300*time.Millisecond), b.length(2*time.Second), do)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, one.tails())
		}
		times = append(times, more...)
		if more, err = s.load([]string{sketch.api}, 1, b.length(300*time.Millisecond), b.length(2*time.Second), call("", 1000, "echo")); err != nil {
			return err
		}
		sketches = append(sketches, more...)
	}
	f, sf := figureOf(times, rounds*b.length(2*time.Second)), figureOf(sketches, rounds*b.length(2*time.Second))
	b.row("floor: 2 produces with acks=all + 2 HTTP round trips, 1 client", floor.String(), "", "")
	b.row("sketch on 64 partitions, 1 client", sf.String()+ratio(float64(sf.p50), float64(floor.p50()), "floor"), "", "")
	b.row("call through a gateway, 1 client", f.String()+ratio(float64(f.p50), float64(floor.p50()), "floor"), "p50 <= 1.6 x floor", "0.7 ms")

	if err := s.beside(one, sketch); err != nil {
		return err
	}
	for _, partitions := range []int{16, 4} {
		if err := s.partitions(partitions); err != nil {
			return err
		}
	}
	return nil
}

// partitions shows what their number costs.
func (s *sharedMesh) partitions(n int) error {
	one, err := s.mesh(fmt.Sprint("parts", n), 1, n)
	if err != nil {
		return err
	}
	defer one.close()
	if _, err := one.startComponent(0); err != nil {
		return err
	}
	sketch, err := s.startSketch(n)
	if err != nil {
		return err
	}
	defer sketch.close()
	return s.beside(one, sketch)
}

// beside measures 128 clients on KAR and on the sketch with as many partitions, in turns.
func (s *sharedMesh) beside(one *nodes, sketch *sketchMesh) error {
	b, partitions := s.b, one.partitions
	for addr, do := range map[string]step{sketch.api: call("", 1000, "echo"), one.gateways[0].addr: call(prefix, 1000, "echo")} { // warm
		if _, err := s.load([]string{addr}, 128, 0, b.length(4*time.Second), do); err != nil {
			return fmt.Errorf("%w\n%s", err, one.tails())
		}
	}
	length := b.length(3 * time.Second)
	var kars, sketches []time.Duration
	var before, after nodeStatus
	ours := meter([]string{"gateway", "sidecar and app"}, one.gateways[0].proc, one.comps[0].proc).withKafka()
	theirs := meter([]string{"app", "gateway", "sidecar"}, sketch.procs...).withKafka()
	for i := range rounds {
		theirs.begin()
		more, err := s.load([]string{sketch.api}, 128, 0, length, call("", 1000, "echo"))
		if err != nil {
			return err
		}
		theirs.end(len(more))
		sketches = append(sketches, more...)
		if i == 0 {
			before, _ = one.gateways[0].status()
		}
		ours.begin()
		if more, err = s.load([]string{one.gateways[0].addr}, 128, 0, length, call(prefix, 1000, "echo")); err != nil {
			return fmt.Errorf("%w\n%s", err, one.tails())
		}
		ours.end(len(more))
		kars = append(kars, more...)
	}
	after, _ = one.gateways[0].status()
	sf, kf := figureOf(sketches, rounds*length), figureOf(kars, rounds*length)
	b.row(fmt.Sprintf("sketch on %d partitions, 128 clients", partitions), sf.String(), "", "")
	b.row("", theirs.String(), "", "")
	reach, aim := "", ""
	if partitions == defaultPartitions {
		reach, aim = ">= 80 % of the sketch, >= 8000/s, p99 <= 35 ms", "12000/s"
	}
	b.row(fmt.Sprintf("call through a gateway, %d partitions, 128 clients", partitions), kf.String()+ratio(kf.perSec, sf.perSec, "sketch"), reach, aim)
	b.row("", ours.String()+ratio(theirs.perCall(), ours.perCall(), "sketch"), "", "")
	appends := float64(after.Stats.Appends - before.Stats.Appends)
	b.row("", "appends of "+fmt.Sprintf("%.1f records each, %s on average, %.0f bytes a call", float64(after.Stats.AppendedRecords-before.Stats.AppendedRecords)/appends,
		short(time.Duration((after.Stats.AppendSeconds-before.Stats.AppendSeconds)/appends*1e9)),
		float64(after.Stats.AppendedBytes-before.Stats.AppendedBytes)/float64(after.Stats.Completed-before.Stats.Completed)), "", "")
	return nil
}
