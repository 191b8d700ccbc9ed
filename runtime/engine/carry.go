package engine

import (
	"context"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/karmesh/kar/runtime"
)

func stack() string { return string(debug.Stack()) }

// A reply is what a waiter gets.
type reply struct {
	outcome *runtime.Outcome
	open    bool // outcome is an answer for now, the request goes on
	id      runtime.ID
	value   any
	err     *runtime.Error
}

// A waiter gets one reply, in a channel that has room for it or by a call;
// giving never blocks.
type waiter struct {
	ch   chan reply
	then func(reply)
	told atomic.Bool // then was called

	charge atomic.Pointer[charge] // of the input, until it was decided
	left   atomic.Bool            // nobody waits any more
	at     int                    // where the input was put into the queue; partition.mu
}

// decided gives back what the input has taken, once.
func (w *waiter) decided() { w.charge.Swap(nil).release() }

func newWaiter() *waiter { return &waiter{ch: make(chan reply, 1)} }

func (w *waiter) give(r reply) {
	if w.then != nil {
		if w.told.CompareAndSwap(false, true) {
			w.then(r)
		}
		return
	}
	select {
	case w.ch <- r:
	default: // answered before
	}
}

func (p *partition) reply(e *runtime.Effect) {
	if w, ok := e.Waiter.(*waiter); ok {
		w.give(reply{e.Outcome, e.Open, e.ID, e.Value, e.Err})
	}
}

// carryOut does what a durable decision asks for.
func (p *partition) carryOut(e *runtime.Effect) {
	switch e.Kind {
	case runtime.Reply:
		p.reply(e)
	case runtime.ToHost:
		p.m.send(e.Boot, e.Msg)
	case runtime.ToPartition:
		p.m.tell(e.Partition, &InputNote{Deliver: &runtime.Deliver{From: p.n, N: e.N, Payload: e.Payload}})
	case runtime.AckPartition:
		p.m.tell(e.Partition, &InputNote{Acked: &runtime.Acked{Partition: p.n, N: e.N}})
	case runtime.ToOwner:
		note := &InputNote{}
		switch in := e.Value.(type) {
		case *runtime.FenceAsk:
			note.FenceAsk = in
		case *runtime.FenceAnswered:
			note.FenceAnswered = in
		case *runtime.GroupAsk:
			note.GroupAsk = in
		case *runtime.GroupOpen:
			note.GroupOpen = in
		case *runtime.BesideAsk:
			note.BesideAsk = in
		case *runtime.BesideAnswered:
			note.BesideAnswered = in
		}
		p.m.tell(e.Partition, note)
	case runtime.WatchChild:
		p.watch(e.ID, e.Value.([]runtime.ID), e.Target.App, 0)
	case runtime.AppError:
		p.logger.Warn("a request that nobody waits for ended with an error; it is not repeated", "request", e.ID.String(),
			"app", e.Target.App, "component", e.Target.Component(), "actor", e.Target.ID, "status", e.Outcome.Status, "code", string(e.Outcome.Code))
	case runtime.LostHost:
		p.m.ended(e.Boot, e.Value.(runtime.HostEnd))
	case runtime.LostTerm:
		p.lostTerm(e.Boot, e.Msg.(*runtime.TermLost))
	case runtime.NeedBody:
		p.bodies.want(e.ID, e.N, p.places)
	case runtime.GroupsChanged:
		p.m.groups.fire()
	case runtime.GenerationChanged:
		p.gens.Clear()
	case runtime.ServicesChanged:
		p.m.services.fire()
		p.m.tellAll(&Note{Services: true})
	}
}

// lostTerm says that a host knows of a term that the log does not hold any more,
// once for each term of this owner, and lets the host go on.
func (p *partition) lostTerm(boot string, lost *runtime.TermLost) {
	p.m.tally.termsLost.Add(1)
	if p.saidLost != lost.Epoch {
		p.saidLost = lost.Epoch
		p.logger.Error("components know a later term of this partition than its log holds: an older copy of the log was put back, or another one in its place. "+
			"What had been decided later is lost; the components go on when what they still run of it has ended",
			"boot", boot, "term", lost.Epoch, "later", lost.Seen.Epoch)
	}
	p.m.send(boot, lost)
}

// watchTurn is how long a watcher waits before it looks whether it is still needed.
const watchTurn = 10 * time.Second

