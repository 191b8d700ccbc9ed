package engine_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A gateway asks for a partition and leaves while the owner is busy: the partition stays
// where it is.
func TestNotGivenToOneThatHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newMeshRig(t, 8)
		a := rig.open("a")
		p := uint16(0)
		for runtime.Preferred(p, []runtime.Member{{Node: "a"}, {Node: "b"}}) != "b" {
			p++
		}
		held, gate := make(chan struct{}, 100), make(chan struct{})
		release := sync.OnceFunc(func() { close(gate) })
		defer release()
		rig.logs[p].setFault(func(node string, before bool) error {
			if !before && node == "a" { // the other one finds out whether it can write
				held <- struct{}{}
				<-gate
			}
			return nil
		})
		over := make(chan error, 1)
		go func() {
			_, err := a.Accept(within(t), tellTo(rig.actorIn(p)))
			over <- err
		}()
		<-held
		term := a.Epochs()[p]
		b := rig.start("b")
		asked := func() bool {
			for _, o := range a.Owners() {
				if o == "b" {
					return true // it got another one, and has asked for this one too
				}
			}
			return false
		}
		for end := within(t); !asked(); time.Sleep(time.Millisecond) {
			if end.Err() != nil {
				t.Fatal("b is given nothing")
			}
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		delete(rig.nodes, "b")
		time.Sleep(300 * time.Millisecond) // a has read the list of gateways again
		rig.logs[p].setFault(nil)
		release()
		if err := <-over; err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if now := a.Epochs()[p]; now != term {
			t.Errorf("term %d of the partition is over, and %d has begun", term.Epoch, now.Epoch)
		}
	})
}
