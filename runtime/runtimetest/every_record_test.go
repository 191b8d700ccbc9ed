package runtimetest

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"testing"

	"github.com/karmesh/kar/runtime"
)

// TestKillOwnerAtEveryRecord: the owner of a scripted run dies when its log
// holds n records, for every n, and a new one goes on from the log. What
// callers are told, what ran, and the state in the end are as without a death.
func TestKillOwnerAtEveryRecord(t *testing.T) {
	calm := newStage(stagePlan{})
	calm.play()
	if calm.wrong != "" {
		t.Fatal(calm.wrong)
	}
	kinds := map[string]bool{}
	for _, b := range calm.disk.full {
		r, err := runtime.DecodeRecord(b)
		if err != nil {
			t.Fatal(err)
		}
		kinds[fmt.Sprintf("%T", r.Body)] = true
	}
	for _, k := range []string{
		"header", "claimed", "accepted", "started", "completed", "continued", "unplaced", "hostLost", "stateChanged", "reminderSet",
		"reminderGone", "subscribed", "unsubscribed", "appChanged", "keptActor", "keptReminder", "keptGroup", "released",
	} {
		if !kinds["*runtime."+k] {
			t.Errorf("the script leads to no record of kind %s, only to %v", k, slices.Sorted(maps.Keys(kinds)))
		}
	}
	total := len(calm.disk.full)
	for n := 1; n <= total; n++ {
		for _, plan := range []stagePlan{
			{kill: n}, {kill: n, carried: true}, {kill: n, hostsDie: true}, {kill: n, carried: true, hostsDie: true},
		} {
			s := newStage(plan)
			s.play()
			if s.wrong == "" {
				s.compare(calm)
			}
			if s.wrong != "" {
				t.Errorf("%+v of %d: %s", plan, total, s.wrong)
				return
			}
		}
	}
	t.Logf("%d records, %d requests", total, len(calm.told))
}

// compare judges the run by the one in which nobody died.
func (s *stage) compare(calm *stage) {
	for _, name := range slices.Sorted(maps.Keys(calm.told)) {
		if s.told[name] != calm.told[name] {
			s.fail("%s ended with %q, not with %q", name, s.told[name], calm.told[name])
		}
	}
	if len(s.told) != len(calm.told) {
		s.fail("%d callers were told something, not %d", len(s.told), len(calm.told))
	}
	if a, b := s.state(), calm.state(); a != b {
		s.fail("the state is\n%s, not\n%s", a, b)
	}
	for _, what := range slices.Sorted(maps.Keys(calm.ran)) {
		if s.ran[what] == 0 {
			s.fail("%s never ran", what)
		}
	}
	for _, what := range slices.Sorted(maps.Keys(s.ran)) {
		if n := s.ran[what]; n > 1 && !s.plan.hostsDie && calm.ran[what] < 2 {
			s.fail("%s ran %d times on hosts that lived", what, n)
		}
	}
}

// firings of a reminder cover each due time once: each covers Kar-Reminder-Count
// periods up to its own.
func (s *stage) checkFirings() {
	dues := slices.Sorted(maps.Keys(s.fired))
	next := int64(stageDue)
	for _, due := range dues {
		if from := due - (s.fired[due]-1)*stagePeriod; from != next {
			s.fail("the firing for %d covers the time from %d, %d was next", due, from, next)
		}
		next = due + stagePeriod
	}
	if next < stageDue+4*stagePeriod {
		s.fail("only due times before %d were fired", next)
	}
}

func (s *stage) state() string {
	var lines []string
	for k, v := range s.disk.store.entries {
		lines = append(lines, fmt.Sprintf("%q=%q\n", k, v.value))
	}
	sort.Strings(lines)
	return fmt.Sprint(lines)
}

const (
	stageDue    = simStart + 2000 // of the periodic reminder
	stagePeriod = 1000
)

