package runtime

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// event hands over one event of n bytes; false when the pump has to wait.
func (p *pump) event(n int) bool {
	return p.hand(Event{Offset: p.next, Body: bytes.Repeat([]byte("1"), n)})
}

// Events of an app whose subscribers are away stay in their topic before they take the
// room of others, and go on when there is room.
func TestEventsLeaveRoomForOthers(t *testing.T) {
	const limit, size, many = 4 << 20, 20_000, 40
	s := newSolo(t, Config{WorkBytes: limit})
	var pumps []*pump
	for i := range many {
		p := subscribed1(s, Actor{"dp", "A", fmt.Sprint(i)})
		pumps = append(pumps, p)
		for p.event(size) {
			if p.next > groupLimit {
				t.Fatal("a group takes events without end")
			}
		}
	}
	if n := s.c.eventsOf("dp"); n > limit/eventShare {
		t.Errorf("events take %d of %d bytes", n, limit)
	}
	if e := s.tell("other", "1", size); codeOf(e) != "" {
		t.Errorf("somebody else: %v", e.Err)
	}
	if e := s.tell("dp", "1", size); codeOf(e) != "" {
		t.Errorf("the app itself: %v", e.Err)
	}
	s.host("h1")
	told := 0
	for {
		effects, ok := s.end(Outcome{Status: 204})
		if !ok {
			break
		}
		for _, e := range effects {
			if e.Kind == Reply && e.Waiter == "pump" {
				told++
			}
		}
	}
	s.pass(200 * time.Millisecond)
	for _, e := range s.do(&Tick{}) {
		if e.Kind == Reply && e.Waiter == "pump" {
			told++
		}
	}
	if told != many {
		t.Errorf("%d of %d pumps were told that there is room", told, many)
	}
	for _, p := range pumps {
		if !p.event(size) {
			t.Fatal("a pump waits although there is room")
		}
		s.end(Outcome{Status: 204})
	}
	for s.c.eventsOf("dp") > 0 {
		s.end(Outcome{Status: 204})
	}
	if !pumps[0].event(limit / 2) {
		t.Error("an event that is larger than the part of its app never comes")
	}
}

// Events take no more than three quarters of the memory of the node.
func TestEventsLeaveMemoryForOthers(t *testing.T) {
	s := newSolo(t, Config{})
	p := subscribed1(s, Actor{"dp", "A", "1"})
	s.c.SetSpare(20_000, 100_000)
	if !p.event(1000) {
		t.Error("an app without any gets none")
	}
	if s.c.SetSpare(20_000, 100_000); p.event(1000) {
		t.Error("events take the last quarter")
	}
	if e := s.tell("dp", "1", 1000); codeOf(e) != "" {
		t.Errorf("a request from outside: %v", e.Err)
	}
	s.pass(time.Second)
	if told := p.told(s.do(&Tick{})); told != "" {
		t.Errorf("the pump is told %q while there is no memory, and would ask in vain each time", told)
	}
	s.c.SetSpare(30_000, 100_000)
	s.pass(time.Second)
	if told := p.told(s.do(&Tick{})); told != CodeAskAgain {
		t.Errorf("the pump is told %q when there is memory", told)
	}
	if s.c.SetSpare(30_000, 100_000); !p.event(1000) {
		t.Error("there is room")
	}
}

// What is taken of the node's memory is counted at once, not when it is measured again.
func TestEventsCountWhatTheyTake(t *testing.T) {
	s := newSolo(t, Config{})
	p := subscribed1(s, Actor{"dp", "A", "1"})
	const one = workBytes + 1000
	s.c.SetSpare(25_000+3*one-1, 100_000)
	for i := range 2 {
		if !p.event(1000) {
			t.Fatalf("event %d waits although there is memory", i)
		}
	}
	if p.event(1000) {
		t.Error("events take the last quarter, for the first ones were not counted")
	}
}

