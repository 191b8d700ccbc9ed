package engine_test

import (
	"testing"

	"github.com/karmesh/kar/runtime"
)

// Health says that the disk is full, until an append has found room.
func TestHealthOfAFullDisk(t *testing.T) {
	n, log := openBreakable(t)
	set := runtime.StateOp{Actor: runtime.Actor{App: "app", Type: "A", ID: "1"}, Verb: runtime.StateSet, Key: "k", Value: []byte("v")}
	log.broken.Store(true)
	if _, err := n.State(within(t), set); err == nil {
		t.Fatal("a full disk takes state")
	}
	if err := n.Healthy(within(t)); codeIn(err) != runtime.CodeDiskFull {
		t.Errorf("health: %v", err)
	}
	log.broken.Store(false)
	eventually(t, "the partition has begun anew", func() bool {
		_, err := n.State(within(t), set)
		return err == nil
	})
	if err := n.Healthy(within(t)); err != nil {
		t.Errorf("health with room: %v", err)
	}
}
