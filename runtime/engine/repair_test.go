package engine_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// A brokenLog refuses appends while broken, or those of many records, holds them at a gate,
// or answers "unknown" although the batch landed.
type brokenLog struct {
	runtime.Log
	broken  atomic.Bool
	most    atomic.Int64 // records of a batch for which there is room, 0 for any
	refused atomic.Int64 // how many appends were
	gate    atomic.Pointer[chan struct{}]
	held    chan struct{} // holds one element when an append is held
	unknown atomic.Int32
	full    atomic.Bool // it is broken behind the last unknown one
}

func (l *brokenLog) Append(ctx context.Context, batch [][]byte) (first, next uint64, err error) {
	if gate := l.gate.Load(); gate != nil {
		select {
		case l.held <- struct{}{}:
		default:
		}
		<-*gate
	} else if most := l.most.Load(); l.broken.Load() || most > 0 && len(batch) > int(most) {
		l.refused.Add(1)
		return 0, 0, runtime.Errorf(runtime.CodeDiskFull, "no space left")
	}
	first, next, err = l.Log.Append(ctx, batch)
	if err == nil && l.unknown.Add(-1) >= 0 {
		l.broken.Store(l.full.Load())
		return 0, 0, &runtime.UnknownError{Cause: errors.New("connection lost")}
	}
	return first, next, err
}

// breakable has a node use such logs.
func breakable(logs map[uint16]*brokenLog) func(*engine.Config) {
	return func(c *engine.Config) {
		of := c.Logs
		c.Logs = func(p uint16) (runtime.Log, error) {
			l, err := of(p)
			logs[p] = &brokenLog{Log: l, held: make(chan struct{}, 1)}
			return logs[p], err
		}
	}
}

// openBreakable is a node with one partition.
func openBreakable(t *testing.T) (n *node, log *brokenLog) {
	t.Helper()
	logs := map[uint16]*brokenLog{}
	n = open(t, t.TempDir(), 1, breakable(logs))
	return n, logs[0]
}

// rejoining is a host that tells when it is asked to join again.
type rejoining struct {
	*fakeHost
	asked chan struct{}
}

func (h *rejoining) Send(m runtime.HostMessage) {
	h.fakeHost.Send(m)
	if _, ok := m.(*runtime.JoinAsk); ok {
		h.asked <- struct{}{}
	}
}

func TestFullDiskRefusesAndComesBack(t *testing.T) {
	n, log := openBreakable(t)
	serve := func(*runtime.Invoke) *runtime.Outcome { return ok(`{"value":1}`) }
	h := &rejoining{
		fakeHost: &fakeHost{owners: n.Mesh, serve: serve, info: runtime.HostInfo{Boot: "b", App: "app", Actors: []string{"A"}}},
		asked:    make(chan struct{}, 10),
	}
	h.link = h
	if err := n.HostUp(h.info, runtime.JoinAnswer{}, h); err != nil {
		t.Fatal(err)
	}
	promise := call("app", "A", "1", "m")
	promise.Kind = runtime.Promise
	id, err := n.Accept(within(t), promise)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Await(within(t), "app", id, ""); err != nil {
		t.Fatal(err)
	}
	log.broken.Store(true)
	_, err = n.Call(within(t), call("app", "A", "1", "m"))
	var e *runtime.Error
	if !errors.As(err, &e) || e.Code != runtime.CodeUnavailable {
		t.Fatalf("with a full disk: %v", err)
	}
	if n.Healthy(within(t)) == nil {
		t.Fatal("healthy with a full disk")
	}
	log.broken.Store(false)
	<-h.asked
	if _, err := n.Call(within(t), call("app", "A", "1", "m")); err != nil {
		t.Fatalf("after the disk has room: %v", err)
	}
	if o, err := n.Await(within(t), "app", id, ""); err != nil || o.Status != 200 {
		t.Fatalf("the promise of before: %v %v", o, err)
	}
	h.stop()
}

// append-unknown: the batch landed, the answer did not. The same bytes land
// again; they count once.
func TestUnknownAppendCountsOnce(t *testing.T) {
	logs, dir := map[uint16]*brokenLog{}, t.TempDir()
	n := open(t, dir, 1, breakable(logs))
	var runs atomic.Int32
	attach(t, n.Mesh, runtime.HostInfo{Boot: "b", App: "app", Actors: []string{"A"}}, func(*runtime.Invoke) *runtime.Outcome {
		runs.Add(1)
		return ok(`{"value":1}`)
	})
	logs[0].unknown.Store(3)
	if _, err := n.Call(within(t), call("app", "A", "1", "m")); err != nil {
		t.Fatal(err)
	}
	a := runtime.Actor{App: "app", Type: "A", ID: "1"}
	logs[0].unknown.Store(1)
	if r, err := n.State(within(t), runtime.StateOp{Actor: a, Verb: runtime.StateSet, Key: "k", Value: []byte("1")}); err != nil || !r.Created {
		t.Fatalf("%+v %v", r, err)
	}
	n.close()
	n = open(t, dir, 1, breakable(logs))
	if r, err := n.State(within(t), runtime.StateOp{Actor: a, Verb: runtime.StateGet, Key: "k"}); err != nil || string(r.Value) != "1" {
		t.Fatalf("%+v %v", r, err)
	}
	if runs.Load() != 1 {
		t.Fatalf("%d runs", runs.Load())
	}
}
