package engine_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
	"github.com/karmesh/kar/runtime/runtimetest"
)

// A pieceLog appends a batch in two pieces, as Kafka's does with a large one.
type pieceLog struct {
	*memHandle
	between func() // is called between two pieces
}

func (l *pieceLog) Append(ctx context.Context, batch [][]byte) (first, next uint64, err error) {
	if len(batch) < 2 {
		return l.memHandle.Append(ctx, batch)
	}
	if first, _, err = l.memHandle.Append(ctx, batch[:1]); err != nil {
		return 0, 0, err
	}
	l.between()
	_, next, err = l.memHandle.Append(ctx, batch[1:])
	return first, next, err
}

func (l *memLog) put(record []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, record)
}

func TestLogInPieces(t *testing.T) {
	l := &memLog{}
	one := &pieceLog{&memHandle{memLog: l, node: "a"}, func() { time.Sleep(time.Millisecond) }}
	if _, split := runtimetest.TwoWriters(t, one, &memHandle{memLog: l, node: "b"}, 10); split == 0 {
		t.Error("nothing landed between two pieces")
	}
}

// inPieces has a node's rounds go out in pieces.
func inPieces(between func()) func(*engine.Config) {
	return func(c *engine.Config) {
		logs := c.Logs
		c.Logs = func(p uint16) (runtime.Log, error) {
			h, err := logs(p)
			return &pieceLog{h.(*memHandle), between}, err
		}
	}
}

// fold is what a gateway knows that has read the log.
func (l *memLog) fold(t *testing.T, node string) *runtime.Core {
	c := runtime.New(runtime.Config{Mesh: "test", Partition: 0, Partitions: 1, Node: node})
	if err := l.Read(t.Context(), 0, func(_ uint64, b []byte) error {
		_, err := c.Fold(b)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return c
}

// Another's claim lands between two pieces of a round: the owner is none from
// then on, and what it accepts is accepted by the next one.
func TestClaimBetweenPieces(t *testing.T) {
	r := newMeshRig(t, 1)
	l := r.logs[0]
	var armed atomic.Bool
	a := r.open("a", inPieces(func() {
		if armed.CompareAndSwap(true, false) {
			l.put(l.fold(t, "z").Claim(runtime.Now{Wall: time.Now().UnixMilli(), Mono: 1}))
		}
	}))
	let := make(chan struct{})
	attach(t, a, actorHost("h"), func(*runtime.Invoke) *runtime.Outcome { <-let; return ok("") })
	defer close(let)
	accept := func(id string) runtime.ID {
		x := call("app", "A", id, "m")
		x.Kind = runtime.Tell
		got, err := a.Accept(within(t), x)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	accepted := []runtime.ID{accept("0")}
	armed.Store(true)
	for i := range 5 {
		accepted = append(accepted, accept(fmt.Sprint(1+i)))
	}
	if armed.Load() {
		t.Fatal("no round went out in pieces")
	}
	if c := l.fold(t, "y"); c.Epoch() < 3 {
		t.Errorf("the log is in term %d, and the owner of term 1 goes on", c.Epoch())
	}
	delete(r.nodes, "a")
	a.Close()
	next := r.open("b")
	for i, id := range accepted {
		if info, err := next.Request(within(t), "app", id); err != nil {
			t.Errorf("tell %d was accepted, and the next owner says %+v, %v", i, info, err)
		}
	}
}

// Where records are said to stand they are, also when something else lies
// between the pieces of their round: bodies are read there, and the log is cut there.
func TestPlacesOfPieces(t *testing.T) {
	r := newMeshRig(t, 1)
	l := r.logs[0]
	m := r.open("a", inPieces(func() {
		l.mu.Lock()
		l.records = append(l.records, l.records[l.start]) // a repeat, which is void
		l.mu.Unlock()
	}), func(c *engine.Config) { c.Memory, c.TrimAt = 256<<10, 1<<20 })
	const n, last = 50, 60
	for i := range n {
		tell := call("app", "A", fmt.Sprint(i), "m")
		tell.Kind, tell.Body = runtime.Tell, make([]byte, 4<<10)
		if _, err := m.Accept(within(t), tell); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all are written anew", func() bool {
		set := runtime.StateOp{Actor: runtime.Actor{App: "app", Type: "A", ID: "other"}, Verb: runtime.StateSet, Key: "k", Value: make([]byte, 4<<10)}
		if _, err := m.State(within(t), set); err != nil {
			t.Fatal(err)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.start > last
	})
	var runs atomic.Int32
	attach(t, m, actorHost("h"), func(i *runtime.Invoke) *runtime.Outcome {
		if len(i.Body) == 4<<10 {
			runs.Add(1)
		}
		return ok("")
	})
	eventually(t, "all have run", func() bool { return runs.Load() >= n && m.Stats().Pending == 0 })
	l.mu.Lock()
	defer l.mu.Unlock()
	if !runtime.IsHeader(l.records[l.start]) {
		t.Error("the log does not begin with a header")
	}
}