// The last byte of each limit may be taken, and none beyond it.
func TestRoomToTheByte(t *testing.T) {
	const limit = 1 << 20
	none := func(*solo) {}
	tell := func(s *solo, app string, n int64) Code { return codeOf(s.tell(app, "1", int(n-workBytes))) }
	remind := func(s *solo, app string, n int64) Code {
		r := Reminder{Actor: Actor{app, "A", "1"}, ID: "r", Path: "/m", Due: s.now.Wall + 1_000_000}
		r.Data = make([]byte, int(n)-r.lasts())
		return codeOf(s.answer(&SetReminder{Reminder: r, Waiter: "w"}))
	}
	spare := func(s *solo) { s.c.SetSpare(50_000, 50_000) }
	two := func(take func(*solo, string, int64) Code) func(*solo) {
		return func(s *solo) {
			for _, app := range []string{"one", "two"} {
				if code := take(s, app, limit/2-100_000); code != "" {
					t.Fatal(code)
				}
			}
		}
	}
	for _, x := range []struct {
		name  string
		cfg   Config
		limit func(*solo)
		take  func(*solo, string, int64) Code
		left  func(*solo) int64
	}{
		{"the share of an app", Config{WorkBytes: limit}, none, tell, func(*solo) int64 { return limit / appShare }},
		{"the partition", Config{WorkBytes: limit}, two(tell), tell, func(s *solo) int64 { return limit - s.c.load.total }},
		{"the memory of the node", Config{}, spare, tell, func(*solo) int64 { return 50_000 }},
		{"the share of the reminders of an app", Config{WorkBytes: limit}, none, remind, func(*solo) int64 { return limit / appShare }},
		{"the partition of reminders", Config{WorkBytes: limit}, two(remind), remind, func(s *solo) int64 { return limit - s.c.load.lasting }},
		{"the part of an app in a full partition of reminders", Config{WorkBytes: limit}, func(s *solo) {
			for i := range 3 {
				remind(s, fmt.Sprint(i), limit/3-100)
			}
		}, remind, func(*solo) int64 { return limit / fairShare }},
		{"the memory of the node for reminders", Config{}, spare, remind, func(*solo) int64 { return 37_500 }},
	} {
		for _, more := range []int64{0, 1} {
			s := newSolo(t, x.cfg)
			x.limit(s)
			if refused := x.take(s, "dp", x.left(s)+more) != ""; refused != (more > 0) {
				t.Errorf("%s and %d bytes: refused %v", x.name, more, refused)
			}
		}
	}
}

// What a group has in other partitions is bounded by its size as well.
func TestLargeEventsWaitForMembersElsewhere(t *testing.T) {
	const limit, size = 4 << 20, 50_000
	x := newAcross(t)
	s := x.parts[0]
	s.c.cfg.WorkBytes = limit
	sub := Subscription{Actor: actorIn(1, 2, "A"), ID: "s", Path: "/e", Topic: "t"}
	for i := 0; ; i++ {
		sub.Group = fmt.Sprint("g", i)
		if GroupPartition(&sub, 2) == 0 {
			break
		}
	}
	x.do(1, &Subscribe{Subscription: sub, Waiter: "w"})
	x.settle()
	p := &pump{s: s, key: s.c.groupKey(&sub)}
	for p.event(size) {
		if p.next > groupLimit {
			t.Fatal("a group takes events without end")
		}
	}
	if n := p.next * size; n > limit/eventShare+size || n < limit/eventShare/2 {
		t.Errorf("%d bytes of events are away, of %d", n, limit)
	}
}

// Who has little finds room, whatever others have taken.
func TestNobodyClosesTheDoorForAll(t *testing.T) {
	s := newSolo(t, Config{WorkBytes: 1 << 20})
	for _, app := range []string{"one", "two"} {
		if e := s.tell(app, "1", 1<<19-3000); codeOf(e) != "" {
			t.Fatal(e.Err)
		}
	}
	if e := s.tell("three", "1", 60_000); codeOf(e) != "" {
		t.Errorf("an app that has nothing: %v", e.Err)
	}
	if e := s.tell("three", "2", 60_000); codeOf(e) != CodeMailboxFull {
		t.Errorf("one that has its part: %+v", e)
	}
}

