package runtime

import (
	"fmt"
	"testing"
	"time"
)

// A pump hands batches to a group until it has to wait.
type pump struct {
	s    *solo
	key  string
	next int64
}

// deliver hands over one batch; false when the pump has to wait.
func (p *pump) deliver() bool {
	var events []Event
	for i := range int64(100) {
		events = append(events, Event{Offset: p.next + i, Body: []byte("1")})
	}
	return p.hand(events...)
}

func (p *pump) hand(events ...Event) bool {
	e := p.s.answer(&DeliverEvents{Group: p.key, From: p.next, Waiter: "pump", Events: events})
	if e == nil {
		return false
	}
	next, ok := e.Value.(int64)
	if !ok {
		p.s.t.Fatalf("deliver: %+v", e)
	}
	p.next = next
	return true
}

func (p *pump) fill() {
	p.s.t.Helper()
	for p.deliver() {
		if p.next > 5*groupLimit {
			p.s.t.Fatal("the group takes events without end")
		}
	}
}

// told is how the waiting pump was answered by effects, "" when it was not.
func (p *pump) told(effects []Effect) Code {
	for i := range effects {
		if effects[i].Kind == Reply && effects[i].Waiter == "pump" {
			return codeOf(&effects[i])
		}
	}
	return ""
}

func subscribed1(s *solo, a Actor) *pump {
	sub := Subscription{Actor: a, ID: "s", Path: "/e", Topic: "t"}
	s.do(&Subscribe{Subscription: sub, Waiter: "w"})
	return &pump{s: s, key: s.c.groupKey(&sub)}
}

// end answers one running request; false when there is none.
func (s *solo) end(o Outcome) ([]Effect, bool) {
	for _, e := range s.c.openEntries() {
		if e.phase == running {
			return s.do(&Answered{Boot: "h1", Answer: Answer{Attempt: s.c.attemptOf(e), Outcome: &o}}), true
		}
	}
	return nil, false
}

// A full group goes on when its work ends, also when it ends in another partition.
func TestFullGroupGoesOn(t *testing.T) {
	for _, away := range []bool{false, true} {
		s := newSolo(t, Config{Partitions: 4})
		s.host("h1")
		p := subscribed1(s, actorIn(0, 4, "A"))
		p.fill()
		if p.next != groupLimit {
			t.Fatalf("the group is full after %d events", p.next)
		}
		o := Outcome{Status: 204}
		if away {
			o = Outcome{Status: 200, Body: tailCallBody(actorIn(1, 4, "B").target(), "/x", false), Header: Header{"Content-Type": {"application/kar+json"}}}
		}
		told, n := Code(""), 0
		for range groupLimit {
			effects, ok := s.end(o)
			if !ok {
				break
			}
			n++
			if told == "" {
				told = p.told(effects)
			}
		}
		if n != groupLimit {
			t.Fatalf("%d of the handlers ran", n)
		}
		if away && told != "" {
			t.Error("chains that go on elsewhere count as finished")
		}
		for i, id := range sortedIDs(s.c.homes) {
			if i == groupLimit/2 {
				// The next owner counts what is open by itself.
				s.reown()
				if got := s.c.unfinished(s.c.groups[p.key]); got != groupLimit/2 {
					t.Errorf("the next owner counts %d of %d", got, groupLimit/2)
				}
				s.c.blocked[p.key] = []any{"pump"}
			}
			m := &parcel{kind: msgOutcome, id: id, outcome: Outcome{Status: 204}}
			effects := s.do(&Deliver{From: 1, N: uint64(i + 1), Payload: encode(nil, m)})
			if told == "" {
				told = p.told(effects)
			}
		}
		if told != CodeAskAgain {
			t.Errorf("away %v: the pump was told %q when there was room again", away, told)
		}
		if got := s.c.unfinished(s.c.groups[p.key]); got != 0 {
			t.Errorf("away %v: %d unfinished at the end", away, got)
		}
		if !p.deliver() {
			t.Error("the group takes nothing although all has ended")
		}
	}
}

