package runtime

import (
	"fmt"
	"testing"
)

// One change of state has a bound in keys, as it is one step.
func TestChangeOfManyKeysIsBounded(t *testing.T) {
	s := newSolo(t, Config{})
	fields := func(what string, n int) (fs []Field) {
		for i := range n {
			fs = append(fs, Field{Key: fmt.Sprint(what, i), Value: []byte("1")})
		}
		return fs
	}
	for _, x := range []struct {
		sets, removes int
		want          Code
	}{{10_000, 0, ""}, {10_001, 0, CodeTooLarge}, {5_000, 5_000, ""}, {5_000, 5_001, CodeTooLarge}, {0, 10_001, CodeTooLarge}} {
		op := StateOp{Actor: Actor{"dp", "A", "1"}, Verb: StateUpdate, Sets: fields("s", x.sets), Removes: fields("r", x.removes)}
		s.c.Step(s.now, &StateInput{Op: op, View: &View{Applied: s.c.Seq()}, Waiter: "w"})
		_, effects := s.c.Take()
		if len(effects) != 1 || codeOf(&effects[0]) != x.want {
			t.Errorf("%d keys set and %d removed: %+v, not %q", x.sets, x.removes, effects, x.want)
		}
	}
	if n := len(s.c.view.recent); n != 15_000 {
		t.Errorf("%d changes", n)
	}
}

// All keys of a change count when the store is away.
func TestChangeOfManyKeysTakesRoom(t *testing.T) {
	s := newSolo(t, Config{})
	change := func(n int) Code {
		op := StateOp{Actor: Actor{"dp", "A", "1"}, Verb: StateUpdate}
		for i := range n {
			op.Sets = append(op.Sets, Field{Key: fmt.Sprint(i), Value: []byte("1")})
		}
		return codeOf(s.answer(&StateInput{Op: op, View: &View{Applied: s.c.Seq()}, Waiter: "w"}))
	}
	if code := change(1); code != "" {
		t.Fatal(code)
	}
	s.c.SetRoom(20_000)
	if code := change(100); code != CodeStoreAway {
		t.Errorf("100 keys in 20,000 bytes: %q", code)
	}
	if code := change(10); code != "" {
		t.Errorf("10 keys in 20,000 bytes: %q", code)
	}
}

// What is gone through in one step has a bound: reminders and subscriptions of an actor, and
// groups of an app. What exists is replaced all the same, and neighbours have their own.
func TestManyOfOneAreBounded(t *testing.T) {
	s := newSolo(t, Config{})
	quiet := func(in Input) {
		s.c.Step(s.now, in)
		s.c.Take()
		s.c.TakeChanges()
	}
	says := func(what string, in Input, want Code) {
		t.Helper()
		if e := s.answer(in); codeOf(e) != want {
			t.Errorf("%s: %q, not %q", what, codeOf(e), want)
		}
	}
	remind := func(actor, id string) Input {
		return &SetReminder{Reminder: Reminder{Actor: Actor{"dp", "A", actor}, ID: id, Path: "/m", Due: s.now.Wall + 1_000_000}, Waiter: "w"}
	}
	for i := range maxReminders - 1 {
		quiet(remind("1", fmt.Sprintf("r%06d", i)))
	}
	says("the last reminder", remind("1", "z"), "")
	says("one reminder more", remind("1", "zz"), CodeTooLarge)
	says("another one for it", remind("1", "z"), "")
	says("a reminder of another actor", remind("2", "zz"), "")

	subscribe := func(app, actor, id, topic, group string) Input {
		return &Subscribe{Subscription: Subscription{Actor: Actor{app, "A", actor}, ID: id, Path: "/m", Topic: topic, Group: group}, Waiter: "w"}
	}
	for i := range maxSubscriptions - 1 {
		quiet(subscribe("dp", "1", fmt.Sprintf("s%06d", i), "t", ""))
	}
	says("the last subscription", subscribe("dp", "1", "z", "t", ""), "")
	says("one subscription more", subscribe("dp", "1", "zz", "t", "g"), CodeTooLarge)
	says("another one for it", subscribe("dp", "1", "z", "t2", ""), "")
	for i := range maxGroups - maxSubscriptions - 1 {
		quiet(subscribe("dp", fmt.Sprintf("s%06d", i), "s", "t", ""))
	}
	says("the last group", subscribe("dp", "2", "a", "t", "g"), "")
	says("one group more", subscribe("dp", "2", "b", "t", ""), CodeTooLarge)
	says("one named group more", subscribe("dp", "2", "b", "t", "g2"), CodeTooLarge)
	says("a member more", subscribe("dp", "2", "b", "t", "g"), "")
	says("a group of one for that", subscribe("dp", "2", "b", "t", ""), CodeTooLarge)
	says("a group of another app", subscribe("eb", "2", "b", "t", ""), "")
	quiet(&Unsubscribe{Actor: Actor{"dp", "A", "1"}, ID: "z", Waiter: "w"})
	says("a group in place of one", subscribe("dp", "2", "c", "t", ""), "")
}
