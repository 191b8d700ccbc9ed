package runtimetest

import (
	"github.com/karmesh/kar/runtime"
)

// A simOwner drives one core as the engine does: inputs gather while a round is
// made durable; effects wait for it. With several gateways it also has to prove
// that it still is the owner.
type simOwner struct {
	n     *simNode
	inc   int
	log   *simLog
	store *simWriter
	core  *runtime.Core
	in    []runtime.Input
	busy  bool
	next  int   // offset at which the next append is expected
	proof int64 // when the last append that came back in place was sent
	waits map[any]func(*runtime.Effect)
	cuts  []simCut
	mark  bool // a header is wanted
	gone  bool

	pumping map[string]bool  // groups that have been handed events
	sent    map[uint16]int64 // when the last message to a partition arrives
}

type simCut struct {
	seq    uint64
	offset int
}

func (o *simOwner) at(ms int64, do func()) {
	o.n.at(o.inc, ms, func() {
		if !o.gone {
			do()
		}
	})
}

func (o *simOwner) push(in runtime.Input) {
	if o.gone {
		return
	}
	o.in = append(o.in, in)
	if !o.busy && len(o.in) == 1 {
		o.at(o.n.s.between(0, 2), o.round)
	}
}

// ask pushes an input and calls back with the reply, which may never come.
func (o *simOwner) ask(make func(waiter any) runtime.Input, reply func(*runtime.Effect)) {
	o.n.s.asks++
	w := o.n.s.asks
	o.waits[w] = reply
	o.push(make(w))
}

// stateInput reads the store for a generation and hands both to the core.
func (o *simOwner) stateInput(op runtime.StateOp, reply func(*runtime.Effect)) {
	o.ask(func(w any) runtime.Input {
		return &runtime.Query{Kind: runtime.QueryGeneration, App: op.Actor.App, Waiter: w}
	}, func(e *runtime.Effect) {
		v := o.store.view()
		if v != nil {
			v.Generation, _ = e.Value.(uint64)
		}
		o.ask(func(w any) runtime.Input { return &runtime.StateInput{Op: op, View: v, Waiter: w} }, reply)
	})
}

func (o *simOwner) tick() {
	o.at(o.n.s.between(50, 200), func() {
		o.push(&runtime.Tick{})
		if o.n.s.opt.Nodes > 1 && o.n.s.now-o.proof > 500 {
			o.push(&runtime.Mark{}) // am I still the owner?
		}
		o.tick()
	})
}

func (o *simOwner) round() {
	if o.busy {
		return
	}
	s := o.n.s
	for _, in := range o.in {
		o.traceInput(in)
		o.core.Step(s.clock(o.n), in)
	}
	o.in = o.in[:0]
	o.decideTrim()
	var marked *simCut
	if o.mark {
		o.mark = false
		o.core.Step(s.clock(o.n), &runtime.Mark{})
		seq, at := o.core.LastMark()
		marked = &simCut{seq, at}
	}
	if s.opt.Nodes > 1 && o.core.Pending() == 0 && o.core.Answers() && s.now-o.proof > 1000 {
		o.core.Step(s.clock(o.n), &runtime.Prove{})
	}
	records, effects := o.core.Take()
	if s.opt.Bug == "before-durable" {
		o.carryAll(effects)
		effects = nil
	}
	if len(records) == 0 {
		o.carryAll(effects)
		return
	}
	o.busy = true
	o.traceRecords(records)
	sent := s.now
	var try func()
	try = func() {
		o.log.append(records, func(first int, known bool) {
			o.at(0, func() {
				if !known {
					try()
					return
				}
				o.landed(first, sent, records, effects, marked)
			})
		})
	}
	try()
}

// landed: the round is in the log; whether it counts, the log tells.
func (o *simOwner) landed(first int, sent int64, records [][]byte, effects []runtime.Effect, marked *simCut) {
	s := o.n.s
	o.busy = false
	if first == o.next {
		o.next = first + len(records)
	} else {
		shadow := runtime.New(s.config(o.log.n, "shadow"))
		end := len(o.log.full)
		o.log.fold(shadow, o.log.full, o.log.start)
		if shadow.Epoch() != o.core.Epoch() || shadow.Seq() != o.core.Seq() {
			o.stepDown()
			return
		}
		o.next = end
	}
	o.proof = sent
	o.store.add(o.core.TakeChanges(), o.core.Seq())
	if marked != nil {
		o.cuts = append(o.cuts, simCut{marked.seq, first + marked.offset})
	}
	o.carryAll(effects)
	o.at(0, o.round)
}

