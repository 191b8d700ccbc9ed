package engine

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/embedded"
)

// A gatedLog shows each append and lets it go on when told to.
type gatedLog struct {
	runtime.Log
	shut    atomic.Bool
	appends chan chan struct{}
}

func (l *gatedLog) Append(ctx context.Context, batch [][]byte) (first, next uint64, err error) {
	if l.shut.Load() {
		pass := make(chan struct{})
		l.appends <- pass
		<-pass
	}
	return l.Log.Append(ctx, batch)
}

// A read waits for the rounds in front of its own, and not for the append of
// its own, even when a write was asked for before it.
func TestReadDoesNotWaitForItsRound(t *testing.T) {
	d, err := embedded.Open(t.TempDir(), embedded.Options{Mesh: "m", Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	l := &gatedLog{appends: make(chan chan struct{})}
	m, err := Open(t.Context(), Config{Mesh: "m", Store: d.Store(), Logs: func(p uint16) (runtime.Log, error) {
		inner, err := d.Log(p)
		l.Log = inner
		return l, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p := m.parts[0]
	a := runtime.Actor{App: "app", Type: "A", ID: "1"}
	if _, err := m.State(t.Context(), runtime.StateOp{Actor: a, Verb: runtime.StateSet, Key: "k", Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	l.shut.Store(true)
	write := func() (*waiter, runtime.Input) {
		w := newWaiter()
		return w, &runtime.SetReminder{Reminder: runtime.Reminder{Actor: a, ID: "r", Path: "/m", Due: time.Now().Add(time.Hour).UnixMilli()}, Waiter: w}
	}
	w1, in1 := write()
	p.push(in1)
	first := <-l.appends
	view, err := p.view(t.Context(), "app", nil, runtime.ActorPrefix(a, 0))
	if err != nil {
		t.Fatal(err)
	}
	w2, in2 := write()
	read := newWaiter()
	p.push(in2, &runtime.StateInput{Op: runtime.StateOp{Actor: a, Verb: runtime.StateGet, Key: "k"}, View: view, Waiter: read})
	if len(read.ch) != 0 {
		t.Fatal("the read did not wait for the round in front of its own")
	}
	close(first)
	second := <-l.appends // of the read's own round
	select {
	case r := <-read.ch:
		if v, _ := r.value.(runtime.StateResult); string(v.Value) != "v" {
			t.Errorf("read %+v", r)
		}
	case <-time.After(10 * time.Second):
		t.Error("the read waits for the append of its own round")
	}
	if len(w2.ch) != 0 {
		t.Error("the write was answered before it was durable")
	}
	l.shut.Store(false)
	close(second)
	<-w1.ch
	<-w2.ch
}