// The work of an earlier life of a group is not counted in a later one.
func TestUnsubscribeWhileTheGroupIsFull(t *testing.T) {
	s := newSolo(t, Config{})
	s.host("h1")
	a := actorIn(0, 1, "A")
	p := subscribed1(s, a)
	p.fill()
	if got := p.told(s.do(&Unsubscribe{Actor: a, Waiter: "u"})); got != CodeAskAgain {
		t.Errorf("the pump of a group that is gone was told %q", got)
	}
	if got := codeOf(s.answer(&DeliverEvents{Group: p.key, Waiter: "pump"})); got != CodeNotFound {
		t.Errorf("and then %q", got)
	}
	p = subscribed1(s, a)
	count := func(want int) {
		t.Helper()
		if got := s.c.unfinished(s.c.groups[p.key]); got != want {
			t.Errorf("%d unfinished, want %d", got, want)
		}
	}
	count(0)
	for range 700 {
		s.end(Outcome{Status: 204})
	}
	count(0)
	if !p.deliver() {
		t.Fatal("the new life starts full")
	}
	count(100)
	s.reown()
	count(100)
	s.host("h1")
	for range groupLimit {
		s.end(Outcome{Status: 204})
	}
	count(0)
}

// Events that were fetched for an earlier life of a group, and lie behind the
// cursor of this one, are not delivered: the pump is told where to go on.
func TestEventsOfAnEarlierLife(t *testing.T) {
	s := newSolo(t, Config{})
	s.host("h1")
	a := actorIn(0, 1, "A")
	p := subscribed1(s, a)
	p.next = 500
	if !p.deliver() || p.next != 0 {
		t.Errorf("the pump goes on at %d", p.next)
	}
	if n := len(s.c.entries); n != 0 {
		t.Errorf("%d events of an earlier life were delivered", n)
	}
	if p.deliver(); len(s.c.entries) != 100 {
		t.Errorf("then %d events were delivered", len(s.c.entries))
	}
}

// across plays two partitions: messages from one to the other arrive when asked for.
type across struct {
	parts [2]*solo
	queue [2][]Input // for each
	lost  bool       // what is on its way does not arrive
	sent  int
}

func newAcross(t *testing.T) *across {
	x := &across{}
	for i := range x.parts {
		x.parts[i] = newSolo(t, Config{Partitions: 2, Partition: uint16(i)})
	}
	return x
}

func (x *across) do(n int, in Input) []Effect {
	effects := x.parts[n].do(in)
	for _, e := range effects {
		var msg Input
		switch e.Kind {
		case ToPartition:
			x.sent++
			msg = &Deliver{From: uint16(n), N: e.N, Payload: e.Payload}
		case AckPartition:
			msg = &Acked{Partition: uint16(n), N: e.N}
		case ToOwner:
			msg = e.Value.(Input)
		default:
			continue
		}
		if !x.lost {
			x.queue[e.Partition] = append(x.queue[e.Partition], msg)
		}
	}
	return effects
}

// settle lets everything arrive that is on its way.
func (x *across) settle() (effects []Effect) {
	for len(x.queue[0])+len(x.queue[1]) > 0 {
		for n := range x.queue {
			ins := x.queue[n]
			x.queue[n] = nil
			for _, in := range ins {
				effects = append(effects, x.do(n, in)...)
			}
		}
	}
	return effects
}

func (x *across) tick(d time.Duration) (effects []Effect) {
	for n, s := range x.parts {
		s.pass(d)
		effects = append(effects, x.do(n, &Tick{})...)
	}
	return effects
}

