package engine_test

import (
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

func tellTo(id string) *runtime.Request {
	r := call("app", "A", id, "m")
	r.Kind = runtime.Tell
	return r
}

// Logs and store are away, and nobody is attached: the node tries about once a
// second, for all of its partitions, counts as idle, and goes on when they are back.
func TestWhatIsAbsentIsTriedOnceASecond(t *testing.T) {
	for name, before := range map[string]bool{"from the start": true, "later": false} {
		t.Run(name, func(t *testing.T) {
			r := newMeshRig(t, 16)
			gone := func(gone bool) {
				r.store.mu.Lock()
				r.store.away = gone
				r.store.mu.Unlock()
				for _, l := range r.logs {
					l.gone.Store(gone)
				}
			}
			gone(before)
			m := r.start("a")
			if !before {
				if err := m.Settled(within(t)); err != nil {
					t.Fatal(err)
				}
				gone(true)
				go func() { _, _ = m.Call(t.Context(), tellTo("1")) }() // an append that does not end
			}
			time.Sleep(6 * time.Second) // what is away for a moment is tried more often
			tries := func() (n int64) {
				for _, l := range r.logs {
					n += l.asked.Load()
				}
				return n
			}
			was := tries()
			time.Sleep(3 * time.Second)
			if n := tries() - was; n > 9 {
				t.Errorf("%d tries in 3 s", n)
			}
			if !m.Idle() {
				t.Error("it is not idle")
			}
			gone(false)
			for p := range uint16(16) {
				eventually(t, "the partition works", func() bool {
					_, err := m.Call(within(t), tellTo(r.actorIn(p)))
					return err == nil
				})
			}
		})
	}
}
