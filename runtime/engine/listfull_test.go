package engine_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// fullMembers take no entry while they are full; the ones that are there stay.
type fullMembers struct {
	runtime.Members
	full atomic.Bool
	last []runtime.Member
}

func (l *fullMembers) Announce(ctx context.Context, m runtime.Member, ttl time.Duration) ([]runtime.Member, error) {
	if l.full.Load() {
		return slices.Clone(l.last), runtime.Errorf(runtime.CodeRedisNoWrites, "OOM")
	}
	return l.Members.Announce(ctx, m, ttl)
}

// A gateway that begins while the list takes no entries meets those that were in it,
// and takes nothing from them. Later it has its share.
func TestBeginWhileTheListIsFull(t *testing.T) {
	r := newMeshRig(t, 16)
	l := &fullMembers{Members: r.members, last: []runtime.Member{{Node: "a", Address: "http://a"}, {Node: "gone", Address: "http://gone"}}}
	tune := func(c *engine.Config) {
		c.Shared.Members, c.Shared.Lease = l, 8*time.Second // nobody waits until the list is given up
	}
	a := r.open("a", tune)
	if _, err := a.State(within(t), runtime.StateOp{Actor: runtime.Actor{App: "app", Type: "A", ID: "1"}, Verb: runtime.StateSet, Key: "k", Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	l.full.Store(true)
	b := r.open("b", tune)
	attach(t, a, actorHost("h"), func(*runtime.Invoke) *runtime.Outcome { return ok("1") })
	for range 20 {
		if _, err := b.Call(within(t), call("app", "A", "1", "m")); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.Stats().Shares.TakenOver; n > 0 {
		t.Errorf("%d partitions were claimed from a living gateway", n)
	}
	l.full.Store(false)
	spread(t, a, b)
}
