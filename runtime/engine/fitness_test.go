package engine_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// One log cannot be written, whoever tries: its partition stops alone, and nothing
// else changes hands because of it.
func TestOneLogGoneMovesNothing(t *testing.T) {
	r := newMeshRig(t, 8)
	a, b := r.open("a"), r.open("b")
	spread(t, a, b)
	attach(t, a, actorHost("h"), echo)
	var gone uint16
	for p, owner := range a.Owners() {
		if owner == "a" {
			gone = uint16(p)
		}
	}
	before := a.Epochs()
	r.logs[gone].gone.Store(true)
	if _, err := a.Accept(within(t), tellTo(r.actorIn(gone))); err == nil {
		t.Fatal("accepted without a log")
	}
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for p, e := range a.Epochs() {
			if uint16(p) != gone && e != before[p] {
				t.Fatalf("partition %d changed hands, though partition %d alone is away", p, gone)
			}
		}
		if owners(b)["b"] == 0 || owners(a)["a"] == 0 {
			t.Fatalf("a gateway has given all up: %v %v", owners(a), owners(b))
		}
	}
	r.logs[gone].gone.Store(false)
	eventually(t, "the partition works again", func() bool {
		_, err := a.Accept(within(t), tellTo(r.actorIn(gone)))
		return err == nil
	})
}

// All logs were away, and one stays away, be it the first: the others are owned again.
func TestFirstLogStaysAway(t *testing.T) {
	r := newMeshRig(t, 4)
	nodes := []*engine.Mesh{r.open("a"), r.open("b")}
	spread(t, nodes...)
	attach(t, nodes[0], actorHost("h"), echo)
	for _, l := range r.logs {
		l.gone.Store(true)
	}
	eventually(t, "one gives up", func() bool { return owners(nodes[0])["a"] == 0 || owners(nodes[1])["b"] == 0 })
	for _, l := range r.logs[1:] {
		l.gone.Store(false)
	}
	for p := uint16(1); p < 4; p++ {
		eventually(t, "a partition works again", func() bool {
			_, err := nodes[0].Accept(within(t), tellTo(r.actorIn(p)))
			return err == nil
		})
	}
	// Who has left its partitions to the other takes them back when that time is over, and
	// not before: who it is hangs on which logs were away at the moment.
	patience := time.Duration(runtime.ShunFor(0, int64(gatewayLease)))
	eventuallyIn(t, patience+10*time.Second, "both own something", func() bool { return owners(nodes[0])["a"] > 0 && owners(nodes[1])["b"] > 0 })
}

// fallen makes some logs fail for a node: appends before they land, as err says.
func (r *meshRig) fallen(node string, err func() error, logs ...*memLog) (mend func()) {
	for _, l := range logs {
		l.mu.Lock()
		l.fault = func(n string, before bool) error {
			if n == node && before {
				return err()
			}
			return nil
		}
		l.mu.Unlock()
	}
	return func() {
		for _, l := range logs {
			l.mu.Lock()
			l.fault = nil
			l.mu.Unlock()
		}
	}
}

func refuses() error {
	return runtime.Errorf(runtime.CodeKafkaPermission, "this user may not write")
}

func noAnswer() error { return &runtime.UnknownError{Cause: errors.New("no answer")} }

// TestJoinerThatCannotWrite: nothing is given to it, it is said, and when an owner dies
// the others do not wait for it. It comes back when it can write.
func TestJoinerThatCannotWrite(t *testing.T) {
	for name, fault := range map[string]func() error{"refused": refuses, "no answer": noAnswer} {
		t.Run(name, func(t *testing.T) {
			r := newMeshRig(t, 16)
			a, b := r.open("a"), r.open("b")
			spread(t, a, b)
			before := a.Epochs()
			mend := r.fallen("c", fault, r.logs...)
			c := r.open("c")
			for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
				if !slices.Equal(a.Epochs(), before) {
					t.Fatalf("something was given to it: %v, after %v", a.Epochs(), before)
				}
			}
			b.Leave(within(t))
			eventually(t, "nobody waits for it", func() bool { return owners(a)["a"] == 16 })
			mend()
			spread(t, a, c)
		})
	}
}

