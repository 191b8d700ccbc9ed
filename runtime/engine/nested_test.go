package engine_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// A caller is a running request whose nested calls the test makes by hand. It
// runs on boot "p1" in another partition than child, until p1 goes down.
type caller struct {
	*node
	child   *runtime.Request // to be called under its session
	other   *runtime.Request // to another actor of the caller's type and partition
	retried chan struct{}
}

func newCaller(t *testing.T, change ...func(*engine.Config)) *caller {
	c := &caller{node: open(t, t.TempDir(), 4, change...), retried: make(chan struct{}, 1)}
	part := func(r *runtime.Request) uint16 { return runtime.ActorPartition(r.Target.Actor(), 4) }
	pick := func(typ string, from int, want func(uint16) bool) *runtime.Request {
		for i := from; ; i++ {
			if r := call("app", typ, fmt.Sprint(i), "m"); want(part(r)) {
				return r
			}
		}
	}
	parent := call("app", "P", "0", "m")
	c.child = pick("C", 0, func(p uint16) bool { return p != part(parent) })
	c.other = pick("P", 1, func(p uint16) bool { return p == part(parent) })
	sessions := make(chan string, 1)
	attach(t, c.Mesh, runtime.HostInfo{Boot: "p1", App: "app", Actors: []string{"P"}}, func(in *runtime.Invoke) *runtime.Outcome {
		sessions <- in.Session
		return nil
	})
	parent.Kind = runtime.Tell
	if _, err := c.Accept(within(t), parent); err != nil {
		t.Fatal(err)
	}
	c.child.Session, c.child.Boot = <-sessions, "p1"
	return c
}

// fall lets the caller's host die and another one take its work.
func (c *caller) fall(t *testing.T) {
	c.HostDown("p1", "exited")
	attach(t, c.Mesh, runtime.HostInfo{Boot: "p2", App: "app", Actors: []string{"P"}}, func(in *runtime.Invoke) *runtime.Outcome {
		if in.Attempt.Number > 1 {
			c.retried <- struct{}{}
		}
		return ok(`{"value":1}`)
	})
	if _, err := c.Call(within(t), c.other); err != nil { // all that could start has started
		t.Fatal(err)
	}
}

func (c *caller) awaitRetry(t *testing.T) {
	t.Helper()
	select {
	case <-c.retried:
	case <-within(t).Done():
		t.Fatal("the caller is never tried again")
	}
}

// P4: a child whose caller was told a limit still runs; the caller's retry waits for it.
func TestRetryWaitsForChildThatOutlivedItsLimit(t *testing.T) {
	c := newCaller(t)
	end := make(chan struct{})
	attach(t, c.Mesh, runtime.HostInfo{Boot: "c", App: "app", Actors: []string{"C"}}, func(*runtime.Invoke) *runtime.Outcome {
		<-end
		return ok(`{"value":1}`)
	})
	c.child.Deadline = time.Now().Add(100 * time.Millisecond).UnixMilli()
	if o, err := c.Call(within(t), c.child); err != nil || o.Code != runtime.CodeDeadline {
		t.Fatalf("%+v %v", o, err)
	}
	c.fall(t)
	select {
	case <-c.retried:
		t.Error("the caller is tried again while its child runs")
	default:
	}
	close(end)
	c.awaitRetry(t)
}

