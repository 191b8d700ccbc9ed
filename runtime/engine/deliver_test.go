package engine

import (
	"testing"

	"github.com/karmesh/kar/runtime"
)

// A message that is sent again while it waits here is not queued twice: the queue
// of a partition whose log is stuck would grow without a bound.
func TestDeliverIsQueuedOnce(t *testing.T) {
	p := &partition{wake: make(chan struct{}, 1), queued: map[message]bool{}}
	again := func() {
		for range 5 {
			for n := uint64(1); n <= 3; n++ {
				p.deliver(&runtime.Deliver{From: 2, N: n, Payload: make([]byte, 1<<20)})
			}
		}
	}
	again()
	if ins := p.take(nil); len(ins) != 3 {
		t.Errorf("%d messages are queued", len(ins))
	}
	again() // those that were taken may be refused
	if len(p.inputs) != 3 {
		t.Errorf("%d messages are queued behind those that were taken", len(p.inputs))
	}
}
