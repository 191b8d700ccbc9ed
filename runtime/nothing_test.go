package runtime

import (
	"fmt"
	"strings"
	"testing"
)

// A change that changed nothing was made all the same: its late copy, which arrives when
// the asker has gone on, undoes nothing of what came after it.
func TestChangeOfNothingIsMadeOnce(t *testing.T) {
	a := Actor{"dp", "A", "1"}
	s := newSolo(t, Config{})
	state := func(op StateOp) *Effect {
		op.Actor = a
		return s.answer(&StateInput{Op: op, View: &View{Applied: s.c.seq, Entries: map[string][]byte{}}, Waiter: "w"})
	}
	for what, x := range map[string]struct{ undo, do, look func(ID) any }{
		"state": {
			func(id ID) any { return state(StateOp{Verb: StateDelete, Key: "k", ID: id}).Value.(StateResult).N },
			func(id ID) any {
				return state(StateOp{Verb: StateSet, Key: "k", Value: []byte("1"), ID: id}).Value.(StateResult).Created
			},
			func(ID) any { return state(StateOp{Verb: StateGet, Key: "k"}).Value.(StateResult).Found },
		},
		"map": {
			func(id ID) any { return state(StateOp{Verb: StateMapClear, Key: "m", ID: id}).Value.(StateResult).N },
			func(id ID) any {
				return state(StateOp{Verb: StateSet, Key: "m", Sub: "s", InMap: true, Value: []byte("1"), ID: id}).Value.(StateResult).Created
			},
			func(ID) any {
				return state(StateOp{Verb: StateGet, Key: "m", Sub: "s", InMap: true}).Value.(StateResult).Found
			},
		},
		"reminders": {
			func(id ID) any { return s.answer(&CancelReminders{Actor: a, Request: id, Waiter: "w"}).Value },
			func(id ID) any {
				return !s.answer(&SetReminder{Reminder: Reminder{Actor: a, ID: "r", Path: "/m", Due: s.now.Wall + 1_000_000}, ID: id, Waiter: "w"}).Value.(bool)
			},
			func(ID) any { return s.c.reminder(a, "r") != nil },
		},
		"subscriptions": {
			func(id ID) any { return s.answer(&Unsubscribe{Actor: a, Request: id, Waiter: "w"}).Value },
			func(id ID) any {
				return !s.answer(&Subscribe{Subscription: Subscription{Actor: a, ID: "s", Path: "/e", Topic: "t"}, ID: id, Waiter: "w"}).Value.(bool)
			},
			func(ID) any { return s.c.sub(a, "s") != nil },
		},
	} {
		t.Run(what, func(t *testing.T) {
			id := s.id(a.target())
			if n := x.undo(id); fmt.Sprint(n) != "0" {
				t.Fatalf("there was something: %v", n)
			}
			if first := x.do(s.id(a.target())); first != true {
				t.Fatalf("it was there: %v", first)
			}
			if n := x.undo(id); fmt.Sprint(n) != "0" {
				t.Errorf("the late copy undid %v", n)
			}
			if found := x.look(ID{}); found != true {
				t.Error("what was acknowledged is gone")
			}
		})
	}
}

// The names of a subscription stand in the record of each event that it brings.
func TestNamesOfSubscriptionsAreBounded(t *testing.T) {
	const limit = 64 << 10
	long := strings.Repeat("g", maxNameBytes)
	for _, sub := range []Subscription{{Group: long + "g"}, {ContentType: long + "g"}} {
		s := newSolo(t, Config{})
		sub.Actor, sub.ID, sub.Path, sub.Topic = Actor{"dp", "A", "1"}, "s", "/e", "t"
		if code := codeOf(s.answer(&Subscribe{Subscription: sub, Waiter: "w"})); code != CodeBadSubscription {
			t.Errorf("a long name: %q", code)
		}
	}
	x := newAcross(t)
	s := x.parts[0]
	s.c.cfg.RecordLimit = limit
	sub := Subscription{Actor: actorIn(1, 2, "A"), ID: "s", Path: "/e", Topic: "t"}
	for i := 0; ; i++ {
		if sub.Group = long[:maxNameBytes-4] + fmt.Sprint(i); GroupPartition(&sub, 2) == 0 {
			break
		}
	}
	x.do(1, &Subscribe{Subscription: sub, Waiter: "w"})
	x.settle()
	p := &pump{s: s, key: s.c.groupKey(&sub)}
	for n := limit - 5*maxNameBytes; n < limit; n += 16 {
		p.event(n)
	}
	for _, b := range s.log {
		if len(b) > limit {
			t.Fatalf("a record has %d bytes, and the log takes %d", len(b), limit)
		}
	}
}