func (o *simOwner) stepDown() {
	o.n.s.trace("node %d steps down from partition %d", o.n.n, o.log.n)
	o.gone = true
	delete(o.n.owners, o.log.n)
	o.core.StepDown()
	_, effects := o.core.Take()
	for i := range effects {
		o.reply(&effects[i])
	}
}

// trim starts a cut: a header, live things kept, the front thrown away.
func (o *simOwner) trim() {
	o.mark = true
	o.push(&runtime.Tick{})
}

func (o *simOwner) decideTrim() {
	s := o.n.s
	if len(o.cuts) == 0 || s.opt.Nodes > 1 && s.now-o.proof > 1000 {
		return
	}
	cut := o.cuts[0]
	if len(o.log.full)-o.log.start < 60 {
		return
	}
	if o.core.OldestLive() < cut.seq {
		o.core.Step(s.clock(o.n), &runtime.Keep{Before: cut.seq, Limit: 1 + s.rng.Intn(5)})
		return
	}
	if o.log.store.safe() < cut.seq || o.core.Pending() > 0 {
		return
	}
	o.cuts = o.cuts[1:]
	// Perhaps less than asked for: a log is trimmed by segments.
	if at := max(cut.offset-s.rng.Intn(12), 0); at > o.log.start {
		s.trace("partition %d is cut at %d (asked %d)", o.log.n, at, cut.offset)
		o.log.start, o.log.cut = at, cut.seq
		o.log.check()
		s.report.Trims++
	}
}

func (o *simOwner) reply(e *runtime.Effect) {
	if e.Kind != runtime.Reply {
		return
	}
	if f := o.waits[e.Waiter]; f != nil {
		delete(o.waits, e.Waiter)
		f(e)
	}
}

func (o *simOwner) carryAll(effects []runtime.Effect) {
	for i := range effects {
		if o.gone {
			return
		}
		o.carry(&effects[i])
	}
}

func (o *simOwner) carry(e *runtime.Effect) {
	s := o.n.s
	to := func(p uint16, in runtime.Input) {
		if s.faults && s.chance(10) {
			return // lost; it is repeated
		}
		at := s.now + s.between(0, 30)
		if !s.faults || s.chance(90) { // in order, as on a stream; the others were sent before another broke
			at = max(at, o.sent[p])
			o.sent[p] = at
		}
		s.after(at-s.now, func() {
			if d := s.ownerOf(p); d != nil {
				d.push(in)
			}
		})
	}
	switch e.Kind {
	case runtime.Reply:
		o.reply(e)
	case runtime.ToHost:
		for _, h := range s.hosts {
			if h.boot == e.Boot {
				h.fromNode(o.n, e.Msg)
			}
		}
	case runtime.ToPartition:
		if s.opt.Bug == "drop-outbox" {
			o.push(&runtime.Acked{Partition: e.Partition, N: e.N})
			return
		}
		to(e.Partition, &runtime.Deliver{From: o.log.n, N: e.N, Payload: e.Payload})
	case runtime.AckPartition:
		to(e.Partition, &runtime.Acked{Partition: o.log.n, N: e.N})
	case runtime.ToOwner:
		to(e.Partition, e.Value.(runtime.Input))
	case runtime.WatchChild:
		o.watch(e.ID, e.Value.([]runtime.ID), e.Target.App, 0)
	case runtime.LostHost:
		s.trace("node %d counts %s lost: %s", o.n.n, e.Boot, e.Value.(runtime.HostEnd).Reason)
		s.report.Losses++
	}
}

// watch asks the child's home until it has ended, or is not known there to one who
// asked for it in term asker.
func (o *simOwner) watch(child runtime.ID, parents []runtime.ID, app string, asker uint64) {
	s := o.n.s
	done := false
	var again func()
	again = func() {
		if done {
			return
		}
		if home := s.ownerOf(child.Partition()); home != nil {
			home.ask(func(w any) runtime.Input { return &runtime.Await{ID: child, Waiter: w} }, func(e *runtime.Effect) {
				if e.Err != nil && e.Err.Code == runtime.CodeAskAgain || e.Open || done {
					return
				}
				asker := asker
				if e.Err == nil {
					asker = 0
				}
				home.ask(func(w any) runtime.Input { return &runtime.Query{Kind: runtime.QueryGeneration, App: app, Waiter: w} }, func(e *runtime.Effect) {
					g, ok := e.Value.(uint64)
					if !ok || done {
						return
					}
					done = true
					o.at(s.between(0, 20), func() {
						o.push(&runtime.ChildClosed{Parents: parents, Child: child, App: app, Generation: g, Asker: asker})
					})
				})
			})
		}
		o.at(1000, again)
	}
	again()
}
