package engine_test

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

func actorHost(boot string) runtime.HostInfo {
	return runtime.HostInfo{Boot: boot, App: "app", Name: boot, Actors: []string{"A"}, Service: "s"}
}

func TestNodesShareThePartitions(t *testing.T) {
	r := newMeshRig(t, 16)
	a := r.open("a")
	if by := owners(a); by["a"] != 16 {
		t.Fatalf("alone: %v", by)
	}
	b := r.open("b")
	c := r.open("c")
	eventually(t, "all three own something, and agree", func() bool {
		x, y, z := owners(a), owners(b), owners(c)
		return len(x) == 3 && x[""] == 0 && same(x, y) && same(y, z)
	})
}

func same(a, b map[string]int) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

// spread waits until every given node owns what it should have, and nothing moves.
func spread(t *testing.T, nodes ...*engine.Mesh) {
	t.Helper()
	eventually(t, "every node owns what it should, and all agree", func() bool {
		var members []runtime.Member
		for name := range owners(nodes[0]) {
			members = append(members, runtime.Member{Node: name})
		}
		if len(members) != len(nodes) {
			return false
		}
		for _, n := range nodes {
			for p, o := range n.Owners() {
				if o != runtime.Preferred(uint16(p), members) {
					return false
				}
			}
		}
		return true
	})
}

func TestAnyNodeTakesAnyRequest(t *testing.T) {
	r := newMeshRig(t, 16)
	a, b, c := r.open("a"), r.open("b"), r.open("c")
	spread(t, a, b, c)
	var runs atomic.Int32
	attach(t, b, actorHost("h1"), func(i *runtime.Invoke) *runtime.Outcome { runs.Add(1); return ok(i.Target.ID) })
	attach(t, c, actorHost("h2"), func(i *runtime.Invoke) *runtime.Outcome { runs.Add(1); return ok(i.Target.ID) })
	for i := range 60 {
		n := []*engine.Mesh{a, b, c}[i%3]
		id := strconv.Itoa(i / 3)
		o, err := n.Call(within(t), call("app", "A", id, "m"))
		if err != nil || string(o.Body) != id {
			t.Fatalf("call %d: %v %v", i, o, err)
		}
		act := runtime.Actor{App: "app", Type: "A", ID: id}
		if _, err := n.State(within(t), runtime.StateOp{Actor: act, Verb: runtime.StateSet, Key: "k", Value: []byte("v" + id)}); err != nil {
			t.Fatal(err)
		}
		other := []*engine.Mesh{a, b, c}[(i+1)%3]
		if s, err := other.State(within(t), runtime.StateOp{Actor: act, Verb: runtime.StateGet, Key: "k"}); err != nil || string(s.Value) != "v"+id {
			t.Fatalf("state: %q %v", s.Value, err)
		}
	}
	if runs.Load() != 60 {
		t.Fatalf("%d runs of 60", runs.Load())
	}
	known, err := a.Known(within(t), "app", "A")
	if err != nil || len(known) != 20 {
		t.Fatalf("%d actors known: %v", len(known), err)
	}
}

// A node that comes or leaves in good order is hardly noticed.
func TestNodesComeAndLeaveUnderLoad(t *testing.T) {
	r := newMeshRig(t, 16)
	a, b := r.open("a"), r.open("b")
	spread(t, a, b)
	var mu sync.Mutex
	ran := map[string]int{}
	attach(t, a, actorHost("h1"), func(i *runtime.Invoke) *runtime.Outcome {
		mu.Lock()
		defer mu.Unlock()
		ran[i.Header.Get("Kar-Request-Id")]++
		return ok("x")
	})
	stop := make(chan struct{})
	var wait sync.WaitGroup
	var calls atomic.Int32
	var longest atomic.Int64
	for w := range 8 {
		wait.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				began := time.Now()
				if _, err := a.Call(within(t), call("app", "A", strconv.Itoa(w*100+i%10), "m")); err != nil {
					t.Errorf("call: %v", err)
					return
				}
				calls.Add(1)
				if d := int64(time.Since(began)); d > longest.Load() {
					longest.Store(d)
				}
			}
		})
	}
	c := r.open("c")
	spread(t, a, b, c)
	b.Leave(within(t))
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	delete(r.nodes, "b")
	spread(t, a, c)
	time.Sleep(100 * time.Millisecond)
	close(stop)
	wait.Wait()
	for id, n := range ran {
		if n != 1 {
			t.Errorf("request %s ran %d times", id, n)
		}
	}
	t.Logf("%d calls, the longest %v", calls.Load(), time.Duration(longest.Load()))
	if time.Duration(longest.Load()) > time.Second {
		t.Errorf("a call took %v", time.Duration(longest.Load()))
	}
}

