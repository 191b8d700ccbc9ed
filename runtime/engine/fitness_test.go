package engine_test

import (
	"testing"
	"time"

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
	eventually(t, "both own something", func() bool { return owners(nodes[0])["a"] > 0 && owners(nodes[1])["b"] > 0 })
}
