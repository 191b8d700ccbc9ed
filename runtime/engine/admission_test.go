package engine_test

import (
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// refusedBeside opens a gateway that does not fit beside one that owns all.
func refusedBeside(t *testing.T, want runtime.Code, tune func(r *meshRig) func(*engine.Config)) {
	t.Helper()
	r := newMeshRig(t, 8)
	a := r.open("a")
	before := r.epochs(t)
	b := r.start("b", tune(r))
	eventually(t, "it is refused", func() bool { return b.Refused() != nil })
	var e *runtime.Error
	if !errors.As(b.Refused(), &e) || e.Code != want {
		t.Errorf("it is refused with %v", b.Refused())
	}
	r.calm(t, a)
	if moves := r.epochs(t) - before; moves > 0 || owners(a)["a"] != 8 || a.Refused() != nil {
		t.Errorf("%d partitions moved; a sees the owners %v, and is refused with %v", moves, owners(a), a.Refused())
	}
	if err := b.Settled(within(t)); err != nil && want != e.Code {
		t.Error(err)
	}
}

func longer(c *engine.Config) { c.Lease *= 20 }

// TestAnotherLease: an owner with a longer lease would answer for longer than the
// next one waits.
func TestAnotherLease(t *testing.T) {
	refusedBeside(t, runtime.CodeBadConfig, func(*meshRig) func(*engine.Config) { return longer })
}

// TestAnotherLeaseWithoutTheList: the two meet by a claim.
func TestAnotherLeaseWithoutTheList(t *testing.T) {
	refusedBeside(t, runtime.CodeBadConfig, func(r *meshRig) func(*engine.Config) {
		list := &cutMembers{Members: r.members}
		list.cut.Store(true)
		return func(c *engine.Config) { longer(c); withMembers(list)(c) }
	})
}

// TestAnotherGatewayLease: one would hold for gone who is alive for the other.
func TestAnotherGatewayLease(t *testing.T) {
	refusedBeside(t, runtime.CodeBadConfig, func(*meshRig) func(*engine.Config) {
		return func(c *engine.Config) { c.Shared.Lease *= 2 }
	})
}

// TestAnotherStore: each has a list in which the other is not.
func TestAnotherStore(t *testing.T) {
	refusedBeside(t, runtime.CodeForeign, func(r *meshRig) func(*engine.Config) {
		return withMembers(&memMembers{s: r.store, list: map[string]memMember{}})
	})
}

// onLogs gives a gateway logs of its own, under a name.
func onLogs(name string, logs []*memLog) func(*engine.Config) {
	return func(c *engine.Config) {
		node := c.Node
		c.Shared.Log = name
		c.Logs = func(p uint16) (runtime.Log, error) { return &memHandle{memLog: logs[p], node: node}, nil }
	}
}

// claimed appends claims of a gateway that was here before.
func (l *memLog) claimed(t *testing.T, p uint16, parts, times int) {
	for range times {
		c := l.foldOf(t, p, parts)
		l.put(c.Claim(runtime.Now{Wall: time.Now().UnixMilli(), Mono: 1}))
	}
}

func (l *memLog) foldOf(t *testing.T, p uint16, parts int) *runtime.Core {
	c := runtime.New(runtime.Config{Mesh: "test", Partition: p, Partitions: parts, Node: "earlier"})
	if err := l.Read(t.Context(), 0, func(_ uint64, b []byte) error {
		_, err := c.Fold(b)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return c
}

func newLogs(n int) (logs []*memLog) {
	for range n {
		logs = append(logs, &memLog{})
	}
	return logs
}

// TestAnotherLog: whatever is accepted in one is not in the other. When both are in
// the same terms nothing but their names tells them apart.
func TestAnotherLog(t *testing.T) {
	for _, terms := range []int{0, 1, 5} {
		t.Run(strconv.Itoa(terms), func(t *testing.T) {
			r := newMeshRig(t, 8)
			a := r.open("a", onLogs("one", r.logs))
			logs := newLogs(8)
			for p, l := range logs {
				l.claimed(t, uint16(p), r.parts, terms)
			}
			before := a.Epochs()
			b := r.start("b", onLogs("two", logs))
			eventually(t, "it is refused", func() bool { return is(b.Refused(), runtime.CodeForeign) })
			time.Sleep(300 * time.Millisecond)
			if !slices.Equal(a.Epochs(), before) || owners(a)["a"] != 8 || a.Refused() != nil {
				t.Errorf("a sees %v, after %v, and is refused with %v", a.Epochs(), before, a.Refused())
			}
		})
	}
}

// TestAnotherLogWithoutAName: a log in which the terms of living owners are not.
func TestAnotherLogWithoutAName(t *testing.T) {
	r := newMeshRig(t, 8)
	a := r.open("a")
	before := a.Epochs()
	b := r.start("b", onLogs("", newLogs(8)))
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if !slices.Equal(a.Epochs(), before) || owners(a)["a"] != 8 {
			t.Fatalf("a sees %v, after %v", a.Epochs(), before)
		}
	}
	eventually(t, "it is refused", func() bool { return is(b.Refused(), runtime.CodeForeign) })
}

// TestLogThatWentBack: the owner of a partition is gone, and its last term is not in
// the log: nobody goes on in front of it, and it is said by name.
func TestLogThatWentBack(t *testing.T) {
	r := newMeshRig(t, 8)
	a, b := r.open("a"), r.open("b")
	spread(t, a, b)
	gone := slices.Index(a.Owners(), "b")
	l := r.logs[gone]
	r.kill("b")
	l.mu.Lock()
	l.records = nil
	l.mu.Unlock()
	eventually(t, "the others have an owner", func() bool { return owners(a)["a"] == 7 })
	eventually(t, "it is said", func() bool { return is(a.Healthy(within(t)), runtime.CodeDamaged) })
	if l.foldOf(t, uint16(gone), r.parts).Epoch() != 0 {
		t.Error("it was claimed")
	}
}

func is(err error, code runtime.Code) bool {
	var e *runtime.Error
	return errors.As(err, &e) && e.Code == code
}

// TestTwoLeasesAtOnce: of two that come together one goes on.
func TestTwoLeasesAtOnce(t *testing.T) {
	r := newMeshRig(t, 8)
	x, y := r.start("x", longer), r.start("y")
	eventually(t, "one is refused", func() bool { return (x.Refused() == nil) != (y.Refused() == nil) })
	time.Sleep(time.Second)
	if x.Refused() != nil && y.Refused() != nil {
		t.Errorf("both are refused: %v, %v", x.Refused(), y.Refused())
	}
}

// TestEmptiedList: the store has lost the list of two gateways; both are in it again soon.
func TestEmptiedList(t *testing.T) {
	r := newMeshRig(t, 8)
	a, b := r.open("a"), r.open("b")
	spread(t, a, b)
	for range 5 {
		r.members.mu.Lock()
		clear(r.members.list)
		r.members.mu.Unlock()
		time.Sleep(150 * time.Millisecond)
	}
	d := r.open("d")
	spread(t, a, b, d)
	if a.Refused() != nil || b.Refused() != nil || d.Refused() != nil {
		t.Errorf("%v, %v, %v", a.Refused(), b.Refused(), d.Refused())
	}
}
