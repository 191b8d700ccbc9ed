package engine_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/karmesh/kar/runtime"
)

// An older copy of the log was put back, and the store does not answer while the partition
// is taken: when it answers, it is ahead of the log. That has to be said, as it is when the
// store answers at the taking; what is acknowledged from then on must not be lost.
func TestStoreAheadOfTheLogThatComesLate(t *testing.T) {
	for _, late := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			rig := newMeshRig(t, 1)
			a := rig.open("a")
			actor := runtime.Actor{App: "app", Type: "A", ID: "1"}
			for i := range 60 {
				if _, err := a.State(within(t), runtime.StateOp{Actor: actor, Verb: runtime.StateSet, Key: "k", Value: []byte{byte('A' + i%26)}}); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(3 * time.Second)
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			delete(rig.nodes, "a")
			l := rig.logs[0]
			l.mu.Lock()
			l.records = l.records[:20] // the older copy
			l.mu.Unlock()
			rig.store.mu.Lock()
			rig.store.away = late
			rig.store.mu.Unlock()
			b := rig.start("b")
			time.Sleep(time.Minute)
			rig.store.mu.Lock()
			rig.store.away = false
			rig.store.mu.Unlock()
			time.Sleep(10 * time.Second)
			_, err := b.State(within(t), runtime.StateOp{Actor: actor, Verb: runtime.StateSet, Key: "k", Value: []byte("new")})
			if err == nil {
				t.Errorf("the store answers late: %v; a write is acknowledged", late)
			}
			if err := b.Healthy(within(t)); !is(err, runtime.CodeDamaged) {
				t.Errorf("the store answers late: %v; the health is %v", late, err)
			}
		})
	}
}