// A group whose members are in another partition waits for them too.
func TestGroupWaitsForMembersElsewhere(t *testing.T) {
	x := newAcross(t)
	group, far := x.parts[0], x.parts[1]
	sub := Subscription{Actor: actorIn(1, 2, "A"), ID: "s", Path: "/e", Topic: "t"}
	for i := 0; ; i++ {
		sub.Group = fmt.Sprint("g", i)
		if GroupPartition(&sub, 2) == 0 {
			break
		}
	}
	far.host("h1")
	x.do(1, &Subscribe{Subscription: sub, Waiter: "w"})
	x.settle()
	p := &pump{s: group, key: group.c.groupKey(&sub)}

	x.lost = true
	p.fill()
	if p.next != groupLimit {
		t.Errorf("%d events were handed over although none has arrived", p.next)
	}
	x.sent = 0
	x.tick(1100 * time.Millisecond)
	if x.sent > outWindow {
		t.Errorf("one tick repeats %d messages", x.sent)
	}

	x.lost = false
	x.tick(1100 * time.Millisecond)
	if told := p.told(x.settle()); told != "" {
		t.Errorf("the pump was told %q although nothing has ended", told)
	}
	if n := len(far.c.entries); n != groupLimit {
		t.Fatalf("%d of %d events have arrived", n, groupLimit)
	}
	x.tick(200 * time.Millisecond) // the group asks again
	x.settle()
	told := Code("")
	for range groupLimit {
		if effects, ok := far.end(Outcome{Status: 204}); ok {
			for _, e := range effects {
				if e.Kind == ToOwner {
					x.queue[0] = append(x.queue[0], e.Value.(Input))
				}
			}
			if told == "" {
				told = p.told(x.settle())
			}
		}
	}
	if told != CodeAskAgain {
		t.Errorf("the pump was told %q when the members had worked", told)
	}
	if !p.deliver() {
		t.Error("the group takes nothing although all has ended")
	}
}

// An outbox sends no more than its window, and goes on as it is confirmed.
func TestOutboxWindow(t *testing.T) {
	x := newAcross(t)
	to := actorIn(1, 2, "B").target()
	from := actorIn(0, 2, "A")
	x.parts[0].host("h1")
	x.lost = true
	for range 3 * outWindow {
		t := from.target()
		id := x.parts[0].id(t)
		x.do(0, &Submit{Request: Request{ID: id, Kind: Tell, Target: t, Method: "POST", Path: "/m"}})
		x.do(0, &Answered{Boot: "h1", Answer: Answer{Attempt: Attempt{ID: id, Number: 1}, Outcome: &Outcome{
			Status: 200, Body: tailCallBody(to, "/x", false),
		}}})
	}
	if x.sent != outWindow {
		t.Errorf("%d messages were sent at once", x.sent)
	}
	x.lost = false
	x.tick(1100 * time.Millisecond)
	x.settle()
	if n := len(x.parts[1].c.entries); n != 3*outWindow {
		t.Errorf("%d of %d messages have arrived", n, 3*outWindow)
	}
}

// Twenty thousand subscriptions are no burden: what it costs to make them, to
// drop them one by one or all at once, and to read that back from the log grows
// with their number, not with its square.
func TestManySubscriptions(t *testing.T) {
	const few, many, most = 1_000, 20_000, 120 // 20 when it grows with the number, 400 with its square
	for _, group := range []string{"", "g"} {
		best := func(n, runs int) (made, read time.Duration) {
			made, read = manageSubscriptions(t, n, group)
			for range runs - 1 { // other things that the machine does only add to it
				m, r := manageSubscriptions(t, n, group)
				made, read = min(made, m), min(read, r)
			}
			return made, read
		}
		made, read := best(few, 5)
		moreMade, moreRead := best(many, 2)
		t.Logf("group %q: %d made and dropped in %v, read back in %v; %d in %v, %v", group, few, made, read, many, moreMade, moreRead)
		if moreMade > most*made || moreRead > most*read {
			t.Error("twenty times as many cost more than they should")
		}
	}
}

// manageSubscriptions makes n subscriptions of two actors, drops those of one one
// by one and those of the other at once, and reads the log back.
func manageSubscriptions(t *testing.T, n int, group string) (made, read time.Duration) {
	s := newSolo(t, Config{})
	actor := func(i int) Actor { return Actor{"dp", "A", fmt.Sprint(2 * i / n)} }
	began := startWatch()
	for i := range n {
		s.do(&Subscribe{Subscription: Subscription{Actor: actor(i), ID: fmt.Sprint(i), Path: "/e", Topic: "t", Group: group}, Waiter: 1})
	}
	for i := range n / 2 {
		s.do(&Unsubscribe{Actor: actor(i), ID: fmt.Sprint(i), Waiter: 1})
	}
	if s.answer(&Unsubscribe{Actor: actor(n / 2), Waiter: 1}) != nil && n > 10_000 {
		t.Errorf("%d subscriptions were removed in one step", n/2)
	}
	for steps := 0; s.c.Due(s.now) == 0; steps++ {
		if steps == 100 {
			t.Fatal("the removal does not end")
		}
		s.do(&Tick{})
	}
	made = began.spent()
	if len(s.c.groups) != 0 || len(s.c.memberOf) != 0 || len(s.c.groupOrder) != 0 {
		t.Error("something is left")
	}
	began = startWatch()
	s.reown()
	return made, began.spent()
}

