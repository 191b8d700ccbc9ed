package engine_test

import (
	"context"
	goruntime "runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// A log does not answer, and clients give up and ask for something else: what
// they asked for is not kept by the owner, and does not run later. What those
// bring along who go on waiting has a bound.
func TestImpatientClients(t *testing.T) {
	const memory, size, many = 8 << 20, 1 << 20, 64
	for name, through := range map[string]string{"here": "a", "through another": "b"} {
		t.Run(name, func(t *testing.T) {
			r := newMeshRig(t, 8)
			mended := make(chan struct{})
			var broken atomic.Int32
			var stuck atomic.Bool
			broken.Store(-1)
			mend := sync.OnceFunc(func() { broken.Store(-1); close(mended) })
			a := r.open("a", func(cfg *engine.Config) {
				cfg.Memory = memory
				logs := cfg.Logs
				cfg.Logs = func(p uint16) (runtime.Log, error) {
					l, err := logs(p)
					return &silentLog{l, mended, func() bool {
						hit := broken.Load() == int32(p)
						if hit {
							stuck.Store(true)
						}
						return hit
					}}, err
				}
			})
			t.Cleanup(mend)
			if through == "b" {
				spread(t, a, r.open("b"))
			}
			ask := r.nodes[through]
			var ran sync.Map
			attach(t, a, actorHost("h"), func(i *runtime.Invoke) *runtime.Outcome { ran.Store(i.Path, true); return ok("1") })
			var p uint16
			for a.Owners()[p] != "a" {
				p++
			}
			actor := r.actorIn(p)
			tell := func(ctx context.Context, method string) error {
				q := tellTo(actor)
				q.Path, q.Body = "/"+method, make([]byte, size)
				_, err := ask.Accept(ctx, q)
				return err
			}
			heap := func() int64 {
				goruntime.GC()
				var s goruntime.MemStats
				goruntime.ReadMemStats(&s)
				return int64(s.HeapAlloc)
			}
			if err := tell(within(t), "before"); err != nil {
				t.Fatal(err)
			}
			broken.Store(int32(p))
			first := make(chan error, 1)
			go func() { first <- tell(within(t), "first") }()
			eventually(t, "an append is under way", func() bool { return stuck.Load() })
			before := heap()
			gone, leave := context.WithCancel(t.Context())
			leave()
			for range many {
				if err := tell(gone, "left"); err == nil {
					t.Fatal("accepted by a log that does not answer")
				}
			}
			eventually(t, "what nobody waits for is not kept", func() bool {
				return heap() < before+memory && a.Stats().WorkBytes < memory/2
			})
			results := make(chan error, many)
			for range many {
				go func() { results <- tell(within(t), "waits") }()
			}
			for range many - memory/size {
				if err := <-results; codeIn(err) != runtime.CodeUnavailable {
					t.Errorf("who waits beyond the bound: %v", err)
				}
			}
			mend()
			if err := <-first; err != nil {
				t.Error(err)
			}
			accepted := 0
			for range memory / size {
				if <-results == nil {
					accepted++
				}
			}
			if accepted == 0 {
				t.Error("none of those who waited was accepted")
			}
			if _, err := ask.Call(within(t), call("app", "A", actor, "last")); err != nil {
				t.Error(err)
			}
			if _, did := ran.Load("/left"); did {
				t.Error("what nobody waited for ran")
			}
			if n := a.Stats().WorkBytes; n > memory/2 {
				t.Errorf("%d bytes are counted when all is done", n)
			}
		})
	}
}
