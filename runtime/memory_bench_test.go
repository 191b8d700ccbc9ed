package runtime

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkMemory is what one pending reminder, one active actor and one ended
// id cost in the memory of a partition.
func BenchmarkMemory(b *testing.B) {
	const n = 100_000
	for b.Loop() {
		c := New(Config{Mesh: "m", Partitions: 1, Node: "n", Lease: 6000, IDWindow: 600_000})
		now := Now{Wall: 1_900_000_000_000, Mono: 1}
		if _, err := c.Fold(c.Claim(now)); err != nil || !c.Own(now, 0) {
			b.Fatal("not owned")
		}
		step := func(in Input) {
			c.Step(now, in)
			c.Recycle(c.Take())
			c.TakeChanges()
		}
		before := heapInUse()
		for i := range n {
			step(&SetReminder{Reminder: Reminder{Actor: Actor{"app", "Type", fmt.Sprint("id", i)}, ID: "r", Path: "/method", Due: now.Wall + 1e9, Data: []byte(`["x"]`)}})
		}
		reminders := heapInUse()
		b.ReportMetric(float64(reminders-before)/n, "B/reminder")
		step(&HostJoined{Info: HostInfo{Boot: "b", App: "app", Actors: []string{"A"}}})
		for i := range n {
			id := NewID(now.Wall, 0, "app", [6]byte{byte(i), byte(i >> 8), byte(i >> 16)})
			step(&Submit{Request: Request{ID: id, Target: Target{App: "app", Type: "A", ID: fmt.Sprint("id", i)}, Method: "POST", Path: "/m"}})
			step(&Answered{Boot: "b", Answer: Answer{Attempt: Attempt{ID: id, Number: 1}, Outcome: &Outcome{Status: 204}}})
			step(&Release{IDs: []ID{id}})
		}
		actors := heapInUse()
		b.ReportMetric(float64(actors-reminders)/n, "B/actor+id")
		runtime.KeepAlive(c)
	}
}

// BenchmarkHost is how long everybody else waits while a host with many idle
// actors joins again, and is lost.
func BenchmarkHost(b *testing.B) {
	const n = 100_000
	for b.Loop() {
		c := New(Config{Mesh: "m", Partitions: 1, Node: "n", Lease: 6000, IDWindow: 600_000})
		now := Now{Wall: 1_900_000_000_000, Mono: 1}
		if _, err := c.Fold(c.Claim(now)); err != nil || !c.Own(now, 0) {
			b.Fatal("not owned")
		}
		step := func(in Input) time.Duration {
			began := time.Now()
			c.Step(now, in)
			took := time.Since(began)
			c.Recycle(c.Take())
			return took
		}
		info := HostInfo{Boot: "b", App: "app", Actors: []string{"A"}, Idle: 10_000}
		step(&HostJoined{Info: info})
		for i := range n {
			id := NewID(now.Wall, 0, "app", [6]byte{byte(i), byte(i >> 8), byte(i >> 16)})
			step(&Submit{Request: Request{ID: id, Target: Target{App: "app", Type: "A", ID: fmt.Sprint("id", i)}, Method: "POST", Path: "/m"}})
			step(&Answered{Boot: "b", Answer: Answer{Attempt: Attempt{ID: id, Number: 1}, Outcome: &Outcome{Status: 204}}})
		}
		b.ReportMetric(float64(step(&HostJoined{Info: info}).Milliseconds()), "ms/join")
		b.ReportMetric(float64(step(&HostDown{Boot: "b"}).Milliseconds()), "ms/lost")
	}
}