// Reminders stay in memory; they count, with their names and data, and have a bound.
func TestRemindersAreBounded(t *testing.T) {
	for _, x := range []struct{ name, data int }{{4, 10_000}, {4000, 0}, {4, 0}} {
		limit, long := int64(1<<20), strings.Repeat("x", x.name)
		s := newSolo(t, Config{WorkBytes: limit})
		set := func(app string, n, bytes int) Code {
			r := Reminder{Actor: Actor{app, "A", "1"}, ID: fmt.Sprintf("%s%06d", long, n), Path: "/" + long, Due: s.now.Wall + 1_000_000, Data: make([]byte, bytes)}
			return codeOf(s.answer(&SetReminder{Reminder: r, Waiter: "w"}))
		}
		n := 0
		for set("one", n, x.data) == "" {
			if n++; n > 2000 {
				t.Fatalf("%+v: reminders have no bound", x)
			}
		}
		each := s.c.Held() / int64(n)
		if least := int64(2*x.name + x.data + 300); each < least || each > least+300 || int64(n) != limit/appShare/each {
			t.Errorf("%+v: %d reminders, %d bytes each", x, n, each)
		}
		if code := set("two", 0, x.data); code != "" {
			t.Errorf("%+v: another app: %s", x, code)
		}
		if code := set("one", 0, x.data); code != "" {
			t.Errorf("%+v: one that takes no more than before: %s", x, code)
		}
		if s.do(&CancelReminders{Actor: Actor{"one", "A", "1"}, ID: fmt.Sprintf("%s%06d", long, 0), Waiter: "w"}); s.c.Held() != int64(n)*each {
			t.Errorf("%+v: %d bytes when one has gone", x, s.c.Held())
		}
		if code := set("one", n, x.data); code != "" {
			t.Errorf("%+v: there is room again: %s", x, code)
		}
		s.reown()
		if s.c.Held() != int64(n+1)*each {
			t.Errorf("%+v: the next owner counts %d bytes", x, s.c.Held())
		}
		if x.data > 0 {
			if code := set("one", 1, 0); code != "" || s.c.Held() != int64(n+1)*each-int64(x.data) {
				t.Errorf("one that takes less: %q, %d bytes", code, s.c.Held())
			}
		}
		s.c.SetSpare(each-1, 0)
		if code := set("two", 2, x.data); code != CodeMailboxFull {
			t.Errorf("%+v: the node has nothing left: %q", x, code)
		}
		if s.c.SetSpare(-1, 0); set("two", 0, x.data) != "" {
			t.Errorf("%+v: it takes no more than before", x)
		}
		for _, app := range []string{"one", "two"} {
			s.do(&CancelReminders{Actor: Actor{app, "A", "1"}, Waiter: "w"})
			for range 2000 {
				s.do(&Tick{})
			}
		}
		if s.c.Held() != 0 {
			t.Errorf("%+v: %d bytes of nothing", x, s.c.Held())
		}
	}
}

// Subscriptions stay in memory as well, also those that share one group.
func TestSubscriptionsAreBounded(t *testing.T) {
	const limit = 1 << 20
	for _, group := range []string{"", "g"} {
		s := newSolo(t, Config{WorkBytes: limit})
		sub := func(app string, n int) Subscription {
			return Subscription{Actor: Actor{app, "A", fmt.Sprintf("%06d", n)}, ID: "s", Path: "/m", Topic: "t", Group: group}
		}
		set := func(app string, n int) Code {
			return codeOf(s.answer(&Subscribe{Subscription: sub(app, n), Waiter: "w"}))
		}
		n := 0
		for set("one", n) == "" {
			if n++; n > 2000 {
				t.Fatalf("group %q: subscriptions have no bound", group)
			}
		}
		each := s.c.Held() / int64(n)
		if each < 500 || each > 2000 || int64(n) != limit/appShare/each {
			t.Errorf("group %q: %d subscriptions, %d bytes each", group, n, each)
		}
		if code := set("one", 0); code != "" || s.c.Held() != int64(n)*each {
			t.Errorf("group %q: one that was there before: %q, %d bytes", group, code, s.c.Held())
		}
		if code := set("two", 0); code != "" {
			t.Errorf("group %q: another app: %s", group, code)
		}
		s.do(&Unsubscribe{Actor: sub("one", 0).Actor, Waiter: "w"})
		if code := set("one", n); code != "" {
			t.Errorf("group %q: there is room again: %s", group, code)
		}
		s.reown()
		if s.c.Held() != int64(n+1)*each {
			t.Errorf("group %q: the next owner counts %d bytes", group, s.c.Held())
		}
		for _, app := range []string{"one", "two"} {
			s.do(&Purge{App: app, Waiter: "w"})
		}
		for range 2000 {
			s.do(&Tick{})
		}
		if s.c.Held() != 0 {
			t.Errorf("group %q: %d bytes of nothing", group, s.c.Held())
		}
	}
}