// watch tells the partition when a child in another one has completed, or, of one for
// which somebody has asked in term asker, was not accepted from there; and whether the app
// has been purged there.
func (p *partition) watch(child runtime.ID, parents []runtime.ID, app string, asker uint64) {
	if p.m.part(child.Partition()) == nil {
		return
	}
	epoch := asker
	if epoch == 0 {
		epoch = p.epoch.Load()
	}
	p.m.watches.Go(func() {
		await := &Op{Partition: child.Partition(), Await: &runtime.Await{ID: child}}
		generation := &Op{Partition: child.Partition(), Query: &runtime.Query{Kind: runtime.QueryGeneration, App: app}}
		op, began := await, time.Now()
		for p.epoch.Load() == epoch && p.m.life.Err() == nil { // else the next owner watches
			ctx, cancel := context.WithTimeout(p.m.life, watchTurn)
			rep, err := p.m.once(ctx, op)
			late := ctx.Err() != nil
			cancel()
			if late && p.m.life.Err() == nil {
				continue
			}
			switch code(err) {
			case runtime.CodeShutdown:
				return
			case "", runtime.CodeUnknownRequest, runtime.CodeOutcomeNotKept, runtime.CodeTooOld: // the only ends
			case runtime.CodeActorBusy: // it waits under its key no longer
			case runtime.CodeAskAgain, runtime.CodeNotOwner, runtime.CodeUnavailable, runtime.CodeStoreAway, runtime.CodeUnknownOutcome:
				p.m.pause(p.m.life, child.Partition(), time.Since(began))
				continue
			default: // of a rule that fails on the question, which costs the partition
				pauseFor(p.m.life, watchTurn)
				continue
			}
			if p.m.life.Err() != nil {
				return
			}
			if op == await {
				switch {
				case err == nil && rep.open:
					continue // those who wait for it were told something, it goes on
				case err == nil:
					asker = 0
				}
				op = generation
				continue
			}
			g, _ := rep.value.(uint64)
			p.push(&runtime.ChildClosed{Parents: parents, Child: child, App: app, Generation: g, Asker: asker})
			return
		}
	})
}

// refuseInput tells the waiter of an input that it was not decided.
func refuseInput(in runtime.Input, err *runtime.Error) {
	if w, ok := runtime.WaiterOf(in).(*waiter); ok {
		w.decided()
		w.give(reply{err: err})
	}
}

// ask sends an input that the caller made with w, and waits for the reply. An
// input whose asker goes before its round has begun is not decided.
func (p *partition) ask(ctx context.Context, w *waiter, in runtime.Input) (reply, error) {
	if size := bodySize(in); size > 0 && w.charge.Load() == nil {
		w.charge.Store(p.m.memory.charge(size))
	}
	left := p.left.Load()
	p.push(in)
	select {
	case r := <-w.ch:
		if r.err != nil {
			return r, r.err
		}
		return r, nil
	case <-left.ctx.Done():
		p.leave(w)
		return reply{}, p.askOthers()
	case <-ctx.Done():
		p.leave(w)
		return reply{}, ctx.Err()
	}
}

// mayLeave bounds the gaps in the queue that are not closed at once.
const mayLeave = 1024

// leave takes an input out of the queue whose asker has gone.
func (p *partition) leave(w *waiter) {
	w.left.Store(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.at >= len(p.inputs) || waiterOf(p.inputs[w.at]) != w {
		return
	}
	p.inputs[w.at] = nil
	w.decided()
	if p.gaps++; p.gaps > mayLeave && 2*p.gaps > len(p.inputs) {
		p.inputs = slices.DeleteFunc(p.inputs, func(in runtime.Input) bool { return in == nil })
		p.gaps = 0
		for i, in := range p.inputs {
			if w := waiterOf(in); w != nil {
				w.at = i
			}
		}
	}
}

func waiterOf(in runtime.Input) *waiter {
	w, _ := runtime.WaiterOf(in).(*waiter)
	return w
}

// present leaves out the inputs whose askers have gone.
func present(ins []runtime.Input) []runtime.Input {
	return slices.DeleteFunc(ins, func(in runtime.Input) bool {
		if in == nil {
			return true
		}
		w := waiterOf(in)
		if w == nil || !w.left.Load() {
			return false
		}
		w.decided()
		return true
	})
}