// script is what clients do: each goes on when it has been answered.
func (s *stage) script() {
	actor := func(typ, id string) runtime.Target { return runtime.Target{App: simApp, Type: typ, ID: id} }
	other := runtime.Target{App: "other", Type: "A", ID: "1"}
	service := runtime.Target{App: simApp, Service: "s"}

	s.submit("nested", runtime.Request{Target: actor("A", "1"), Path: "/outer"}, func() {
		s.submit("after", runtime.Request{Target: actor("A", "1"), Path: "/fields"}, nil)
	})
	s.submit("queued", runtime.Request{Target: actor("A", "1"), Path: "/set"}, nil)
	s.submit("chain", runtime.Request{Target: actor("A", "2"), Path: "/chain1"}, nil)
	s.submit("behind chain", runtime.Request{Target: actor("A", "2"), Path: "/set"}, nil)
	s.submit("tell", runtime.Request{Kind: runtime.Tell, Target: actor("B", "1"), Path: "/set"}, nil)
	s.submit("late tell", runtime.Request{Kind: runtime.Tell, Target: actor("B", "1"), Path: "/set", NotBefore: simStart + 900}, nil)
	s.submit("promise", runtime.Request{Kind: runtime.Promise, Target: actor("B", "1"), Path: "/set"}, nil)
	s.submit("withdrawn", runtime.Request{Kind: runtime.Promise, Target: actor("B", "2"), Path: "/set", NotBefore: simStart + 500_000}, nil)
	s.at(1000, func() { s.ask(nil, s.cancel("withdrawn"), nil) })
	s.submit("key", runtime.Request{Target: actor("B", "4"), Path: "/set", Key: "k", Body: []byte(`["key"]`)}, func() {
		s.submit("key again", runtime.Request{Target: actor("B", "4"), Path: "/set", Key: "k", Body: []byte(`["key"]`)}, nil)
	})
	s.submit("service", runtime.Request{Target: service, Path: "/plain"}, nil)
	s.submit("500", runtime.Request{Target: service, Path: "/fail"}, nil)
	s.submit("error", runtime.Request{Target: actor("B", "5"), Path: "/error"}, nil)
	s.submit("full", runtime.Request{Target: actor("B", "3"), Path: "/set"}, func() {
		s.submit("removal", runtime.Request{Kind: runtime.Remove, Target: actor("B", "3")}, func() {
			s.submit("empty", runtime.Request{Target: actor("B", "3"), Path: "/fields"}, nil)
		})
	})

	// The host of this one exits while it runs; another comes.
	s.submit("hang", runtime.Request{Target: runtime.Target{App: simApp, Service: "frail"}, Path: "/hang"}, nil)
	s.at(800, func() { s.exit("frail") })
	s.at(1200, func() { s.join("firm", simApp, "frail") })

	// Reminders.
	ticker := actor("A", "3").Actor()
	s.ask(nil, func(w any) runtime.Input {
		return &runtime.SetReminder{Reminder: runtime.Reminder{Actor: ticker, ID: "r", Path: "/tick", Due: stageDue, Period: stagePeriod * 1_000_000}, Waiter: w}
	}, nil)
	s.ask(nil, func(w any) runtime.Input {
		return &runtime.SetReminder{Reminder: runtime.Reminder{Actor: ticker, ID: "once", Path: "/set", Due: simStart + 3000, Data: []byte(`["once"]`)}, Waiter: w}
	}, nil)
	s.at(7500, func() {
		s.ask(nil, func(w any) runtime.Input { return &runtime.CancelReminders{Actor: ticker, Waiter: w} }, nil)
	})

	// Events.
	reader := actor("A", "4").Actor()
	s.ask(nil, func(w any) runtime.Input {
		return &runtime.Subscribe{Subscription: runtime.Subscription{Actor: reader, ID: "sub", Path: "/set", Topic: "t"}, Waiter: w}
	}, func(*runtime.Effect) {
		for i := range 4 {
			s.topic = append(s.topic, fmt.Appendf(nil, `"event %d"`, i))
		}
	})
	s.at(7500, func() {
		s.ask(nil, func(w any) runtime.Input { return &runtime.Unsubscribe{Actor: reader, Waiter: w} }, nil)
	})

	// An app is purged while it works; the next of its name starts empty.
	s.submit("other 1", runtime.Request{Kind: runtime.Tell, Target: other, Path: "/set"}, func() {
		s.submit("other 2", runtime.Request{Kind: runtime.Tell, Target: other, Path: "/set"}, func() {
			s.ask(nil, func(w any) runtime.Input { return &runtime.Purge{App: "other", Waiter: w} }, func(*runtime.Effect) {
				s.submit("other empty", runtime.Request{Target: other, Path: "/fields"}, nil)
			})
		})
	})
}
