package engine_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

func (l *memLog) setFault(f func(node string, before bool) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = f
}

func (l *memLog) end() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.records)
}

func stateOp(verb runtime.StateVerb, value string) runtime.StateOp {
	op := runtime.StateOp{Actor: runtime.Actor{App: "app", Type: "A", ID: "1"}, Verb: verb, Key: "k"}
	if value != "" {
		op.Value = []byte(value)
	}
	return op
}

// An append proves who owned the partition when it was sent. Behind one whose answer was
// long on its way an owner proves it again before it answers a read: meanwhile another
// gateway may have claimed the partition, and waited for as long as it has to.
func TestProofCountsFromTheSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newMeshRig(t, 1)
		a, l := rig.open("a"), rig.logs[0]
		var slow atomic.Bool
		l.setFault(func(_ string, before bool) error {
			if !before && slow.CompareAndSwap(true, false) {
				time.Sleep(rig.lease)
			}
			return nil
		})
		for _, late := range []bool{false, true} {
			slow.Store(late)
			if _, err := a.State(within(t), stateOp(runtime.StateSet, "1")); err != nil {
				t.Fatal(err)
			}
			before := l.end()
			if r, err := a.State(within(t), stateOp(runtime.StateGet, "")); err != nil || string(r.Value) != "1" {
				t.Fatal(r, err)
			}
			if proven := l.end() > before; proven != late {
				t.Errorf("the answer of the last append was late: %v; the read is proven by one more append: %v", late, proven)
			}
		}
	})
}

// claims tells when claims of a node land.
type claims struct {
	runtime.Log
	told func(epoch uint64)
}

func (l *claims) Append(ctx context.Context, batch [][]byte) (first, next uint64, err error) {
	first, next, err = l.Log.Append(ctx, batch)
	if epoch, ok := runtime.ClaimEpoch(batch[0]); ok && err == nil {
		l.told(epoch)
	}
	return first, next, err
}

// An owner cannot write for a moment, and another gateway claims the partition. When its
// log works again it is not the owner any more: it answers nobody before it has
// claimed the partition as any other would, and waited for as long as that takes.
func TestRepairedOwnerWasDeposed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newMeshRig(t, 1)
		var last atomic.Pointer[time.Time]
		a, l := rig.open("a", func(c *engine.Config) {
			of := c.Logs
			c.Logs = func(p uint16) (runtime.Log, error) {
				inner, err := of(p)
				return &claims{inner, func(uint64) { now := time.Now(); last.Store(&now) }}, err
			}
		}), rig.logs[0]
		if _, err := a.State(within(t), stateOp(runtime.StateSet, "1")); err != nil {
			t.Fatal(err)
		}
		l.setFault(func(_ string, before bool) error {
			if !before {
				return nil
			}
			return runtime.Errorf(runtime.CodeDiskFull, "no space left")
		})
		if _, err := a.State(within(t), stateOp(runtime.StateSet, "2")); err == nil {
			t.Fatal("written without room")
		}
		other := runtime.New(runtime.Config{Mesh: "test", Partitions: 1, Node: "b/1", Address: "http://b", Lease: rig.lease.Milliseconds(), IDWindow: 600_000, ResultRetention: 86_400_000})
		for _, b := range l.records {
			if _, err := other.Fold(b); err != nil {
				t.Fatal(err)
			}
		}
		mine := other.Epoch()
		l.land([][]byte{other.Claim(runtime.Now{Wall: time.Now().UnixMilli()})})
		last.Store(nil)
		l.setFault(nil)
		for end := within(t); ; time.Sleep(time.Millisecond) {
			_, err := a.State(end, stateOp(runtime.StateGet, ""))
			if end.Err() != nil {
				t.Fatal(err)
			}
			if err == nil {
				break
			}
		}
		if e := a.Epochs()[0].Epoch; e < mine+2 {
			t.Fatalf("it answers in term %d, and another gateway has claimed term %d", e, mine+1)
		}
		if d := time.Since(*last.Load()); d < rig.lease/6 {
			t.Errorf("it answers %v after its claim: the owner of before may answer that long too", d)
		}
	})
}
