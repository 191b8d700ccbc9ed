package engine

import (
	"testing"

	"github.com/karmesh/kar/runtime"
)

// What a host has finished while it was away is decided one by one, as other answers
// are, in front of its join.
func TestFinishedOneByOne(t *testing.T) {
	p := &partition{wake: make(chan struct{}, 1), queued: map[any]bool{}}
	m := &Mesh{parts: []*partition{p}}
	join := &runtime.JoinAnswer{Running: make([]runtime.Attempt, 1)}
	for range 100 {
		join.Finished = append(join.Finished, runtime.Answer{Outcome: &runtime.Outcome{Status: 200, Body: make([]byte, maxRoundBytes/10)}})
	}
	m.joinHere(runtime.HostInfo{Boot: "h"}, runtime.PartitionEpoch{}, join, newWaiter())
	last, ok := p.inputs[len(p.inputs)-1].(*runtime.HostJoined)
	if !ok || len(p.inputs) != 101 || len(last.Join.Finished) != 0 || len(last.Join.Running) != 1 || len(join.Finished) != 100 {
		t.Fatalf("%d inputs, the last is a %T", len(p.inputs), p.inputs[len(p.inputs)-1])
	}
	if n := roundOf(p.inputs); n != 10 {
		t.Errorf("%d of them are one round", n)
	}
}

// A round has a bound in keys that change, whatever their size.
func TestRoundOfManyKeys(t *testing.T) {
	op := runtime.StateOp{Verb: runtime.StateUpdate, Sets: make([]runtime.Field, runtime.MaxFields/2), Removes: make([]runtime.Field, runtime.MaxFields/2)}
	var ins []runtime.Input
	for range 100 {
		ins = append(ins, &runtime.StateInput{Op: op})
	}
	if n := roundOf(ins); n != 10 {
		t.Errorf("%d changes of %d keys in one round", n, runtime.MaxFields)
	}
}
