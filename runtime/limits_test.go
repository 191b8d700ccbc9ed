package runtime

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// What the log would refuse refuses its request, before anything of it is
// decided; what comes as a list comes in pieces.
func TestNoRecordIsTooLarge(t *testing.T) {
	const limit = 160 << 10
	w := newWorld(t)
	w.cfg.RecordLimit = limit
	w.setPartitions(4)
	w.command("host h1 actors=A,B service=s")
	large := strings.Repeat("x", limit)
	expect := func(what, answer string) {
		t.Helper()
		if got := w.out.String(); !strings.Contains(got, answer) {
			t.Errorf("%s: %s", what, clip(got, 300))
		}
		w.out.Reset()
	}
	play := func(what, answer string, in func(p uint16, w any) Input) {
		t.Helper()
		w.out.Reset()
		n := ActorPartition(target("A/1").Actor(), 4)
		w.step(n, in(n, "w"))
		expect(what, answer)
	}
	a := target("A/1")
	play("body", "refused too_large", func(_ uint16, x any) Input {
		return &Submit{Request: Request{ID: w.newID("r1", a, ""), Target: a, Method: "POST", Body: []byte(large)}, Waiter: x}
	})
	play("path", "refused too_large", func(_ uint16, x any) Input {
		return &Submit{Request: Request{ID: w.newID("r1", a, ""), Target: a, Method: "POST", Path: "/" + large}, Waiter: x}
	})
	for i, o := range []*Outcome{
		{Status: 200, Body: []byte(large)},
		{Status: 200, Header: Header{"X": {large}}},
		{Status: 200, Body: tailCallBody(target("A/1"), "/"+large, false)},
		{Status: 200, Body: tailCallBody(target("A/2"), "/"+large, false)},
	} {
		name := fmt.Sprint("c", i)
		w.command("call " + name + " A/1 /m")
		play(name, "reply "+name+": 500 result_too_large", func(n uint16, _ any) Input {
			e := w.parts[n].core.entries[w.ids[name]]
			return &Answered{Boot: "h1", Answer: Answer{Attempt: w.parts[n].core.attemptOf(e), Outcome: o}}
		})
	}
	// A chain that goes on elsewhere.
	w.command("call c9 A/1 /m")
	play("chain", "accepted c9", func(n uint16, _ any) Input {
		e := w.parts[n].core.entries[w.ids["c9"]]
		return &Answered{Boot: "h1", Answer: Answer{Attempt: w.parts[n].core.attemptOf(e), Outcome: &Outcome{Status: 200, Body: tailCallBody(target("A/2"), "/"+large[:limit/3], false)}}}
	})
	play("value", "refused too_large", func(n uint16, x any) Input {
		return &StateInput{Op: StateOp{Actor: a.Actor(), Verb: StateSet, Key: "k", Value: []byte(large)}, View: w.parts[n].view(0), Waiter: x}
	})
	play("key", "refused too_large", func(n uint16, x any) Input {
		return &StateInput{Op: StateOp{Actor: a.Actor(), Verb: StateSet, Key: large}, View: w.parts[n].view(0), Waiter: x}
	})
	var fields []Field
	for i := range 20_000 {
		fields = append(fields, Field{Key: "m", Sub: fmt.Sprint("sub", i), InMap: true, Value: []byte("v")})
	}
	play("update", "refused too_large", func(n uint16, x any) Input {
		return &StateInput{Op: StateOp{Actor: a.Actor(), Verb: StateUpdate, Sets: fields}, View: w.parts[n].view(0), Waiter: x}
	})
	for part := range 20 {
		play("update", "found", func(n uint16, x any) Input {
			return &StateInput{Op: StateOp{Actor: a.Actor(), Verb: StateUpdate, Sets: fields[1000*part : 1000*part+1000]}, View: w.parts[n].view(0), Waiter: x}
		})
	}
	play("clear", "n=20000", func(n uint16, x any) Input {
		return &StateInput{Op: StateOp{Actor: a.Actor(), Verb: StateMapClear, Key: "m"}, View: w.parts[n].view(0), Waiter: x}
	})
	play("cleared", "found=false value=\"\" created=false n=0", func(n uint16, x any) Input {
		return &StateInput{Op: StateOp{Actor: a.Actor(), Verb: StateMapClear, Key: "m"}, View: w.parts[n].view(0), Waiter: x}
	})
	if n := ActorPartition(a.Actor(), 4); len(w.parts[n].store) > 4 {
		t.Errorf("%d entries are left in the store", len(w.parts[n].store))
	}
	play("data", "refused too_large", func(_ uint16, x any) Input {
		return &SetReminder{Reminder: Reminder{Actor: a.Actor(), ID: "r", Path: "/p", Due: w.now.Wall + 1000, Data: []byte(large)}, Waiter: x}
	})
	for i := range forgetPiece {
		play("reminder", "false", func(_ uint16, x any) Input {
			return &SetReminder{Reminder: Reminder{Actor: a.Actor(), ID: fmt.Sprintf("%01000d", i), Path: "/p", Due: w.now.Wall + 1_000_000}, Waiter: x}
		})
	}
	play("reminders", fmt.Sprint(forgetPiece), func(_ uint16, x any) Input { return &CancelReminders{Actor: a.Actor(), Waiter: x} })
	play("subscription", "refused too_large", func(_ uint16, x any) Input {
		return &Subscribe{Subscription: Subscription{Actor: a.Actor(), ID: "s", Path: "/" + large[:limit/2], Topic: "t"}, Waiter: x}
	})
	w.command("subscribe A/1 s1 /on topic=t next=5")
	play("event", "too_large", func(n uint16, x any) Input {
		return &DeliverEvents{Group: w.parts[n].core.groupCursors("", 0)[0].Key, From: 5, Waiter: x,
			Events: []Event{{Offset: 5, Body: bytes.Repeat([]byte{1}, limit/4)}, {Offset: 6, Body: []byte("1")}}}
	})
	n := ActorPartition(a.Actor(), 4)
	if g := w.parts[n].core.groupCursors("", 0)[0]; g.Next != 7 {
		t.Errorf("the group stands before %d", g.Next)
	}
	for i := range 20_000 {
		w.parts[n].core.ended.add(w.parts[n].core, w.newID(fmt.Sprint("e", i), a, ""), 1)
	}
	for _, p := range w.parts {
		w.trim(p, 0)
		for _, b := range p.full {
			if len(b) > limit {
				r, _ := DecodeRecord(b)
				t.Errorf("%T has %d bytes", r.Body, len(b))
			}
		}
	}
}