// P4: the stream of the caller's sidecar breaks while its call waits for the log of
// another partition, and the sidecar asks again under the same id: that the first one was
// not heard says nothing about the second.
func TestRetryWaitsForChildThatWasAskedForTwice(t *testing.T) {
	logs := map[uint16]*brokenLog{}
	c := newCaller(t, breakable(logs))
	begun, end := make(chan struct{}, 1), make(chan struct{})
	attach(t, c.Mesh, runtime.HostInfo{Boot: "c", App: "app", Actors: []string{"C"}}, func(in *runtime.Invoke) *runtime.Outcome {
		if in.Path == c.child.Path {
			begun <- struct{}{}
			<-end
		}
		return ok(`{"value":1}`)
	})
	log, gate := logs[runtime.ActorPartition(c.child.Target.Actor(), 4)], make(chan struct{})
	log.gate.Store(&gate)
	go c.Accept(within(t), &runtime.Request{Kind: runtime.Tell, Target: c.child.Target, Method: "POST", Path: "/busy"}) //nolint:errcheck // it keeps the log busy
	<-log.held

	c.child.ID = c.NewID(c.child.Target, "")
	ask := func(ctx context.Context) chan error {
		r, over := *c.child, make(chan error, 1)
		go func() { _, err := c.Call(ctx, &r); over <- err }()
		time.Sleep(50 * time.Millisecond) // until it waits for the log; else this test shows less
		return over
	}
	gone, cancel := context.WithCancel(t.Context())
	first := ask(gone)
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // the same: until the log is asked about it
	second := ask(within(t))
	log.gate.Store(nil)
	close(gate)
	<-begun
	time.Sleep(50 * time.Millisecond) // the same: until the answer about the first one is there
	c.fall(t)
	select {
	case <-c.retried:
		t.Error("the caller is tried again while its child runs")
		close(end)
	case <-time.After(100 * time.Millisecond):
		close(end)
		c.awaitRetry(t)
	}
	<-second
}

// P4: the same when the limit passes, or somebody cancels it, while its caller's owner
// already watches it.
func TestRetryWaitsForChildThatIsWatched(t *testing.T) {
	for _, cancelled := range []bool{false, true} {
		c := newCaller(t)
		begun, end := make(chan struct{}, 1), make(chan struct{})
		attach(t, c.Mesh, runtime.HostInfo{Boot: "c", App: "app", Actors: []string{"C"}}, func(*runtime.Invoke) *runtime.Outcome {
			begun <- struct{}{}
			<-end
			return ok(`{"value":1}`)
		})
		gone, cancel := context.WithCancel(t.Context())
		over := make(chan error, 1)
		c.child.ID = c.NewID(c.child.Target, "")
		if !cancelled {
			c.child.Deadline = time.Now().Add(300 * time.Millisecond).UnixMilli()
		}
		told := make(chan struct{})
		id := c.child.ID
		go func() { _, err := c.Call(gone, c.child); over <- err }()
		<-begun
		cancel() // from now on it is watched
		if err := <-over; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if cancelled {
			time.Sleep(50 * time.Millisecond) // until it is, else this test shows less
			if _, err := c.Cancel(within(t), "app", id); err != nil {
				t.Fatal(err)
			}
		}
		go func() { // also tells when the limit has passed: after those who waited before
			defer close(told)
			if o, err := c.Call(within(t), &runtime.Request{ID: id, Kind: c.child.Kind, Target: c.child.Target, Path: c.child.Path}); !cancelled && (err != nil || o.Code != runtime.CodeDeadline) {
				t.Errorf("%+v %v", o, err)
			}
		}()
		if !cancelled {
			<-told
		}
		c.fall(t)
		select {
		case <-c.retried:
			t.Errorf("cancelled %v: the caller is tried again while its child runs", cancelled)
		case <-time.After(100 * time.Millisecond):
		}
		close(end)
		c.awaitRetry(t)
		<-told
	}
}

