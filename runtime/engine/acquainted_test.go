package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// cutMembers is the list of gateways over a link that may be cut.
type cutMembers struct {
	runtime.Members
	cut atomic.Bool
}

func (c *cutMembers) Announce(ctx context.Context, m runtime.Member, ttl time.Duration) ([]runtime.Member, error) {
	if c.cut.Load() {
		return nil, errors.New("the link is cut")
	}
	return c.Members.Announce(ctx, m, ttl)
}

func withMembers(l runtime.Members) func(*engine.Config) {
	return func(c *engine.Config) {
		s := *c.Shared
		s.Members = l
		c.Shared = &s
	}
}

func (r *meshRig) epochs(t *testing.T) (sum uint64) {
	t.Helper()
	for _, l := range r.logs {
		last := uint64(0)
		if err := l.Read(t.Context(), 0, func(_ uint64, b []byte) error {
			if e, ok := runtime.ClaimEpoch(b); ok {
				last = max(last, e)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		sum += last
	}
	return sum
}

// shared waits until each of the named nodes has all that it should have, in the
// eyes of all.
func shared(t *testing.T, names ...string) func(nodes ...*engine.Mesh) {
	var members []runtime.Member
	for _, name := range names {
		members = append(members, runtime.Member{Node: name})
	}
	return func(nodes ...*engine.Mesh) {
		t.Helper()
		eventually(t, "each has its share", func() bool {
			for _, n := range nodes {
				for p, owner := range n.Owners() {
					if owner != runtime.Preferred(uint16(p), members) {
						return false
					}
				}
			}
			return true
		})
	}
}

// calm checks that no partition moves for a while, and that writes are acknowledged.
func (r *meshRig) calm(t *testing.T, through ...*engine.Mesh) {
	t.Helper()
	before := r.epochs(t)
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); {
		for i, n := range through {
			actor := runtime.Actor{App: "app", Type: "A", ID: strconv.Itoa(i)}
			if _, err := n.State(within(t), runtime.StateOp{Actor: actor, Verb: runtime.StateSet, Key: "k", Value: []byte("1")}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	if moves := r.epochs(t) - before; moves > 0 {
		t.Errorf("partitions were claimed %d times while nobody came or went", moves)
	}
}

// TestJoinerIsMetByWhoHasNoList: one gateway has lost the list, another one comes.
// The one that knows both introduces them, and nobody claims from anybody.
func TestJoinerIsMetByWhoHasNoList(t *testing.T) {
	r := newMeshRig(t, 16)
	list := &cutMembers{Members: r.members}
	a, b := r.open("a", withMembers(list)), r.open("b")
	spread(t, a, b)
	list.cut.Store(true)
	eventually(t, "a's entry is over", func() bool {
		r.members.mu.Lock()
		defer r.members.mu.Unlock()
		return time.Now().After(r.members.list["a"].until)
	})
	before := a.Stats().TakenOver + b.Stats().TakenOver
	d := r.open("d")
	shared(t, "a", "b", "d")(a, b, d)
	r.calm(t, a, b, d)
	if n := a.Stats().TakenOver + b.Stats().TakenOver + d.Stats().TakenOver - before; n > 0 {
		t.Errorf("%d partitions were taken from living owners", n)
	}
}

// TestClaimNamesWhomToAsk: two gateways have no list in common and nobody who
// knows both. The one that comes finds the other by its claims.
func TestClaimNamesWhomToAsk(t *testing.T) {
	r := newMeshRig(t, 16)
	list := &cutMembers{Members: r.members}
	a := r.open("a", withMembers(list))
	list.cut.Store(true)
	eventually(t, "a's entry is over", func() bool {
		r.members.mu.Lock()
		defer r.members.mu.Unlock()
		return time.Now().After(r.members.list["a"].until)
	})
	d := r.open("d")
	shared(t, "a", "d")(a, d)
	r.calm(t, a, d)
}

// TestWarBecomesSeldom: two gateways read two lists and cannot reach each other.
// They take partitions from each other, but ever more seldom.
func TestWarBecomesSeldom(t *testing.T) {
	r := newMeshRig(t, 4)
	r.net.cut["a d"], r.net.cut["d a"] = true, true
	a := r.open("a")
	d := r.start("d", withMembers(&memMembers{s: r.store, list: map[string]memMember{}}))
	for i, n := range []*engine.Mesh{a, d} { // an owner that is needed finds out that it is none
		attach(t, n, actorHost(fmt.Sprint("h", i)), func(*runtime.Invoke) *runtime.Outcome { return ok("1") })
	}
	eventually(t, "d has claimed", func() bool { return r.epochs(t) >= 8 })
	before := r.epochs(t)
	time.Sleep(5 * time.Second) // of leases of 400 ms
	if moves := r.epochs(t) - before; moves > 4*3 {
		t.Errorf("4 partitions were claimed %d times in twelve leases", moves)
	}
}
