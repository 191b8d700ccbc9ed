package engine

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/embedded"
)

// A fallingStore is where the test says once it has fallen, and takes nothing then.
type fallingStore struct {
	runtime.Store
	fallen  atomic.Bool
	apply   uint64        // where it is for who writes
	applied func() uint64 // where it is for who asks, 0 for an answer that never comes
	written chan struct{}
}

func (s *fallingStore) Apply(ctx context.Context, p uint16, from, to uint64, w []runtime.Mutation) (uint64, error) {
	if !s.fallen.Load() {
		return s.Store.Apply(ctx, p, from, to, w)
	}
	select {
	case s.written <- struct{}{}:
	default:
	}
	return s.apply, nil
}

func (s *fallingStore) Applied(ctx context.Context, p uint16) (uint64, error) {
	if !s.fallen.Load() {
		return s.Store.Applied(ctx, p)
	}
	if at := s.applied(); at > 0 {
		return at, nil
	}
	return 0, errors.New("the store does not answer")
}

// Once it is known that a store has lost what it had made durable, the log is not cut by
// what was durable there, whoever has found it out: a write, a read, or the question where
// the store is.
func TestNothingIsDurableInAFallenStore(t *testing.T) {
	for name, fall := range map[string]func(s *fallingStore, a *applier, seq uint64, write func()){
		"a write": func(s *fallingStore, _ *applier, _ uint64, write func()) {
			s.fallen.Store(true)
			write()
		},
		"a read": func(s *fallingStore, a *applier, seq uint64, _ func()) {
			s.fallen.Store(true)
			a.saw(seq - 1)
		},
		"the question": func(s *fallingStore, _ *applier, seq uint64, write func()) {
			s.apply, s.applied = seq, func() uint64 { return seq - 1 }
			s.fallen.Store(true)
			write()
			<-s.written
			write() // it is written again when it was asked
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := embedded.Open(t.TempDir(), embedded.Options{Mesh: "m", Partitions: 1})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = d.Close() })
			s := &fallingStore{Store: d.Store(), written: make(chan struct{}, 1), applied: func() uint64 { return 0 }}
			m, err := Open(t.Context(), Config{Mesh: "m", Partitions: 1, Store: s, Logs: d.Log})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = m.Close() })
			write := func() {
				op := runtime.StateOp{Actor: runtime.Actor{App: "app", Type: "A", ID: "1"}, Verb: runtime.StateSet, Key: "k", Value: []byte("1")}
				if _, err := m.State(t.Context(), op); err != nil {
					t.Fatal(err)
				}
			}
			write()
			a := m.parts[0].applier.Load()
			end := time.Now().Add(10 * time.Second)
			until := func(what string, ok func() bool) {
				for !ok() {
					if time.Now().After(end) {
						t.Fatal("never: " + what)
					}
					time.Sleep(time.Millisecond)
				}
			}
			a.mu.Lock()
			seq := a.lastChange
			a.mu.Unlock()
			until("it is durable", func() bool { return a.durable(seq) })
			fall(s, a, seq, write)
			until("what it has lost is not durable there", func() bool { return !a.durable(seq) })
		})
	}
}