// A group of many members is kept in several records, none of them large, and
// is the same after a cut.
func TestKeptGroupOfMany(t *testing.T) {
	s := newSolo(t, Config{})
	for i := range 5000 {
		s.do(&Subscribe{Subscription: Subscription{Actor: Actor{"dp", "A", fmt.Sprint(i)}, ID: "s", Path: "/e", Topic: "t", Group: "g"}, Waiter: 1})
	}
	before := s.c.Describe()
	s.do(&Mark{})
	cut, seq := len(s.log)-1, s.c.Seq()
	for s.c.OldestLive() < seq {
		s.do(&Keep{Before: seq, Limit: 10})
	}
	for _, b := range s.log[cut:] {
		if len(b) > 2*listBytes {
			t.Errorf("a record of %d bytes", len(b))
		}
	}
	s.log = s.log[cut:]
	s.reown()
	if got := s.c.Describe(); got != before {
		t.Error("the trimmed log tells otherwise:", firstDifference(before, got))
	}
}

// A group is kept over many steps while members come, change and go, and over a new
// owner. Nothing is cut off before the last of them, whatever of the log is there, and
// what is left of the log then tells all.
func TestGroupKeptOverManySteps(t *testing.T) {
	const n = 3*pieceSize + 10
	s := newSolo(t, Config{})
	sub := func(i int, path string) {
		s.do(&Subscribe{Subscription: Subscription{Actor: Actor{"dp", "A", fmt.Sprintf("%05d", i)}, ID: "s", Path: path, Topic: "t", Group: "g"}, Waiter: 1})
	}
	drop := func(i int) {
		s.do(&Unsubscribe{Actor: Actor{"dp", "A", fmt.Sprintf("%05d", i)}, Waiter: 1})
	}
	for i := range n {
		sub(2*i, "/e")
	}
	s.do(&Mark{})
	cut, seq := len(s.log)-1, s.c.Seq()
	keep := func() {
		s.do(&Keep{Before: seq, Limit: 10})
		for _, m := range recounted(s.c) {
			t.Fatal(m)
		}
	}
	oldest := func() {
		t.Helper()
		c := New(s.c.cfg)
		for _, b := range s.log {
			if _, err := c.Fold(b); err != nil {
				t.Fatal(err)
			}
			if c.Seq() > seq && c.OldestLive() > seq {
				t.Fatalf("record %d: what is in front of %d may be cut off, and the rest of the group is not kept", c.Seq(), seq)
			}
		}
	}
	keep()
	oldest()
	sub(1, "/came")          // in front of what is left
	sub(2*n-4, "/changed")   // behind it
	sub(4, "/changed too")   // was kept
	drop(6)                  // was kept
	drop(2*n - 6)            // was not
	sub(2*n+1, "/came late") // behind all
	keep()
	s.reown()
	keep() // from the beginning
	sub(3, "/came")
	for i := 2 * (pieceSize + 20); i <= 2*n+1; i++ { // all that is left
		drop(i)
	}
	oldest()
	steps := 0
	for ; s.c.OldestLive() < seq; steps++ {
		keep()
	}
	before := s.c.Describe()
	s.log = s.log[cut:]
	s.reown()
	if got := s.c.Describe(); got != before {
		t.Error("the trimmed log tells otherwise:", firstDifference(before, got))
	}
	for i := range pieceSize { // and when all that was kept first goes before the last
		sub(2*n+i, "/e")
	}
	s.do(&Mark{})
	cut, seq = len(s.log)-1, s.c.Seq()
	keep()
	for i := range 2 * (pieceSize + 20) {
		drop(i)
	}
	for s.c.OldestLive() < seq {
		keep()
	}
	before = s.c.Describe()
	s.log = s.log[cut:]
	s.reown()
	if got := s.c.Describe(); got != before {
		t.Error("the log tells otherwise when the first members have gone:", firstDifference(before, got))
	}
	for _, m := range recounted(s.c) {
		t.Error(m)
	}
}

