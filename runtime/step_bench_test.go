package runtime

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// timed plays an input and then ticks until all of it is done; it returns the
// longest step, in milliseconds of processor time without the collector's.
func (b *bench) timed(in Input) float64 {
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	longest := time.Duration(0)
	step := func(in Input) {
		watch := startWatch()
		b.c.Step(b.now, in)
		longest = max(longest, watch.spent())
		b.c.Recycle(b.c.Take())
		b.c.TakeChanges()
	}
	for step(in); b.c.Due(b.now) == 0; step(&Tick{}) {
		b.now.Mono++
		b.now.Wall++
	}
	return float64(longest.Microseconds()) / 1000
}

// BenchmarkStep is what the longest step costs when much changes at once, in
// milliseconds; design: under 10.
func BenchmarkStep(b *testing.B) {
	const actors, parked = 200_000, 10_000
	for b.Loop() {
		w := newBench(b, Config{HostLimit: parked})
		quiet := func(in Input) {
			w.c.Step(w.now, in)
			w.c.Recycle(w.c.Take())
			w.c.TakeChanges()
		}
		info := func(boot string) *HostJoined {
			return &HostJoined{Info: HostInfo{Boot: boot, App: "dp", Service: "s", Actors: []string{"A"}, Grace: 6000, Idle: 60_000}}
		}
		quiet(info("h1"))
		submit := func(t Target) ID {
			w.n++
			id := NewID(w.now.Wall, 0, "dp", [6]byte{byte(w.n >> 16), byte(w.n >> 8), byte(w.n)})
			quiet(&Submit{Request: Request{ID: id, Kind: Tell, Target: t, Method: "POST"}})
			return id
		}
		var instances []Actor
		for i := range actors {
			t := Target{App: "dp", Type: "A", ID: utoa(uint64(i))}
			id := submit(t)
			quiet(&Answered{Boot: "h1", Answer: Answer{Attempt: Attempt{ID: id, Number: 1}, Outcome: &Outcome{Status: 200}}})
			instances = append(instances, t.Actor())
		}
		var runs []Attempt
		for range parked {
			runs = append(runs, Attempt{ID: submit(Target{App: "dp", Service: "s"}), Number: 1})
		}
		again := info("h1")
		again.Join = JoinAnswer{Running: runs, Instances: instances}
		quiet(&HostUnlinked{Boot: "h1"})
		b.ReportMetric(w.timed(again), "ms/re-join")
		away := info("h1")
		away.Info.Draining = true
		b.ReportMetric(w.timed(&HostChanged{Info: away.Info}), "ms/drain")
		quiet(info("h2"))
		b.ReportMetric(w.timed(&HostDown{Boot: "h1"}), "ms/loss")
		b.ReportMetric(w.timed(&HostDown{Boot: "h2"}), "ms/loss-of-10,000-running")
		b.ReportMetric(w.timed(info("h3")), "ms/retry-of-10,000")
		w.timed(&HostDown{Boot: "h3"})
		w.now.Mono += 10_000 // all back-offs are over
		b.ReportMetric(w.timed(&Tick{}), "ms/10,000-timers")
		b.ReportMetric(w.timed(info("h4")), "ms/10,000-suspects")
		for i := range parked {
			quiet(&SetReminder{Reminder: Reminder{Actor: Actor{"dp", "A", utoa(uint64(i))}, ID: "r", Path: "/m", Due: w.now.Wall + 1000}})
		}
		w.now.Wall += 2000
		w.now.Mono += 900
		b.ReportMetric(w.timed(&Tick{}), "ms/10,000-reminders")
		w.c.Step(w.now, &Tick{})
	}
}

// BenchmarkStepOfMany is the longest step, in milliseconds: when 100,000 waiting
// requests are cancelled or drained; when 20,000 subscriptions of one actor end, or
// those of a purge; when another partition asks for 100,000 calls of its.
func BenchmarkStepOfMany(b *testing.B) {
	for b.Loop() {
		for what, in := range map[string]Input{"ms/cancel": &CancelAll{App: "dp", Waiter: 1}, "ms/drain": &Drain{App: "dp", Waiter: 1}} {
			w := newBench(b, Config{})
			for i := range 100_000 {
				w.quiet(Request{Kind: Tell, Target: Target{App: "dp", Type: "C", ID: utoa(uint64(i))}})
			}
			b.ReportMetric(w.timed(in), what)
		}
		for what, in := range map[string]Input{"ms/unsubscribe": &Unsubscribe{Actor: Actor{"dp", "A", "1"}, Waiter: 1}, "ms/purge-of-subscriptions": &Purge{App: "dp", Waiter: 1}} {
			w := newBench(b, Config{})
			for i := range 20_000 {
				w.step(&Subscribe{Subscription: Subscription{Actor: Actor{"dp", "A", "1"}, ID: utoa(uint64(i)), Path: "/m", Topic: utoa(uint64(i))}})
			}
			b.ReportMetric(w.timed(in), what)
		}
		w := newBench(b, Config{Partitions: 2})
		parent := []ID{NewID(w.now.Wall, 1, "dp", [6]byte{})}
		for range 100_000 {
			w.n++
			id := NewID(w.now.Wall, 0, "dp", [6]byte{byte(w.n >> 16), byte(w.n >> 8), byte(w.n)})
			v := &Vouched{Flow: parent[0], Parents: parent, Partition: 1, Epoch: 1}
			w.step(&Submit{Request: Request{ID: id, Target: Target{App: "dp", Service: "s"}, Method: "POST"}, Vouched: v, Waiter: w.n})
		}
		b.ReportMetric(w.timed(&FenceAsk{From: 1, Epoch: 2, Part: 1}), "ms/fence")
	}
}

// BenchmarkStepOfPurge is the longest step of a purge of 100,000 requests, in
// milliseconds: of a tell to each of as many actors, in one mailbox, and of one that
// has no host; and of 10,000 running calls.
func BenchmarkStepOfPurge(b *testing.B) {
	waits := map[string]func(w *bench, i int){
		"ms/mailboxes": func(w *bench, i int) {
			w.quiet(Request{Kind: Tell, Target: Target{App: "dp", Type: "C", ID: utoa(uint64(i))}})
		},
		"ms/mailbox": func(w *bench, i int) {
			w.quiet(Request{Target: Target{App: "dp", Type: "C", ID: "one"}})
		},
		"ms/service": func(w *bench, i int) {
			w.quiet(Request{Kind: Tell, Target: Target{App: "dp", Service: "t"}})
		},
		"ms/10,000-running": func(w *bench, i int) {
			if i%10 == 0 {
				w.quiet(Request{Target: Target{App: "dp", Type: "A", ID: utoa(uint64(i))}})
			}
		},
	}
	for b.Loop() {
		for what, wait := range waits {
			w := newBench(b, Config{})
			w.host("h1")
			for i := range 100_000 {
				wait(w, i)
			}
			b.ReportMetric(w.timed(&Purge{App: "dp", Waiter: 1}), what)
		}
	}
}

// quiet submits a request and forgets what comes of it.
func (b *bench) quiet(r Request) {
	b.n++
	r.ID, r.Target.App, r.Method = NewID(b.now.Wall, 0, "dp", [6]byte{byte(b.n >> 16), byte(b.n >> 8), byte(b.n)}), "dp", "POST"
	b.c.Step(b.now, &Submit{Request: r, Waiter: b.n})
	b.c.Recycle(b.c.Take())
	b.c.TakeChanges()
}