// What the store has been told for good is no longer in memory, however often
// an actor writes.
func TestOverlayOfAHotActor(t *testing.T) {
	w := newWorld(t)
	w.quiet = true
	p := w.parts[0]
	a := Actor{"dp", "A", "q"}
	for i := range 2000 {
		for _, op := range []StateOp{{Verb: StateSet, Value: []byte("v")}, {Verb: StateDelete}, {Verb: StateMapClear}} {
			op.Actor, op.Key = a, fmt.Sprint("item", i)
			w.step(0, &StateInput{Op: op, View: p.view(0), Waiter: 1})
		}
		w.step(0, &StoreApplied{Seq: p.core.Seq()})
		w.advance(200 * time.Millisecond)
	}
	if n := len(p.core.view.recent); n > 100 {
		t.Errorf("%d changes are in memory", n)
	}
	if g := p.core.view.groups[string(ActorPrefix(a, 0))]; g != nil && len(g.items)+len(g.maps) > 100 {
		t.Errorf("%d values are in memory", len(g.items)+len(g.maps))
	}
}

// Clearing a submap is seen by every reader, whatever the store holds by then,
// and by nobody else.
func TestMapClearIsSeen(t *testing.T) {
	w := newWorld(t)
	p := w.parts[0]
	a := Actor{"dp", "A", "1"}
	op := func(verb StateVerb, key, sub string, v *View) StateResult {
		t.Helper()
		p.core.Step(w.now, &StateInput{Op: StateOp{Actor: a, Verb: verb, Key: key, Sub: sub, InMap: sub != "", Value: []byte("v")}, View: v, Waiter: 1})
		records, effects := p.core.Take()
		p.log, p.full = append(p.log, records...), append(p.full, records...)
		for _, ch := range p.core.TakeChanges() {
			p.change(ch)
		}
		r, ok := effects[len(effects)-1].Value.(StateResult)
		if !ok {
			t.Fatal(effects)
		}
		return r
	}
	empty := p.view(0)
	op(StateSet, "m", "a", p.view(0))
	op(StateSet, "m", "b", p.view(0))
	op(StateSet, "mm", "a", p.view(0))
	op(StateSet, "m", "", p.view(0))
	full := p.view(0)
	if r := op(StateMapClear, "m", "", full); r.N != 2 {
		t.Error(r)
	}
	op(StateSet, "m", "c", full)
	for i, v := range []*View{empty, full, p.view(0)} {
		v.Applied = max(v.Applied, p.core.view.forgotten)
		if r := op(StateGet, "m", "a", v); r.Found {
			t.Errorf("view %d: a is back", i)
		}
		if r := op(StateMap, "m", "", v); len(r.Fields) != 1 || r.Fields[0].Sub != "c" {
			t.Errorf("view %d: %v", i, r.Fields)
		}
		if r := op(StateGet, "mm", "a", v); !r.Found {
			t.Errorf("view %d: another submap is gone", i)
		}
		if r := op(StateGet, "m", "", v); !r.Found {
			t.Errorf("view %d: the key of the same name is gone", i)
		}
	}
	if r := op(StateMapClear, "m", "", full); r.N != 1 {
		t.Error(r)
	}
	trimmed := durable(w.foldCore(p, p.log))
	if d := differences(durable(p.core), trimmed, isForgettable); d != "" {
		t.Error(d)
	}
}

// The name of an actor stands in the record of an outcome, too.
func TestOutcomeOfALongName(t *testing.T) {
	const limit = 64 << 10
	b := newBench(t, Config{RecordLimit: limit})
	b.host("h1")
	large := 0
	for n := limit - 16_000; n < limit+1000; n += 200 {
		e := b.submit(Request{Target: Target{App: "dp", Type: "A", ID: strings.Repeat("x", 4096)}})
		for _, x := range b.answer(e, &Outcome{Status: 200, Body: make([]byte, n)}) {
			if x.Kind == Reply && x.Outcome.Code == CodeResultTooLarge {
				large++
			}
		}
	}
	for _, r := range b.log {
		if len(r) > limit {
			t.Fatalf("a record has %d bytes", len(r))
		}
	}
	if large < 5 || large > 60 {
		t.Errorf("%d outcomes were too large", large)
	}
}
