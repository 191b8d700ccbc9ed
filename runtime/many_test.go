package runtime

import (
	"fmt"
	"testing"
)

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
