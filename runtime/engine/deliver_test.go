package engine

import (
	"errors"
	"slices"
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

// What a host or another partition reports once outlives a log that cannot be written;
// who asks is told that nothing was accepted.
func TestReportsOutliveAStuckLog(t *testing.T) {
	p := &partition{wake: make(chan struct{}, 1), queued: map[any]bool{}}
	w := newWaiter()
	reports := []runtime.Input{
		&runtime.Answered{Boot: "h", Answer: runtime.Answer{Attempt: runtime.Attempt{ID: runtime.ID{1}}}},
		&runtime.HostDown{Boot: "h"},
		&runtime.Acked{Partition: 2, N: 1},
		&runtime.Tick{},
	}
	p.push(reports[0], &runtime.Submit{Request: runtime.Request{ID: runtime.ID{2}}, Waiter: w}, reports[1], &runtime.Deliver{From: 2, N: 1}, reports[2], reports[3])
	p.refuseWaiting(errors.New("it does not end"))
	if got := p.take(nil); !slices.Equal(got, reports) {
		t.Errorf("%v are left", got)
	}
	select {
	case r := <-w.ch:
		if r.err == nil || r.err.Code != runtime.CodeUnavailable {
			t.Errorf("who asks is told %v", r.err)
		}
	default:
		t.Error("who asks is told nothing")
	}
}

// Whoever waits for an outcome waits for a request that was accepted before: however
// little of the round is in the log, nobody is told that nothing was accepted.
func TestRoundThatFailsIsNoRefusalOfAcceptedWork(t *testing.T) {
	unsure := &runtime.UnknownError{Cause: errors.New("no answer")}
	for _, x := range []struct {
		cause error
		tried bool // an append with an unknown outcome before
		code  runtime.Code
	}{
		{errors.New("the disk is gone"), false, runtime.CodeUnavailable},
		{errors.New("the disk is gone"), true, runtime.CodeUnknownOutcome},
		{unsure, false, runtime.CodeUnknownOutcome},
		{errDeposed, false, runtime.CodeNotOwner},
		{errDeposed, true, runtime.CodeAskAgain},
		{&surrenderError{cause: unsure}, false, runtime.CodeAskAgain},
	} {
		m := &Mesh{life: t.Context()}
		p := &partition{m: m, share: share{of: &m.memory}, core: runtime.New(runtime.Config{Partitions: 1}), unsure: x.tried}
		caller, teller := newWaiter(), newWaiter()
		p.fail(nil, []runtime.Effect{
			{Kind: runtime.Reply, Waiter: caller, ID: runtime.ID{1}, Outcome: &runtime.Outcome{Status: 200}},
			{Kind: runtime.Reply, Waiter: teller, ID: runtime.ID{2}},
		}, x.cause)
		if r := <-caller.ch; r.outcome != nil || r.err == nil || r.err.Code != runtime.CodeAskAgain || r.err.ID != (runtime.ID{1}) {
			t.Errorf("%v, tried %v: a caller is told %+v", x.cause, x.tried, r)
		}
		if r := <-teller.ch; r.err == nil || r.err.Code != x.code {
			t.Errorf("%v, tried %v: whose work is new is told %+v", x.cause, x.tried, r.err)
		}
	}
}
