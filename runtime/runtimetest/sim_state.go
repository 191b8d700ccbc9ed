package runtimetest

import (
	"fmt"
	"math"
	"slices"

	"github.com/karmesh/kar/runtime"
)

// simFields are the entries that an actor's state may have.
func simFields() []runtime.Field {
	return []runtime.Field{{Key: "k"}, {Key: "x"}, {Key: "m", Sub: "a", InMap: true}, {Key: "m", Sub: "b", InMap: true}}
}

// readWrite reads the actor's state key and writes it anew.
func (x *simAttempt) readWrite(then func()) {
	a := x.m.Target.Actor()
	x.read(a, runtime.StateOp{Verb: runtime.StateGet, Key: "k"}, func() {
		x.write(a, runtime.StateOp{Verb: runtime.StateSet, Key: "k"}, then)
	})
}

// anyState reads and changes the state in one of the ways that there are.
func (x *simAttempt) anyState(then func()) {
	a := x.m.Target.Actor()
	reads := []runtime.StateOp{{Verb: runtime.StateGet, Key: "x"}, {Verb: runtime.StateMap, Key: "m"}, {Verb: runtime.StateAll}, {Verb: runtime.StateGet, Key: "m", Sub: "a", InMap: true}}
	x.read(a, reads[x.h.s.rng.Intn(len(reads))], func() { x.write(a, x.h.s.anyWrite(), then) })
}

// anyWrite is a change without its values.
func (s *sim) anyWrite() runtime.StateOp {
	fs := simFields()
	s.rng.Shuffle(len(fs), func(i, j int) { fs[i], fs[j] = fs[j], fs[i] })
	f := fs[0]
	switch s.rng.Intn(7) {
	case 0, 1:
		return runtime.StateOp{Verb: runtime.StateSet, Key: f.Key, Sub: f.Sub, InMap: f.InMap}
	case 2:
		return runtime.StateOp{Verb: runtime.StateDelete, Key: f.Key, Sub: f.Sub, InMap: f.InMap}
	case 3:
		return runtime.StateOp{Verb: runtime.StateMapClear, Key: "m"}
	case 4:
		return runtime.StateOp{Verb: runtime.StateClear}
	}
	return runtime.StateOp{Verb: runtime.StateUpdate, Removes: fs[:1:1], Sets: slices.Clone(fs[1:3])}
}

// foreign writes to an actor's state from outside, again and again.
func (s *sim) foreign(app string) {
	if !s.faults {
		return
	}
	a := simActor(app, s.rng.Intn(simActors)).Actor()
	op := s.anyWrite()
	op.Actor = a
	w := s.wit.writing("", &op, fmt.Sprintf("foreign~%d", s.between(0, 1<<30)))
	s.stateAsk(op, func(ms int64, do func()) { s.after(ms, do) }, func(_ runtime.StateResult, refused, once bool) {
		s.wit.wrote(w, refused, once)
		s.after(s.between(0, 2000), func() { s.foreign(app) })
	})
}

func (x *simAttempt) read(a runtime.Actor, op runtime.StateOp, then func()) {
	from := x.h.s.now
	op.Actor, op.Boot = a, x.h.boot
	x.state(op, func(r runtime.StateResult, refused, _ bool) {
		if refused {
			return
		}
		x.h.s.wit.read(x, &op, from, r)
		then()
	})
}

func (x *simAttempt) write(a runtime.Actor, op runtime.StateOp, then func()) {
	s := x.h.s
	op.Actor, op.Boot = a, x.h.boot
	w := s.wit.writing(x.h.boot, &op, fmt.Sprintf("%s~%d", x.token(), s.between(0, 1<<30)))
	x.state(op, func(_ runtime.StateResult, refused, once bool) {
		s.wit.wrote(w, refused, once)
		then()
	})
}

// state asks until there is an answer; the answer is for the app.
func (x *simAttempt) state(op runtime.StateOp, then func(r runtime.StateResult, refused, once bool)) {
	if x.h.s.opt.Bug == "late-writes" {
		op.Boot = ""
	}
	x.h.s.stateAsk(op, x.h.at, func(r runtime.StateResult, refused, once bool) {
		x.h.app(0, func() { then(r, refused, once) })
	})
}

func targetOf(a runtime.Actor) runtime.Target {
	return runtime.Target{App: a.App, Type: a.Type, ID: a.ID}
}

// stateAsk asks the owner until there is an answer. At runs in the process of
// who asks; once tells that the question was sent one time only.
func (s *sim) stateAsk(op runtime.StateOp, at func(int64, func()), then func(r runtime.StateResult, refused, once bool)) {
	p := runtime.ActorPartition(op.Actor, s.opt.Partitions)
	answered, sent := false, 0
	if !op.Verb.Reads() {
		op.ID = s.newID(targetOf(op.Actor), "")
	}
	var again func()
	again = func() {
		if answered {
			return
		}
		sent++
		// It leaves now, and arrives whatever becomes of who sent it.
		s.after(s.between(0, 20), func() {
			if s.faults && s.chance(5) {
				return
			}
			late := int64(0)
			if s.faults && s.chance(3) {
				late = s.between(0, 9000)
			}
			s.after(late, func() {
				o := s.ownerOf(p)
				if o == nil {
					return
				}
				o.stateInput(op, func(e *runtime.Effect) {
					at(s.between(0, 10), func() {
						if answered || e.Err != nil && e.Err.Code == runtime.CodeAskAgain {
							return
						}
						answered = true
						s.trace("%s is told of verb %d on %s %s~, sent %d: %v", op.Boot, op.Verb, op.Actor.ID, op.Value, sent, e.Err)
						r, _ := e.Value.(runtime.StateResult)
						made := e.Err == nil || e.Err.Code == runtime.CodeOutcomeNotKept
						then(r, !made, sent == 1)
					})
				})
			})
		})
		if op.Verb.Reads() || !s.faults {
			at(1000, again)
		} else {
			at(12_000, again) // a write is not repeated while it may still arrive
		}
	}
	again()
}

