package engine

import (
	"testing"

	"github.com/karmesh/kar/runtime"
)

// What is said again while it waits here is not queued twice: the queue of a partition
// whose log is stuck would grow without a bound.
func TestWhatIsAskedAgainIsQueuedOnce(t *testing.T) {
	p := &partition{wake: make(chan struct{}, 1), queued: map[any]bool{}}
	again := func() {
		for i := range 5 {
			for n := uint16(1); n <= 3; n++ {
				p.push(
					&runtime.Deliver{From: 2, N: uint64(n), Payload: make([]byte, 1<<20)},
					&runtime.FenceAsk{From: n, Epoch: uint64(i), Apps: []string{"app"}},
					&runtime.GroupAsk{From: n, Group: "g", Life: 1},
					&runtime.BesideAsk{From: n, Boot: "h", Asked: int64(i)},
				)
			}
			p.push(&runtime.RaiseLevel{Level: 2})
		}
	}
	const each = 3*4 + 1
	again()
	p.push(&runtime.Tick{}, &runtime.Tick{})
	if ins := p.take(nil); len(ins) != each+2 {
		t.Errorf("%d are queued", len(ins))
	}
	again() // those that were taken may be refused
	if len(p.inputs) != each {
		t.Errorf("%d are queued behind those that were taken", len(p.inputs))
	}
	p.refuseWaiting(nil) // they come again
	if len(p.inputs) != 0 {
		t.Errorf("%d wait for a log that cannot be written", len(p.inputs))
	}
	again()
	if len(p.inputs) != each {
		t.Errorf("%d are queued after that", len(p.inputs))
	}
}
