package engine

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/embedded"
)

// A fullLog refuses appends while it is full, and tells where it is cut.
type fullLog struct {
	runtime.Log
	full    atomic.Bool
	refused func()
	cut     chan uint64
}

func (l *fullLog) Append(ctx context.Context, batch [][]byte) (first, next uint64, err error) {
	if l.full.Load() {
		l.refused()
		return 0, 0, runtime.Errorf(runtime.CodeDiskFull, "no space left")
	}
	return l.Log.Append(ctx, batch)
}

func (l *fullLog) Trim(ctx context.Context, before uint64) error {
	err := l.Log.Trim(ctx, before)
	select {
	case l.cut <- before:
	default:
	}
	return err
}

func openFullLog(t *testing.T) (*Mesh, *partition, *fullLog) {
	t.Helper()
	d, err := embedded.Open(t.TempDir(), embedded.Options{Mesh: "m", Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	l := &fullLog{cut: make(chan uint64, 1)}
	m, err := Open(t.Context(), Config{Mesh: "m", Partitions: 1, Store: d.Store(), Logs: func(p uint16) (runtime.Log, error) {
		inner, err := d.Log(p)
		l.Log = inner
		return l, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m, m.parts[0], l
}

// What a round has decided is nothing to cut the log by before the round has
// landed: a request that it ends in vain is open again for who reads the log.
func TestUndurableRoundCutsNothing(t *testing.T) {
	m, p, l := openFullLog(t)
	r := &runtime.Request{Kind: runtime.Promise, Target: runtime.Target{App: "app", Type: "B", ID: "x"}, Method: "POST", Path: "/m", Body: []byte("[]")}
	id, err := m.Accept(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	header := func(ctx context.Context) {
		p.trim.sinceMark = p.trim.threshold
		if err := p.round(ctx, nil); err != nil {
			t.Error(err)
		}
	}
	// The log has two headers; the request alone stands in front of the second.
	p.order(t.Context(), header)
	p.order(t.Context(), header)
	cancel := func() []runtime.Input {
		return []runtime.Input{&runtime.Cancel{App: "app", ID: id, Waiter: newWaiter()}}
	}
	p.order(t.Context(), func(ctx context.Context) {
		p.trim.threshold = 1 // now
		l.refused = func() {
			if p.trim.cutting {
				t.Error("the log is cut by what a round says that has not landed")
			}
		}
		l.full.Store(true)
		err := p.round(ctx, cancel())
		l.full.Store(false)
		if err == nil {
			t.Error("a full log took the round")
		}
		p.repair(ctx, err)
	})
	info, err := m.Request(t.Context(), "app", id)
	if err != nil || info.State == "" || info.State == "completed" {
		t.Fatalf("the request that was not cancelled: %+v %v", info, err)
	}
	// The same in a round that lands.
	p.order(t.Context(), func(ctx context.Context) {
		p.trim.threshold = 1
		if err := p.round(ctx, cancel()); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-l.cut:
	case <-time.After(10 * time.Second):
		t.Fatal("the log is not cut by what a round says that has landed")
	}
}

// However large a header is, it does not ask for the next one.
func TestHeaderAsksForNoOther(t *testing.T) {
	_, p, _ := openFullLog(t)
	p.order(t.Context(), func(ctx context.Context) {
		p.trim.threshold, p.trim.sinceMark = 80, 80 // an eighth of it is less than a header
		for range 20 {
			before := p.next
			if err := p.round(ctx, nil); err != nil {
				t.Error(err)
			}
			if p.next == before {
				return
			}
		}
		t.Error("each header asks for the next one")
	})
}
