package engine

import (
	"context"
	"runtime/debug"

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

// A waiter gets one reply; ch has room for it, so giving never blocks.
type waiter struct{ ch chan reply }

func newWaiter() *waiter { return &waiter{make(chan reply, 1)} }

func (p *partition) reply(e *runtime.Effect) {
	if w, ok := e.Waiter.(*waiter); ok {
		select {
		case w.ch <- reply{e.Outcome, e.Open, e.ID, e.Value, e.Err}:
		default: // answered before
		}
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
		p.m.part(e.Partition).push(&runtime.Deliver{From: p.n, N: e.N, Payload: e.Payload})
	case runtime.AckPartition:
		p.m.part(e.Partition).push(&runtime.Acked{Partition: p.n, N: e.N})
	case runtime.AskFence:
		p.m.part(e.Partition).push(&runtime.FenceAsk{From: p.n, Epoch: e.Epoch})
	case runtime.FenceAnswer:
		p.m.part(e.Partition).push(&runtime.FenceAnswered{From: p.n, Epoch: e.Epoch, Pending: e.Pending})
	case runtime.WatchChild:
		p.watch(e.ID, e.Value.(runtime.ID))
	case runtime.AppError:
		p.logger.Warn("a request that nobody waits for ended with an error; it is not repeated", "request", e.ID.String(),
			"app", e.Target.App, "component", e.Target.Component(), "actor", e.Target.ID, "status", e.Outcome.Status, "code", string(e.Outcome.Code))
	case runtime.LostHost:
		p.m.lost(e.Boot, e.Value.(string))
	case runtime.GroupsChanged:
		p.gens.Clear()
		p.m.groups.fire()
	case runtime.ServicesChanged:
		p.m.services.fire()
	}
}

// watch tells the partition when a child in another one has completed, or was
// never accepted.
func (p *partition) watch(child, parent runtime.ID) {
	home := p.m.part(child.Partition())
	if home == nil {
		return
	}
	p.m.watches.Add(1)
	go func() {
		defer p.m.watches.Done()
		for {
			w := newWaiter()
			home.push(&runtime.Await{App: "", ID: child, Waiter: w, View: &runtime.View{}})
			r := <-w.ch
			if r.err != nil && (r.err.Code == runtime.CodeShutdown || r.err.Code == runtime.CodeUnknownOutcome) {
				return
			}
			if r.err == nil || r.err.Code != runtime.CodeAskAgain && r.err.Code != runtime.CodeUnavailable {
				break
			}
		}
		p.push(&runtime.ChildClosed{Parents: []runtime.ID{parent}, Child: child})
	}()
}

// refuseInput tells the waiter of an input that it was not decided.
func refuseInput(in runtime.Input, err *runtime.Error) {
	if w, ok := runtime.WaiterOf(in).(*waiter); ok {
		select {
		case w.ch <- reply{err: err}:
		default:
		}
	}
}

// ask sends an input that the caller made with w, and waits for the reply.
func (p *partition) ask(ctx context.Context, w *waiter, in runtime.Input) (reply, error) {
	p.push(in)
	select {
	case r := <-w.ch:
		if r.err != nil {
			return r, r.err
		}
		return r, nil
	case <-ctx.Done():
		return reply{}, ctx.Err()
	}
}