// kill ends a node without any goodbye: its streams break, nothing more of it lands.
func (r *meshRig) kill(name string) {
	r.t.Helper()
	for _, l := range r.logs {
		l.mu.Lock()
		before := l.fault
		l.fault = func(node string, pre bool) error {
			if node == name {
				return &runtime.UnknownError{Cause: errDead}
			}
			if before != nil {
				return before(node, pre)
			}
			return nil
		}
		l.mu.Unlock()
	}
	m := r.nodes[name]
	delete(r.nodes, name)
	_ = m.Close()
	r.members.mu.Lock()
	delete(r.members.list, name)
	r.members.mu.Unlock()
}

var errDead = runtime.Errorf(runtime.CodeInternal, "the node is dead")

// join-running, join-finished, kill-owner: the owner dies while attempts run.
func TestOwnerDiesWhileAttemptsRun(t *testing.T) {
	r := newMeshRig(t, 16)
	a, b, c := r.open("a"), r.open("b"), r.open("c")
	spread(t, a, b, c)
	var mu sync.Mutex
	ran := map[string]int{}
	release := make(chan struct{})
	attach(t, a, actorHost("h1"), func(i *runtime.Invoke) *runtime.Outcome {
		mu.Lock()
		ran[i.Target.ID]++
		mu.Unlock()
		<-release
		return ok(i.Target.ID)
	})
	var wait sync.WaitGroup
	for i := range 40 {
		wait.Go(func() {
			id := strconv.Itoa(i)
			o, err := a.Call(within(t), call("app", "A", id, "m"))
			if err != nil || string(o.Body) != id {
				t.Errorf("call %s: %v %v", id, o, err)
			}
		})
	}
	eventually(t, "all run", func() bool { mu.Lock(); defer mu.Unlock(); return len(ran) == 40 })
	r.kill("b")
	eventually(t, "others have taken over", func() bool {
		by := owners(a)
		return by["b"] == 0 && by[""] == 0
	})
	close(release)
	wait.Wait()
	for id, n := range ran {
		if n != 1 {
			t.Errorf("actor %s ran %d times", id, n)
		}
	}
	_ = c
}

// pause-before-dispatch: an owner that was stopped goes on after another has
// taken over. Nothing of it counts, and nobody gets an answer from it.
func TestDeposedOwnerDoesNoHarm(t *testing.T) {
	r := newMeshRig(t, 1)
	a := r.open("a")
	attach(t, a, actorHost("h0"), func(i *runtime.Invoke) *runtime.Outcome { return ok("0") })
	act := runtime.Actor{App: "app", Type: "A", ID: "1"}
	if _, err := a.State(within(t), runtime.StateOp{Actor: act, Verb: runtime.StateSet, Key: "k", Value: []byte("old")}); err != nil {
		t.Fatal(err)
	}
	// a is stopped: its appends hang, and nobody hears of it.
	resume := make(chan struct{})
	log := r.logs[0]
	log.mu.Lock()
	log.fault = func(node string, before bool) error {
		if node == "a" && before {
			<-resume
		}
		return nil
	}
	log.mu.Unlock()
	late := make(chan error, 1)
	go func() {
		_, err := a.State(within(t), runtime.StateOp{Actor: act, Verb: runtime.StateSet, Key: "k", Value: []byte("late")})
		late <- err
	}()
	// In a's list there is one that should have the partition, so that a, once
	// deposed, does not claim it again.
	heir := runtime.Member{Node: "z"}
	for i := 0; runtime.Preferred(0, []runtime.Member{{Node: "a"}, heir}) != heir.Node; i++ {
		heir.Node = "z" + strconv.Itoa(i)
	}
	if _, err := r.members.Announce(t.Context(), heir, time.Hour); err != nil {
		t.Fatal(err)
	}
	// Somebody else claims, as a stranger to a: other members, no streams.
	other := *r
	other.members = &memMembers{s: r.store, list: map[string]memMember{}}
	other.net = &memNet{nodes: map[string]*memPeers{}, cut: map[string]bool{}}
	other.nodes = r.nodes
	b := other.open("b")
	if _, err := b.State(within(t), runtime.StateOp{Actor: act, Verb: runtime.StateSet, Key: "k", Value: []byte("new")}); err != nil {
		t.Fatal(err)
	}
	close(resume)
	eventually(t, "a has stepped down", func() bool { return owners(a)["a"] == 0 })
	s, err := b.State(within(t), runtime.StateOp{Actor: act, Verb: runtime.StateGet, Key: "k"})
	if err != nil || string(s.Value) != "new" {
		t.Fatalf("%q %v", s.Value, err)
	}
	select {
	case err := <-late:
		if err == nil {
			t.Fatal("the deposed owner acknowledged a write")
		}
	case <-time.After(50 * time.Millisecond): // it waits for the owner, whom it cannot reach
	}
}
