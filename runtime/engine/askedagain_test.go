package engine_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// askedAgain is time for a question to be asked of another owner. A test that passes
// does not need it.
const askedAgain = 300 * time.Millisecond

func actorOf(parts int, here func(p uint16) bool) runtime.Actor {
	for i := 0; ; i++ {
		if a := (runtime.Actor{App: "app", Type: "A", ID: strconv.Itoa(i)}); here(runtime.ActorPartition(a, parts)) {
			return a
		}
	}
}

func accept(t *testing.T, m *engine.Mesh, kind runtime.Kind, a runtime.Actor, method string) runtime.ID {
	t.Helper()
	r := call(a.App, a.Type, a.ID, method)
	r.Kind = kind
	id, err := m.Accept(within(t), r)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// An app is purged once. While that waits for a partition whose log is away, the app goes
// on in its next life; then the gateway that owns the partition of the app leaves in good
// order, and the purge is asked again.
func TestPurgeAskedAgainOfAnotherOwner(t *testing.T) {
	const parts = 4
	r := newMeshRig(t, parts)
	a, b := r.open("a"), r.open("b")
	spread(t, a, b)
	home := runtime.AppPartition("app", parts)
	name, first, second := "a", a, b
	if a.Owners()[home] != "a" {
		name, first, second = "b", b, a
	}
	log := r.logs[(home+1)%parts]
	fault := func(f func(string, bool) error) {
		log.mu.Lock()
		defer log.mu.Unlock()
		log.fault = f
	}
	actor := actorOf(parts, func(p uint16) bool { return p == home })
	state := func(op runtime.StateOp) runtime.StateResult {
		t.Helper()
		op.Actor, op.Key = actor, "k"
		s, err := second.State(within(t), op)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	state(runtime.StateOp{Verb: runtime.StateSet, Value: []byte("old")})
	fault(func(string, bool) error { return &runtime.UnknownError{Cause: errors.New("away")} })
	done := make(chan error, 1)
	go func() { done <- second.Purge(t.Context(), "app") }()
	eventually(t, "the purge is seen", func() bool { return !state(runtime.StateOp{Verb: runtime.StateGet}).Found })
	state(runtime.StateOp{Verb: runtime.StateSet, Value: []byte("new")})
	accept(t, second, runtime.Tell, actor, "m")
	if err := first.Close(); err != nil {
		t.Log(err)
	}
	delete(r.nodes, name)
	eventually(t, "another owner", func() bool { o := second.Owners()[home]; return o != name && o != "" })
	time.Sleep(askedAgain)
	select {
	case err := <-done:
		t.Error("a purge that one partition has not confirmed is over:", err)
	default:
	}
	fault(nil)
	if err := <-done; err != nil {
		t.Error("the purge:", err)
	}
	if s := state(runtime.StateOp{Verb: runtime.StateGet}); string(s.Value) != "new" {
		t.Errorf("state that was acknowledged after the purge is %q", s.Value)
	}
	runs := make(chan struct{}, 10)
	attach(t, second, actorHost("h1"), func(*runtime.Invoke) *runtime.Outcome { runs <- struct{}{}; return ok("x") })
	select {
	case <-runs:
	case <-within(t).Done():
		t.Error("a tell that was accepted after the purge does not run")
	}
}

// An app is drained once. While that waits for a long call, work is accepted that has
// nothing to do with it; then the gateway that owns its partition leaves in good order,
// and the drain is asked again.
func TestDrainAskedAgainOfAnotherOwner(t *testing.T) {
	const parts = 4
	r := newMeshRig(t, parts)
	a, b := r.open("a"), r.open("b")
	spread(t, a, b)
	actor := actorOf(parts, func(p uint16) bool { return a.Owners()[p] == "a" })
	begun, long, later := make(chan struct{}, 1), make(chan struct{}), make(chan struct{}, 1)
	attach(t, b, actorHost("h1"), func(i *runtime.Invoke) *runtime.Outcome {
		if i.Path == "/long" {
			begun <- struct{}{}
			<-long
		} else {
			later <- struct{}{}
		}
		return ok("x")
	})
	accept(t, b, runtime.Tell, actor, "long")
	<-begun
	waits := accept(t, b, runtime.Promise, actor, "waits")
	type answer struct {
		n   int
		err error
	}
	done := make(chan answer, 1)
	go func() {
		n, err := b.Drain(t.Context(), "app")
		done <- answer{n, err}
	}()
	if o, err := b.Await(within(t), "app", waits, ""); err != nil || o.Code != runtime.CodeDrained {
		t.Fatal("what waits when the app is drained:", o, err)
	}
	accept(t, b, runtime.Tell, actor, "later")
	if err := a.Close(); err != nil {
		t.Log(err)
	}
	delete(r.nodes, "a")
	eventually(t, "b owns all", func() bool { return owners(b)["b"] == parts })
	time.Sleep(askedAgain)
	close(long)
	if is := <-done; is != (answer{1, nil}) {
		t.Errorf("the drain withdrew %d: %v", is.n, is.err)
	}
	select {
	case <-later:
	case <-within(t).Done():
		t.Error("a tell that was accepted after the drain had begun does not run")
	}
}