// Due reminders of an app whose component is away wait before they take the room of
// others, for as long as it takes; what was missed meanwhile is counted.
func TestDueRemindersLeaveRoomForOthers(t *testing.T) {
	const limit, size, many = 4 << 20, 8_000, 100
	s := newSolo(t, Config{WorkBytes: limit})
	start := s.now.Wall
	for i := range many {
		r := Reminder{Actor: Actor{"dp", "A", fmt.Sprint(i)}, ID: "r", Path: "/m", Due: start + 1000, Period: int64(time.Second), Data: bytes.Repeat([]byte("1"), size)}
		if e := s.answer(&SetReminder{Reminder: r, Waiter: "w"}); codeOf(e) != "" {
			t.Fatal(e.Err)
		}
	}
	tick := func(d time.Duration) {
		s.pass(d)
		for s.do(&Tick{}); s.c.Due(s.now) == 0; {
			s.do(&Tick{})
		}
	}
	tick(1500 * time.Millisecond)
	n := len(s.c.entries)
	if took := s.c.apps["dp"].bytes; took > limit/eventShare || took < limit/eventShare/2 {
		t.Errorf("due reminders take %d of %d bytes", took, limit)
	}
	if g := s.c.gauges(); g.RemindersWaiting != many-n {
		t.Errorf("%d of %d are said to wait, %d have fired", g.RemindersWaiting, many, n)
	}
	if e := s.tell("other", "1", size); codeOf(e) != "" {
		t.Errorf("somebody else: %v", e.Err)
	}
	far := Reminder{Actor: Actor{"other", "A", "1"}, ID: "r", Path: "/m", Due: s.now.Wall}
	s.do(&SetReminder{Reminder: far, Waiter: "w"})
	if n := s.c.apps["other"].open; n != 2 {
		t.Errorf("another app has %d requests; its reminder has to fire", n)
	}
	// What is deleted or set anew while it waits is no longer among them.
	var waiting []Actor
	for i := range many {
		if r := s.c.reminder(Actor{"dp", "A", fmt.Sprint(i)}, "r"); r.late {
			waiting = append(waiting, r.Actor)
		}
	}
	s.do(&CancelReminders{Actor: waiting[0], ID: "r", Waiter: "w"})
	s.do(&SetReminder{Reminder: Reminder{Actor: waiting[1], ID: "r", Path: "/m", Due: s.now.Wall + 1_000_000}, Waiter: "w"})
	if g := s.c.gauges(); g.RemindersWaiting != len(waiting)-2 {
		t.Errorf("%d wait", g.RemindersWaiting)
	}
	tick(3 * time.Second)
	if m := s.c.apps["dp"].open; m != n {
		t.Errorf("%d fired meanwhile", m-n)
	}
	// The next owner counts the same.
	s.reown()
	tick(time.Second)
	if m := s.c.apps["dp"].open; m != n {
		t.Errorf("the next owner has %d firings, not %d", m, n)
	}
	s.pass(10 * time.Second)
	s.host("h1")
	counts := map[Actor]int64{}
	for range 10 * many {
		tick(0)
		for _, e := range s.c.openEntries() {
			if a := e.req.Target.Actor(); e.fired != nil && e.phase == running && counts[a] == 0 {
				counts[a] = e.count
			}
		}
		if _, ok := s.end(Outcome{Status: 204}); !ok {
			break
		}
	}
	if len(counts) != many-2 {
		t.Errorf("%d of %d fired", len(counts), many-2)
	}
	for _, a := range waiting[2:] {
		if counts[a] < 10 {
			t.Errorf("one that waited counts %d due times", counts[a])
		}
	}
	if g := s.c.gauges(); g.RemindersWaiting != 0 {
		t.Errorf("%d wait still", g.RemindersWaiting)
	}
	if n := s.c.apps["dp"].fired; n != 0 && len(s.c.openEntries()) == 0 {
		t.Errorf("%d bytes are counted for nothing", n)
	}
}

// A firing that is larger than the part of its app comes when it is the only one.
func TestLargeReminderFires(t *testing.T) {
	s := newSolo(t, Config{WorkBytes: 1 << 20})
	for i := range 2 {
		r := Reminder{Actor: Actor{"dp", "A", fmt.Sprint(i)}, ID: "r", Path: "/m", Due: s.now.Wall + 1000, Data: bytes.Repeat([]byte("1"), 100_000)}
		if e := s.answer(&SetReminder{Reminder: r, Waiter: "w"}); codeOf(e) != "" {
			t.Fatal(e.Err)
		}
	}
	s.pass(time.Second)
	for range 10 {
		s.do(&Tick{})
	}
	if n := len(s.c.entries); n != 1 {
		t.Fatalf("%d fired", n)
	}
	if due := s.c.Due(s.now); due == 0 {
		t.Error("the owner looks at what waits without a pause")
	}
	s.host("h1")
	s.end(Outcome{Status: 204})
	if due := s.c.Due(s.now); due != 0 {
		t.Errorf("there is room, and it is looked at in %d ms", due)
	}
	s.do(&Tick{})
	if n := len(s.c.entries); n != 1 {
		t.Errorf("%d fired when the first had ended", n)
	}
}