// A caller that goes away while its nested call is vouched for leaves no child
// behind that never ends.
func TestVouchedCallThatWasNeverMade(t *testing.T) {
	c := newCaller(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Call(gone, c.child); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	c.fall(t)
	c.awaitRetry(t)
}

// What an attempt tells others is part of it: a retry waits until it is accepted
// (not until it has run), and what the old attempt tells later is refused, while
// the next one runs and after the request has ended.
func TestTellsGoThroughTheCallersOwner(t *testing.T) {
	c := newCaller(t)
	c.child.Kind = runtime.Tell // nobody offers C: it stays open
	late := *c.child
	if _, err := c.Accept(within(t), c.child); err != nil {
		t.Fatal(err)
	}
	c.fall(t)
	c.awaitRetry(t)
	var e *runtime.Error
	if _, err := c.Accept(within(t), &late); !errors.As(err, &e) || e.Code != runtime.CodeHostLost {
		t.Errorf("a tell of the lost host: %v", err)
	}
	late.ID, late.Boot = runtime.ID{}, "" // as a program that does not go through its sidecar
	if _, err := c.Accept(within(t), &late); !errors.As(err, &e) || e.Code != runtime.CodeSuperseded {
		t.Errorf("a tell of the replaced attempt: %v", err)
	}
}

// "503, nothing was accepted" is never said of a request that was: whoever
// waits when the log breaks gets the outcome once it works again.
func TestWaitersOutliveABrokenLog(t *testing.T) {
	n, log := openBreakable(t)
	started, end := make(chan struct{}, 1), make(chan struct{})
	h := &fakeHost{owners: n.Mesh, info: runtime.HostInfo{Boot: "b", App: "app", Actors: []string{"A"}}}
	h.serve = func(*runtime.Invoke) *runtime.Outcome {
		started <- struct{}{}
		<-end
		return ok(`{"value":1}`)
	}
	if err := n.HostUp(h.info, runtime.JoinAnswer{}, h); err != nil {
		t.Fatal(err)
	}
	type result struct {
		o   *runtime.Outcome
		err error
	}
	got := make(chan result, 1)
	go func() {
		o, err := n.Call(within(t), call("app", "A", "1", "m"))
		got <- result{o, err}
	}()
	<-started
	log.broken.Store(true)
	tell := call("app", "A", "2", "m")
	tell.Kind = runtime.Tell
	if _, err := n.Accept(within(t), tell); err == nil {
		t.Fatal("accepted by a broken log")
	}
	if n.Healthy(within(t)) == nil { // a question that repair refuses, after the waiter's
		t.Fatal("healthy with a broken log")
	}
	if _, _, err := n.Services(t.Context(), ""); err == nil {
		t.Fatal("a list of services that lacks some is given as the whole")
	}
	log.broken.Store(false)
	close(end)
	if r := <-got; r.err != nil || r.o.Status != 200 {
		t.Fatalf("%+v %v", r.o, r.err)
	}
	h.stop()
}

// P4: the log of the call's partition takes a round of unknown fate and then refuses it
// for certain, with the question in it whether the call has ended: that is no end, of the
// call or of the asking.
func TestRetryOfCallerWhoseQuestionIsOfUnknownFate(t *testing.T) {
	logs := map[uint16]*brokenLog{}
	c := newCaller(t, breakable(logs))
	begun, end := make(chan struct{}, 1), make(chan struct{})
	attach(t, c.Mesh, runtime.HostInfo{Boot: "c", App: "app", Actors: []string{"C"}}, func(in *runtime.Invoke) *runtime.Outcome {
		if in.Path == c.child.Path {
			begun <- struct{}{}
			<-end
		}
		return ok(`{"value":1}`)
	})
	over := sync.OnceFunc(func() { close(end) })
	t.Cleanup(over)
	log := logs[runtime.ActorPartition(c.child.Target.Actor(), 4)]
	gone, cancel := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	go func() { _, err := c.Call(gone, c.child); asked <- err }()
	<-begun
	gate := func() chan struct{} { // holds the next append
		gate := make(chan struct{})
		log.gate.Store(&gate)
		return gate
	}
	tell := func() {
		go c.Accept(within(t), &runtime.Request{Kind: runtime.Tell, Target: c.child.Target, Method: "POST", Path: "/busy"}) //nolint:errcheck // it is part of a round
		time.Sleep(50 * time.Millisecond)
	}
	first := gate()
	tell()
	<-log.held
	cancel()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // until it is asked whether the call has ended; else this test shows less
	tell()
	second := gate()
	close(first)
	<-log.held
	log.full.Store(true)
	log.unknown.Store(1)
	log.gate.Store(nil)
	close(second)
	for log.refused.Load() == 0 && t.Context().Err() == nil {
		time.Sleep(time.Millisecond)
	}
	log.full.Store(false)
	log.broken.Store(false)
	for until := within(t); c.Healthy(until) != nil && until.Err() == nil; {
		time.Sleep(time.Millisecond)
	}
	c.fall(t)
	select {
	case <-c.retried:
		t.Error("the caller is tried again while its child runs")
	default:
	}
	over()
	c.awaitRetry(t)
}
