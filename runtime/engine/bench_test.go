package engine_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/embedded"
	"github.com/karmesh/kar/runtime/engine"
)

// inline answers every invocation at once, on the engine's own goroutine.
type inline struct {
	owners runtime.Owners
	boot   string
	out    *runtime.Outcome
}

func (h *inline) Send(m runtime.HostMessage) {
	if in, ok := m.(*runtime.Invoke); ok {
		h.owners.Answered(h.boot, runtime.Answer{Attempt: in.Attempt, Outcome: h.out})
	}
}

// BenchmarkCall is the engine alone: rules, log and fsync, without HTTP.
func BenchmarkCall(b *testing.B) {
	for _, clients := range []int{1, 128} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			d, err := embedded.Open(b.TempDir(), embedded.Options{Mesh: "bench", Partitions: 1})
			if err != nil {
				b.Fatal(err)
			}
			defer d.Close()
			m, err := engine.Open(b.Context(), engine.Config{Mesh: "bench", Logs: d.Log, Store: d.Store()})
			if err != nil {
				b.Fatal(err)
			}
			defer m.Close()
			h := &inline{m, "b", &runtime.Outcome{Status: 200, Header: runtime.Header{"Content-Type": {"application/kar+json"}}, Body: []byte(`{"value":1}`)}}
			if err := m.HostUp(runtime.HostInfo{Boot: "b", App: "app", Actors: []string{"A"}, Idle: 10_000}, runtime.JoinAnswer{}, h); err != nil {
				b.Fatal(err)
			}
			var n atomic.Int64
			b.SetParallelism(clients / 2)
			if clients == 1 {
				b.SetParallelism(1)
			}
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					r := &runtime.Request{Target: runtime.Target{App: "app", Type: "A", ID: fmt.Sprint(n.Add(1) % 1000)}, Method: "POST", Path: "/m", Body: []byte(`[1,2,3]`), NoHost: 120000, Busy: 120000}
					if _, err := m.Call(b.Context(), r); err != nil {
						b.Fatal(err)
					}
					m.Release(r.Target.App, r.ID)
				}
			})
		})
	}
}

// BenchmarkState reads and writes one key of an actor, without HTTP.
func BenchmarkState(b *testing.B) {
	d, err := embedded.Open(b.TempDir(), embedded.Options{Mesh: "bench", Partitions: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	m, err := engine.Open(b.Context(), engine.Config{Mesh: "bench", Logs: d.Log, Store: d.Store()})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	var n atomic.Int64
	b.SetParallelism(8)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			a := runtime.Actor{App: "app", Type: "A", ID: fmt.Sprint(n.Add(1) % 1000)}
			if _, err := m.State(b.Context(), runtime.StateOp{Actor: a, Verb: runtime.StateGet, Key: "k"}); err != nil {
				b.Fatal(err)
			}
			if _, err := m.State(b.Context(), runtime.StateOp{Actor: a, Verb: runtime.StateSet, Key: "k", Value: []byte(`{"n":1}`)}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
