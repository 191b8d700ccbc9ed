package engine_test

import (
	"errors"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// A log whose front was deleted by somebody else is refused by name. It is never
// taken for an empty one: what was accepted would be gone without a word.
func TestLogWithoutItsFront(t *testing.T) {
	headers := func(l *memLog) (at []int) {
		for o := l.start; o < len(l.records); o++ {
			if runtime.IsHeader(l.records[o]) {
				at = append(at, o)
			}
		}
		return at
	}
	for name, damage := range map[string]func(l *memLog) int{
		"all of it":              func(l *memLog) int { return len(l.records) },
		"up to behind a header":  func(l *memLog) int { return headers(l)[1] + 1 },
		"up to the first header": func(l *memLog) int { return headers(l)[0] },
		"up to the last header":  func(l *memLog) int { h := headers(l); return h[len(h)-1] },
	} {
		t.Run(name, func(t *testing.T) {
			r := newMeshRig(t, 1)
			first := r.open("a", func(c *engine.Config) { c.TrimAt = 1 << 10 })
			for range 3 { // a header each eighth of the threshold
				tell := call("app", "A", "1", "m")
				tell.Kind, tell.Body = runtime.Tell, make([]byte, 300)
				if _, err := first.Call(within(t), tell); err != nil {
					t.Fatal(err)
				}
			}
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			delete(r.nodes, "a")
			l := r.logs[0]
			l.start = damage(l)
			r.store.applied[0] = 0
			records := len(l.records)
			second := r.start("b")
			var e *runtime.Error
			eventually(t, "the damage is said", func() bool {
				return errors.As(second.Healthy(within(t)), &e) && e.Code == runtime.CodeDamaged
			})
			if _, err := second.Call(within(t), call("app", "A", "1", "m")); !errors.As(err, &e) || e.Code != runtime.CodeDamaged {
				t.Errorf("a call: %v", err)
			}
			if l.mu.Lock(); len(l.records) != records {
				t.Error("the partition was claimed")
			}
			l.mu.Unlock()
		})
	}
}

// A log that is empty, or that ends earlier, while the store holds what was decided.
func TestStoreThatIsAheadOfTheLog(t *testing.T) {
	r := newMeshRig(t, 1)
	r.store.applied[0] = 100
	m := r.start("a")
	var e *runtime.Error
	eventually(t, "the damage is said", func() bool {
		return errors.As(m.Healthy(within(t)), &e) && e.Code == runtime.CodeDamaged
	})
}

// An owner that lives sees that somebody has deleted the front of its log: it
// says so, and writes anew what its memory still holds, for the next owner.
func TestOwnerWritesAnewWhatSomebodyDeleted(t *testing.T) {
	r := newMeshRig(t, 1)
	m := r.open("a")
	for range 5 {
		tell := call("app", "A", "1", "m")
		tell.Kind = runtime.Tell
		if _, err := m.Call(within(t), tell); err != nil {
			t.Fatal(err)
		}
	}
	l := r.logs[0]
	l.mu.Lock()
	l.start = len(l.records) - 1
	l.mu.Unlock()
	eventually(t, "it is said", func() bool { return m.Stats().LogsTorn == 1 })
	eventually(t, "all is written anew", func() bool { return m.Stats().Trims == 1 })
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	delete(r.nodes, "a")
	next := r.open("b")
	eventually(t, "the next owner has them", func() bool { return next.Stats().Pending == 5 })
}

// The bodies of some requests were in the deleted front only: those end, loudly, and
// all others go on, with this owner and with the next.
func TestBodiesInADeletedFront(t *testing.T) {
	r := newMeshRig(t, 1)
	m := r.open("a", func(c *engine.Config) { c.Memory = 256 << 10 })
	const n = 50
	for i := range n {
		tell := call("app", "A", strconv.Itoa(i), "m")
		tell.Kind, tell.Body = runtime.Tell, make([]byte, 4<<10)
		if _, err := m.Accept(within(t), tell); err != nil {
			t.Fatal(err)
		}
	}
	l := r.logs[0]
	l.mu.Lock()
	l.start = len(l.records) - 1
	l.mu.Unlock()
	eventually(t, "all that is there is written anew", func() bool { return m.Stats().Trims == 1 })
	s := m.Stats()
	t.Logf("%d of %d requests have lost their bodies", s.DeadLetters, n)
	if s.DeadLetters == 0 || s.Pending == 0 || s.Pending+int(s.DeadLetters) != n {
		t.Errorf("%d requests are open, %d have ended", s.Pending, s.DeadLetters)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	delete(r.nodes, "a")
	next := r.open("b")
	var runs atomic.Int32
	attach(t, next, actorHost("h"), func(i *runtime.Invoke) *runtime.Outcome {
		if len(i.Body) == 4<<10 {
			runs.Add(1)
		}
		return ok("")
	})
	eventually(t, "the others have run", func() bool { return int(runs.Load()) >= s.Pending && next.Stats().Pending == 0 })
}

// The last owner's cut may land when the next one has begun: nobody else has
// deleted anything then. What goes further is somebody else's.
func TestLateCutOfTheLastOwner(t *testing.T) {
	r := newMeshRig(t, 1)
	l := r.logs[0]
	cut := make(chan uint64, 1)
	l.late = func(before uint64) {
		select {
		case cut <- before:
		default:
		}
	}
	m := r.open("a", func(c *engine.Config) { c.TrimAt = 4 << 10 })
	act := runtime.Actor{App: "app", Type: "A", ID: "1"}
	var before uint64
	for before == 0 {
		op := runtime.StateOp{Actor: act, Verb: runtime.StateSet, Key: "k", Value: make([]byte, 300)}
		if _, err := m.State(within(t), op); err != nil {
			t.Fatal(err)
		}
		select {
		case before = <-cut:
		default:
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	delete(r.nodes, "a")
	next := r.open("b") // with a large threshold: it cuts nothing itself
	l.mu.Lock()
	l.late, l.start = nil, int(before)
	l.mu.Unlock()
	seen := l.bounds.Load()
	eventually(t, "the next owner looks where the log begins", func() bool { return l.bounds.Load() > seen+2 })
	if n := next.Stats().LogsTorn; n != 0 {
		t.Errorf("a late cut was taken for somebody else's")
	}
	l.mu.Lock()
	l.start = len(l.records) - 1
	l.mu.Unlock()
	eventually(t, "a deletion that goes further is said", func() bool { return next.Stats().LogsTorn > 0 })
}