// What the log takes no more, since somebody has lowered its limit, is refused, and what
// is there already stays where it is.
func TestLoweredRecordLimit(t *testing.T) {
	const lowered = 10_000
	s := newSolo(t, Config{RecordLimit: 100_000})
	for _, id := range []string{"small", "large", "behind"} {
		size := 100
		if id == "large" {
			size = 20_000
		}
		if e := s.tell("one", id, size); codeOf(e) != "" {
			t.Fatal(e.Err)
		}
	}
	before := s.c.Seq() + 1
	s.c.SetRecordLimit(lowered)
	if e := s.tell("one", "more", 20_000); codeOf(e) != CodeTooLarge {
		t.Errorf("one that is too large: %+v", e)
	}
	keep := func() (largest int) {
		at := len(s.log)
		s.do(&Keep{Before: before, Limit: 100})
		for _, r := range s.log[at:] {
			largest = max(largest, len(r))
		}
		return largest
	}
	for range 3 {
		if n := keep(); n > lowered || !s.c.Stuck() {
			t.Errorf("a record of %d bytes is written; stuck %v", n, s.c.Stuck())
		}
	}
	s.c.SetRecordLimit(100_000)
	if n := keep(); n < 20_000 || s.c.Stuck() || s.c.OldestLive() < before {
		t.Errorf("%d bytes, stuck %v, %d of %d", n, s.c.Stuck(), s.c.OldestLive(), before)
	}
}

// A due reminder that waits for room does not fire before its time when the clock is set
// back meanwhile.
func TestLateReminderWhenTheClockIsSetBack(t *testing.T) {
	const size, many = 8_000, 100
	s := newSolo(t, Config{WorkBytes: 4 << 20})
	first := s.now.Wall + 1000
	for i := range many {
		r := Reminder{Actor: Actor{"dp", "A", fmt.Sprint(i)}, ID: "r", Path: "/m", Due: first, Period: int64(time.Minute), Data: bytes.Repeat([]byte("1"), size)}
		if e := s.answer(&SetReminder{Reminder: r, Waiter: "w"}); codeOf(e) != "" {
			t.Fatal(e.Err)
		}
	}
	tick := func() {
		for s.do(&Tick{}); s.c.Due(s.now) == 0; {
			s.do(&Tick{})
		}
	}
	s.pass(1500 * time.Millisecond)
	tick()
	fired := len(s.c.entries)
	if s.c.lateCount() == 0 {
		t.Fatal("none waits for room")
	}
	s.now.Wall -= 600_000
	s.host("h1")
	for range many {
		if _, ok := s.end(Outcome{Status: 204}); !ok {
			break
		}
		tick()
	}
	if n := s.c.Counts.Completed; n != uint64(fired) {
		t.Errorf("%d firings ended, %d were due", n, fired)
	}
	s.pass(601 * time.Second)
	tick()
	if len(s.c.entries) == 0 {
		t.Error("none fires when its time has come again")
	}
}

// A body that was let go of is not written anew where the log takes it no more.
func TestLoweredLimitAndBodyInTheLog(t *testing.T) {
	for _, late := range []bool{false, true} { // the limit is lowered while it is read
		s := newSolo(t, Config{RecordLimit: 100_000})
		if e := s.tell("one", "large", 20_000); codeOf(e) != "" {
			t.Fatal(e.Err)
		}
		before := s.c.Seq() + 1
		s.c.Shed(1 << 30)
		if !late {
			s.c.SetRecordLimit(10_000)
		}
		var need *Effect
		for _, e := range s.do(&Keep{Before: before, Limit: 100}) {
			if e.Kind == NeedBody {
				need = &e
			}
		}
		if (need != nil) != late {
			t.Fatalf("late %v: the body is asked for: %v", late, need != nil)
		}
		if late {
			s.c.SetRecordLimit(10_000)
			at := len(s.log)
			s.do(&BodyRead{ID: need.ID, At: need.N, Body: make([]byte, 20_000), Found: true})
			if n := len(s.log) - at; n > 0 {
				t.Errorf("%d records are written, of %d bytes; the log takes 10,000", n, len(s.log[at]))
			}
		}
		if !s.c.Stuck() {
			t.Errorf("late %v: nobody says that the log cannot be cut", late)
		}
	}
}

// Due times of centuries ago are one missed time, not so many that their nanoseconds overflow.
func TestDueTimesOfLongAgo(t *testing.T) {
	now := int64(1767225600000)
	r := Reminder{Due: now - 1<<43, Period: int64(time.Minute)}
	due, count, next, _ := r.dueTimes(now)
	if due != now || count != 1 || next <= now || next > now+60_000 {
		t.Errorf("due %d, count %d, next %d; it is %d", due, count, next, now)
	}
}
