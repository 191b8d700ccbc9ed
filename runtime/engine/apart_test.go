package engine_test

import (
	"slices"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime/engine"
)

// slow gives a gateway a lease of a second.
func slow(c *engine.Config) {
	s := *c.Shared
	s.Lease = time.Second
	c.Shared = &s
}

// A gateway that nobody can reach takes nothing of one that dies, and nobody waits for
// it. When it is the last one it takes all.
func TestUnreachableTakesNothing(t *testing.T) {
	r := newMeshRig(t, 32)
	a, b, c := r.open("a", slow), r.open("b", slow), r.open("c", slow)
	spread(t, a, b, c) // of 12 partitions of a, 7 would be for x
	r.net.mu.Lock()    // the address of the fourth leads to nobody
	for _, x := range []string{"a", "b", "c"} {
		r.net.cut[x+" x"], r.net.cut["x "+x] = true, true
	}
	r.net.mu.Unlock()
	x := r.start("x", slow)
	eventually(t, "it knows all owners", func() bool { return owners(x)[""] == 0 })
	time.Sleep(3 * time.Second) // leases
	r.kill("a")
	began := time.Now()
	eventually(t, "its share is taken", func() bool { return owners(b)["b"]+owners(b)["c"] == 32 && owners(c)["a"] == 0 })
	took := time.Since(began)
	if took > 3*time.Second {
		t.Errorf("after %v", took)
	}
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if n := owners(b)["x"] + owners(x)["x"]; n > 0 {
			t.Fatalf("a gateway that nobody reaches owns %d partitions", n)
		}
	}
	r.kill("b")
	r.kill("c")
	began = time.Now()
	eventually(t, "the last one takes all", func() bool { return owners(x)["x"] == 32 })
	t.Logf("taken after %v and %v", took, time.Since(began))
}

// The list is away, too: nothing says any more that the owners live. Who was
// never reached takes nothing.
func TestUnreachableWithoutTheList(t *testing.T) {
	r := newMeshRig(t, 16)
	list := &cutMembers{Members: r.members}
	a, b := r.open("a", slow), r.open("b", slow)
	spread(t, a, b)
	r.net.mu.Lock()
	for _, x := range []string{"a", "b"} {
		r.net.cut[x+" x"], r.net.cut["x "+x] = true, true
	}
	r.net.mu.Unlock()
	x := r.start("x", slow, withMembers(list))
	eventually(t, "it knows all owners", func() bool { return owners(x)[""] == 0 })
	list.cut.Store(true)
	before := r.epochs(t)
	time.Sleep(10 * time.Second) // leases
	if moves := r.epochs(t) - before; moves > 0 {
		t.Errorf("%d partitions were taken from living owners", moves)
	}
	list.cut.Store(false)
	r.kill("a")
	r.kill("b")
	eventually(t, "the last one takes all", func() bool { return owners(x)["x"] == 16 })
}

// Nobody reaches anybody: what one leaves behind is taken all the same.
func TestAllApartTakeOver(t *testing.T) {
	r := newMeshRig(t, 16)
	a, b, c := r.open("a"), r.open("b"), r.open("c")
	spread(t, a, b, c)
	for _, x := range []string{"a b", "b c", "a c"} {
		r.net.sever(x[:1], x[2:], true)
	}
	time.Sleep(1200 * time.Millisecond)
	r.kill("c")
	eventually(t, "c's share is taken", func() bool {
		_, all := owners(a), owners(b)
		return owners(a)["c"] == 0 && all["c"] == 0 && owners(a)["a"]+all["b"] == 16
	})
}

// A gateway joins that reaches only one of the two others. Nothing is handed to it, so that
// components at the other one work on; it gets its share when it reaches both.
func TestJoiningGatewayThatLacksAStream(t *testing.T) {
	r := newMeshRig(t, 16)
	a, b := r.open("a", slow), r.open("b", slow)
	spread(t, a, b)
	attach(t, a, actorHost("h"), echo)
	r.net.mu.Lock()
	r.net.cut["a x"], r.net.cut["x a"] = true, true
	r.net.mu.Unlock()
	x := r.start("x", slow)
	eventually(t, "it knows all owners", func() bool { return owners(x)[""] == 0 })
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if n := owners(a)["x"] + owners(x)["x"]; n > 0 {
			t.Fatalf("it owns %d partitions, and has no stream to where a host is", n)
		}
		r.calls(t, a)
	}
	r.net.sever("a", "x", false)
	spread(t, a, b, x)
	// The same, as an owner leaves: the one that reaches all takes what is left.
	r.net.sever("a", "x", true)
	eventually(t, "both say so", func() bool { return lacking(r, "a", "x") && lacking(r, "x", "a") })
	mine := owners(a)["b"]
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	delete(r.nodes, "b")
	eventually(t, "what it left is owned", func() bool { return owners(a)["b"] == 0 && owners(x)["b"] == 0 && mine > 0 })
}

// lacking tells whether a gateway says that it has no stream to another one.
func lacking(r *meshRig, node, other string) bool {
	r.members.mu.Lock()
	defer r.members.mu.Unlock()
	return slices.Contains(r.members.list[node].Lacks, other)
}