// A stateModel is the history of one actor's state.
type stateModel struct {
	writes []*simWrite
}

// A simWrite is what one change means for one entry: the value that it has
// from some moment on between from and to. To is math.MaxInt64 until the write
// was acknowledged.
type simWrite struct {
	field    runtime.Field
	value    string // "" for none
	boot     string
	from, to int64
}

func (w *witness) model(a runtime.Actor) *stateModel {
	m := w.state[a]
	if m == nil {
		m = &stateModel{}
		for _, f := range simFields() {
			m.writes = append(m.writes, &simWrite{field: f, from: -2, to: -1})
		}
		w.state[a] = m
	}
	return m
}

func sameField(a, b *runtime.Field) bool {
	return a.Key == b.Key && a.Sub == b.Sub && a.InMap == b.InMap
}

// writing gives the change its values and notes what may come of it.
func (w *witness) writing(boot string, op *runtime.StateOp, token string) []*simWrite {
	var ws []*simWrite
	note := func(f runtime.Field, value string) {
		ws = append(ws, &simWrite{field: f, value: value, boot: boot, from: w.s.now, to: math.MaxInt64})
	}
	one := runtime.Field{Key: op.Key, Sub: op.Sub, InMap: op.InMap}
	switch op.Verb {
	case runtime.StateSet:
		op.Value = []byte(token)
		note(one, token)
	case runtime.StateDelete:
		note(one, "")
	case runtime.StateUpdate:
		for _, f := range op.Removes {
			note(f, "")
		}
		for i := range op.Sets {
			op.Sets[i].Value = []byte(token)
			note(op.Sets[i], token)
		}
	default:
		for _, f := range simFields() {
			if f.InMap || op.Verb == runtime.StateClear {
				note(f, "")
			}
		}
	}
	m := w.model(op.Actor)
	m.writes = append(m.writes, ws...)
	w.s.trace("%s writes %v to %s: %s", boot, op.Verb, op.Actor.ID, token)
	return ws
}

// wrote: the change was acknowledged or refused.
func (w *witness) wrote(ws []*simWrite, refused, once bool) {
	for _, x := range ws {
		switch {
		case !refused:
			x.to = min(x.to, w.s.now)
		case once:
			x.from = math.MaxInt64
		}
	}
}

// vanishes: from now on the whole state may be gone; the returned writes end it.
func (w *witness) vanishes(a runtime.Actor) []*simWrite {
	return w.writing("", &runtime.StateOp{Actor: a, Verb: runtime.StateClear}, "")
}

// read is P10: each entry has the last value that was acknowledged before the
// question, or one that was written meanwhile, or whose fate nobody knew.
func (w *witness) read(x *simAttempt, op *runtime.StateOp, from int64, r runtime.StateResult) {
	if op.Actor.App == simApp && x.began <= w.purgedAt {
		return // asked before the purge; a process that was stopped sees the answer after it
	}
	if op.Verb == runtime.StateGet {
		w.readField(x, op.Actor, runtime.Field{Key: op.Key, Sub: op.Sub, InMap: op.InMap}, from, string(r.Value))
		return
	}
	for _, f := range simFields() {
		if op.Verb == runtime.StateMap && !f.InMap {
			continue
		}
		value := ""
		for i := range r.Fields {
			if sameField(&r.Fields[i], &f) {
				value = string(r.Fields[i].Value)
			}
		}
		w.readField(x, op.Actor, f, from, value)
	}
}

func (w *witness) readField(x *simAttempt, a runtime.Actor, f runtime.Field, from int64, value string) {
	m := w.model(a)
	var last, found *simWrite
	for _, c := range m.writes {
		if !sameField(&c.field, &f) || c.from > w.s.now {
			continue
		}
		if c.to < from && (last == nil || c.from > last.from) {
			last = c
		}
	}
	for _, c := range m.writes {
		if sameField(&c.field, &f) && c.from <= w.s.now && c.value == value && (last == nil || c.to >= last.from) {
			found = c
		}
	}
	if found == nil {
		w.fail("P10: %s reads %q in %s/%s of %s, the last acknowledged write is %+v", x.token(), value, f.Key, f.Sub, a.ID, *last)
		return
	}
	for _, c := range m.writes {
		if c.to == math.MaxInt64 && c.boot != "" && c.boot != x.h.boot && c != found && sameField(&c.field, &f) {
			c.from = math.MaxInt64 // of a host that has been replaced
		}
	}
}