// TestTakerLosesItsLogs between the hand-over and its claim.
func TestTakerLosesItsLogs(t *testing.T) {
	r := newMeshRig(t, 16)
	a, b := r.open("a"), r.open("b")
	spread(t, a, b)
	var proven, fallen atomic.Bool
	for _, l := range r.logs {
		l.mu.Lock()
		l.fault = func(n string, before bool) error {
			if n != "c" {
				return nil
			}
			if before && (fallen.Load() || proven.Load()) {
				fallen.Store(true)
				return noAnswer()
			}
			proven.Store(true)
			return nil
		}
		l.mu.Unlock()
	}
	c := r.open("c")
	eventually(t, "it lost its logs", fallen.Load)
	eventually(t, "all have an owner again", func() bool { return owners(a)["a"]+owners(a)["b"] == 16 && owners(c)["c"] == 0 })
	for _, l := range r.logs {
		l.mu.Lock()
		l.fault = nil
		l.mu.Unlock()
	}
	spread(t, a, b, c)
}

// TestOwnerThatCannotWriteOneLog gives that partition to one that can, and it stays
// there; what else it owns stays where it is.
func TestOwnerThatCannotWriteOneLog(t *testing.T) {
	r := newMeshRig(t, 8)
	a, b := r.open("a"), r.open("b")
	spread(t, a, b)
	attach(t, b, actorHost("h"), echo)
	before := a.Epochs()
	own := uint16(slices.Index(a.Owners(), "a"))
	r.fallen("a", noAnswer, r.logs[own])
	eventually(t, "the other has it", func() bool {
		_, err := b.Accept(within(t), tellTo(r.actorIn(own)))
		return err == nil && b.Owners()[own] == "b"
	})
	epoch := r.logs[own].foldOf(t, own, r.parts).Epoch()
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for p, e := range b.Epochs() {
			if uint16(p) != own && e != before[p] || uint16(p) == own && e.Epoch != epoch {
				t.Fatalf("partition %d has moved: %v, after %v", p, b.Epochs(), before)
			}
		}
	}
}

// TestProbesKeepOffTheLoops: an owner that finds out whether any log takes its appends
// does not put another record behind a batch of unknown fate: what its loop is told
// about that batch later would be of something else. (The rig watches that.)
func TestProbesKeepOffTheLoops(t *testing.T) {
	r := newMeshRig(t, 8)
	a, b := r.open("a"), r.open("b")
	spread(t, a, b)
	attach(t, b, actorHost("h"), echo)
	var own []*memLog
	for p, owner := range a.Owners() {
		if owner == "a" {
			own = append(own, r.logs[p])
			go func() { _, _ = b.Accept(within(t), tellTo(r.actorIn(uint16(p)))) }() // it ends with the test
		}
	}
	mend := r.fallen("a", noAnswer, r.logs...)
	eventually(t, "it has given up all", func() bool { return owners(b)["b"] == 8 })
	mend()
	spread(t, a, b)
	if len(own) < 2 {
		t.Error("it owned too little for this test")
	}
}

// TestNobodyWritesOneLog, though all can read it: it goes round once, nothing else moves,
// and it is owned when it takes records again.
func TestNobodyWritesOneLog(t *testing.T) {
	r := newMeshRig(t, 16)
	nodes := []*engine.Mesh{r.open("a"), r.open("b"), r.open("c")}
	spread(t, nodes...)
	attach(t, nodes[0], actorHost("h"), echo)
	before := nodes[0].Epochs()
	const stuck = 3
	l := r.logs[stuck]
	l.mu.Lock()
	l.fault = func(_ string, first bool) error {
		if first {
			return noAnswer()
		}
		return nil
	}
	l.mu.Unlock()
	for end := time.Now().Add(7 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for p, e := range nodes[1].Epochs() {
			if p != stuck && e != before[p] {
				t.Fatalf("partition %d changed hands: %v, after %v", p, e, before[p])
			}
		}
	}
	l.mu.Lock()
	l.fault = nil
	l.mu.Unlock()
	eventually(t, "it works again", func() bool {
		_, err := nodes[0].Accept(within(t), tellTo(r.actorIn(stuck)))
		return err == nil
	})
}