// Apps that name the same group in the same topic do not share its limit.
func TestFullGroupOfOneAppStopsNoOther(t *testing.T) {
	s := newSolo(t, Config{})
	pumps := map[string]*pump{}
	for _, app := range []string{"dp", "eb"} {
		sub := Subscription{Actor: Actor{app, "A", "1"}, ID: "s", Path: "/e", Topic: "t", Group: "g"}
		s.do(&Subscribe{Subscription: sub, Waiter: "w"})
		pumps[app] = &pump{s: s, key: s.c.groupKey(&sub)}
	}
	pumps["dp"].fill()
	if !pumps["eb"].deliver() {
		t.Error("a full group of another app stops this one")
	}
	for app, p := range pumps {
		for _, e := range s.c.entries {
			if e.from.key == p.key && e.req.Target.App != app {
				t.Fatalf("an event of the group of %s became work of %s", app, e.req.Target.App)
			}
		}
	}
}

// A pump that waits for a group which apps had together at level 1 hears of its
// end, and each app's group takes events from there.
func TestFullGroupIsSplit(t *testing.T) {
	s := newSolo(t, Config{Level: 1})
	var p *pump
	for _, app := range []string{"dp", "eb"} {
		sub := Subscription{Actor: Actor{app, "A", "1"}, ID: "s", Path: "/e", Topic: "t", Group: "g"}
		s.do(&Subscribe{Subscription: sub, Waiter: "w"})
		p = &pump{s: s, key: s.c.groupKey(&sub)}
	}
	cfg := s.c.cfg
	cfg.Level, cfg.Node = 0, "g2"
	s.own(cfg)
	p.fill()
	effects := s.do(&RaiseLevel{Level: 2})
	if told := p.told(effects); told != CodeAskAgain {
		t.Errorf("the pump was told %q", told)
	}
	changed := false
	for _, e := range effects {
		changed = changed || e.Kind == GroupsChanged
	}
	if !changed {
		t.Error("nobody is told that there are other groups")
	}
	if e := s.answer(&DeliverEvents{Group: p.key, From: p.next, Waiter: "pump"}); codeOf(e) != CodeNotFound {
		t.Errorf("the group of nobody is still there: %+v", e)
	}
	cursors := s.c.groupCursors("", 0)
	if len(cursors) != 2 {
		t.Fatalf("%d groups", len(cursors))
	}
	for _, g := range cursors {
		if next := (&pump{s: s, key: g.Key, next: g.Next}); g.Next != p.next || !next.deliver() {
			t.Errorf("group %q is at %d, not %d, or takes nothing", g.Key, g.Next, p.next)
		}
	}
}

// A purge lets go of a group in pieces. What subscribes again meanwhile, under the same name
// to another topic, is a member of its new group to the end.
func TestSubscribedAgainWhileTheGroupGoes(t *testing.T) {
	const n = 3 * sweepBatch
	s := newSolo(t, Config{})
	subscribe := func(i int, topic string) {
		s.do(&Subscribe{Subscription: Subscription{Actor: Actor{"dp", "T", fmt.Sprint(i)}, ID: "s", Path: "/e", Topic: topic, Group: "g-" + topic}, Waiter: "w"})
	}
	for i := range n {
		subscribe(i, "old")
	}
	s.do(&Purge{App: "dp", Waiter: "p"})
	for i := range n {
		subscribe(i, "new")
	}
	for range 20 {
		s.pass(time.Second)
	}
	there := 0
	for i := range n {
		if x := s.c.sub(Actor{"dp", "T", fmt.Sprint(i)}, "s"); x != nil && x.Topic == "new" {
			there++
		}
	}
	if there != n || len(s.c.groups) != 1 {
		t.Errorf("%d of %d are subscribed, in %d groups", there, n, len(s.c.groups))
	}
	if bad := recounted(s.c); bad != nil {
		t.Error(bad[0])
	}
}
