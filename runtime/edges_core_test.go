package runtime

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// Rules of a whole core at their edges.

// A timer that is set again comes at the earlier of the two times.
func TestEarlierTimerCounts(t *testing.T) {
	var h timerHeap
	var es [5]entry
	for i := range es {
		h.set(&es[i].timer, &es[i], int64(100*i+100))
	}
	h.set(&es[4].timer, &es[4], 50)
	h.set(&es[4].timer, &es[4], 900)
	h.remove(&es[1].timer)
	h.remove(&es[1].timer)
	var got []int64
	for x := h.next(1000); x != nil; x = h.next(1000) {
		got = append(got, x.at)
	}
	if !slices.Equal(got, []int64{50, 100, 300, 400}) || h.next(1000) != nil {
		t.Error(got)
	}
	h.set(&es[0].timer, &es[0], 10)
	if h.next(9) != nil || h.next(10) == nil {
		t.Error("a timer is due when its time is reached")
	}
}

// Two requests that were alone on one boot, one after the other, both count when
// the other partition had nothing there.
func TestTwoWaitForOneAnswer(t *testing.T) {
	c := New(Config{Partitions: 2, MaxAttempts: 5, IDWindow: 600_000})
	c.level, c.owned, c.now = 2, true, Now{1_000_000, 1_000_000}
	c.lost["h"] = &lostEntry{boot: "h", at: c.now.Wall}
	var es []*entry
	for i := range 2 {
		e := &entry{req: Request{ID: ID{byte(i)}, Target: Target{App: "dp", Service: "s"}}, flow: ID{7}, attempt: 1, host: "h", phase: stopped, alone: true}
		c.inquire(e)
		es = append(es, e)
	}
	c.askBeside()
	asked := 0
	for _, x := range c.effects {
		if in, ok := x.Value.(*BesideAsk); ok && x.Partition == 1 && in.Boot == "h" {
			asked++
		}
	}
	in := &BesideAnswered{From: 1, Boot: "h", Asked: c.now.Mono}
	if in.decide(c); asked != 1 || !es[0].blamed || !es[1].blamed || len(c.inquiries) != 0 {
		t.Errorf("asked %d times: %v, %v, %d are left", asked, es[0].blamed, es[1].blamed, len(c.inquiries))
	}
	for _, from := range []uint16{0, 2} {
		c.effects = nil
		if (&BesideAsk{From: from, Boot: "h"}).decide(c); len(c.effects) != 0 {
			t.Errorf("partition %d is answered", from)
		}
	}
}

// Bodies are read to be kept while their bytes have a bound; one alone is read
// whatever its size.
func TestReadingIsBounded(t *testing.T) {
	for _, x := range []struct {
		sizes []int
		reads int
	}{{[]int{keepReads + 1, 1000}, 1}, {[]int{keepReads / 2, keepReads / 2, 1000}, 2}, {[]int{1000, 1000, 1000}, 3}} {
		s := newSolo(t, Config{})
		for i, n := range x.sizes {
			s.tell("dp", fmt.Sprint(i), n)
		}
		s.c.Shed(1 << 40)
		s.do(&Mark{})
		before := s.c.Seq()
		reads := map[ID]int{}
		for range 2 {
			for _, e := range s.do(&Keep{Before: before, Limit: 10}) {
				if e.Kind == NeedBody {
					reads[e.ID]++
				}
			}
		}
		if len(reads) != x.reads || !s.c.Reading() {
			t.Errorf("%v: %d are read", x.sizes, len(reads))
		}
		for id, n := range reads {
			if n != 1 {
				t.Errorf("%s is read %d times", id, n)
			}
		}
	}
}

// An owner asks only whether the log takes a body, and how much waits: a body limit is of the
// gateway's door, and of the one to which a component is attached.
func TestLimitsToTheByte(t *testing.T) {
	s := newSolo(t, Config{})
	s.c.cfg.MailboxLimit = 3
	a := Target{App: "dp", Type: "A", ID: "x"}
	call := func(size int) (ID, *Effect) {
		id := s.id(a)
		return id, s.answer(&Submit{Request: Request{ID: id, Target: a, Method: "POST", Path: "/m", Body: make([]byte, size)}, Waiter: id})
	}
	s.host("h1")
	s.c.cfg.RecordLimit = 10 << 20
	room := 10<<20 - recordMargin - a.bytes() // of a result
	for size, want := range map[int]Code{room: "", room + 1: CodeResultTooLarge} {
		id, _ := call(5 << 20)
		effects := s.do(&Answered{Boot: "h1", Answer: Answer{Attempt: Attempt{ID: id, Number: 1}, Outcome: &Outcome{Status: 200, Body: make([]byte, size)}}})
		for _, e := range effects {
			if e.Waiter == id && e.Outcome.Code != want {
				t.Errorf("a result of %d bytes: %q", size, e.Outcome.Code)
			}
		}
	}
	if _, e := call(10 << 20); codeOf(e) != CodeTooLarge {
		t.Error("10 MiB are taken")
	}
	for i := range 5 { // one runs
		if _, e := call(1); (codeOf(e) == CodeMailboxFull) != (i == 4) {
			t.Errorf("call %d: %q", i, codeOf(e))
		}
	}
	for i := range 4 {
		to := Target{App: "dp", Service: "nobody"}
		e := s.answer(&Submit{Request: Request{ID: s.id(to), Target: to, Method: "POST", Path: "/m"}, Waiter: "w"})
		if (codeOf(e) == CodeMailboxFull) != (i == 3) {
			t.Errorf("request %d of a service: %q", i, codeOf(e))
		}
	}
	now := s.now.Wall
	for age, want := range map[int64]Code{300_000: "", 300_001: CodeTooOld, -120_000: "", -120_001: CodeFuture} {
		s.now.Wall = now - age
		id := s.id(Target{App: "dp", Type: "B", ID: "y"})
		s.now.Wall = now
		if got := codeOf(s.answer(&Submit{Request: Request{ID: id, Target: Target{App: "dp", Type: "B", ID: "y"}, Method: "POST"}, Waiter: "w"})); got != want {
			t.Errorf("an id of %d ms ago: %q", age, got)
		}
	}
}

// What asks for an outcome hears one thing, once.
func TestAskersHearOneThing(t *testing.T) {
	s := newSolo(t, Config{})
	a := Target{App: "dp", Type: "A", ID: "x"}
	open, gone, promise := s.id(a), s.id(a), s.id(Target{App: "dp", Type: "B", ID: "x"})
	s.host("h1")
	s.do(&Submit{Request: Request{ID: gone, Target: a, Method: "POST", Path: "/m"}})
	s.do(&Answered{Boot: "h1", Answer: Answer{Attempt: Attempt{ID: gone, Number: 1}, Outcome: &Outcome{Status: 200, Body: []byte("1")}}})
	s.do(&Submit{Request: Request{ID: open, Target: a, Method: "POST", Path: "/m"}, Waiter: "first"})
	s.do(&Submit{Request: Request{ID: promise, Kind: Promise, Target: Target{App: "dp", Type: "B", ID: "x"}, Method: "POST", Path: "/m"}})
	old := NewID(s.now.Wall-600_001, 0, "dp", [6]byte{9})
	older := NewID(s.now.Wall-600_000, 0, "dp", [6]byte{9})
	foreign := NewID(s.now.Wall, 0, "other", [6]byte{9})
	full := &View{}
	for i, x := range []struct {
		in   Await
		want string
	}{
		{Await{App: "dp", ID: open, View: full}, ""}, {Await{ID: open}, ""}, {Await{ID: promise}, "told"}, {Await{App: "dp", ID: promise, View: full}, ""},
		{Await{App: "dp", ID: gone, View: full}, "200"}, {Await{ID: gone}, "outcome_not_kept"}, {Await{App: "dp", ID: old, View: full}, "too_old"},
		{Await{App: "dp", ID: older, View: full}, "unknown_request"}, {Await{App: "dp", ID: foreign, View: full}, "unknown_request"}, {Await{App: "other", ID: open, View: full}, "unknown_request"},
	} {
		x.in.Waiter = i
		var got []string
		for _, e := range s.do(&x.in) {
			switch {
			case e.Waiter != i:
			case e.Err != nil:
				got = append(got, string(e.Err.Code))
			case e.Outcome != nil:
				got = append(got, fmt.Sprint(e.Outcome.Status))
			default:
				got = append(got, "told")
			}
		}
		if strings.Join(got, " ") != x.want {
			t.Errorf("case %d hears %q", i, got)
		}
	}
	s.do(&Leave{ID: open, Waiter: 0})
	s.do(&Leave{ID: open, Waiter: "nobody"})
	var heard []any
	for _, e := range s.do(&Answered{Boot: "h1", Answer: Answer{Attempt: Attempt{ID: open, Number: 1}, Outcome: &Outcome{Status: 200}}}) {
		if e.Kind == Reply {
			heard = append(heard, e.Waiter)
		}
	}
	if !slices.Equal(heard, []any{"first", 1}) {
		t.Errorf("%v hear of the end", heard)
	}
	if got := s.answer(&Cancel{App: "dp", ID: gone, Waiter: "w"}); got.Value != "completed" {
		t.Errorf("to cancel what has ended: %+v", got)
	}
	if got := s.answer(&HostsBeat{Boots: []string{"h1", "h0"}, Waiter: "w"}); len(got.Value.([]string)) != 0 {
		t.Errorf("who lives is lost: %v", got.Value)
	}
	s.do(&HostDown{Boot: "h1"})
	s.do(&HostDown{Boot: "h0"})
	if got := s.answer(&HostsBeat{Boots: []string{"h1", "h2", "h0"}, Waiter: "w"}); !slices.Equal(got.Value.([]string), []string{"h1", "h0"}) {
		t.Errorf("lost are %v", got.Value)
	}
}

// An answer about open tells that is older than what is known changes nothing.
func TestOlderAnswerAboutAGroup(t *testing.T) {
	s := newSolo(t, Config{Partitions: 2})
	m := Actor{}
	for i := 0; m.App == ""; i++ {
		if a := actorIn(1, 2, fmt.Sprint("M", i)); GroupPartition(&Subscription{Actor: a, Group: "g", Topic: fmt.Sprint("t", i)}, 2) == 0 {
			m = a
			sub := Subscription{Actor: a, ID: "s", Path: "/on", Topic: fmt.Sprint("t", i), Group: "g"}
			s.do(&Deliver{From: 1, N: 1, Payload: encode(nil, &parcel{kind: msgJoin, sub: sub})})
		}
	}
	key := s.c.groupCursors("", 0)[0].Key
	s.do(&DeliverEvents{Group: key, Events: []Event{{Offset: 0}, {Offset: 1}, {Offset: 2}}, Waiter: "p"})
	g := s.c.groups[key]
	for _, x := range []struct {
		open int
		upto uint64
		want int
	}{{1, 2, 2}, {5, 1, 2}, {2, 2, 3}, {-1, 3, 3}, {0, 3, 0}} {
		s.do(&GroupOpen{From: 1, Group: key, Life: g.life, Open: x.open, Upto: x.upto})
		if got := s.c.unfinished(g); got != x.want {
			t.Errorf("%d open up to %d: %d are unfinished", x.open, x.upto, got)
		}
	}
	s.do(&GroupOpen{From: 1, Group: key, Life: g.life + 1, Open: 9, Upto: 9})
	s.do(&GroupOpen{From: 0, Group: key, Life: g.life, Open: 9, Upto: 9})
	if got := s.c.unfinished(g); got != 0 {
		t.Errorf("answers about others: %d are unfinished", got)
	}
}

// Actors that fall idle before a new owner came are counted from the join.
func TestIdleCountsFromTheJoin(t *testing.T) {
	s := newSolo(t, Config{})
	h := HostInfo{Boot: "h1", App: "dp", Actors: []string{"A"}, Grace: 60_000, Idle: 1000}
	a := Target{App: "dp", Type: "A", ID: "x"}
	s.do(&HostJoined{Info: h})
	id := s.id(a)
	s.do(&Submit{Request: Request{ID: id, Target: a, Method: "POST", Path: "/m"}})
	s.do(&Answered{Boot: "h1", Answer: Answer{Attempt: Attempt{ID: id, Number: 1}, Outcome: &Outcome{Status: 200}}})
	lets := func() bool {
		return slices.ContainsFunc(s.do(&Tick{}), func(e Effect) bool { _, ok := e.Msg.(*Deactivate); return ok })
	}
	again := func() { s.do(&HostJoined{Info: h, Join: JoinAnswer{Instances: []Actor{a.Actor()}}}) }
	s.pass(900 * time.Millisecond)
	again() // the same owner goes on counting
	s.pass(200 * time.Millisecond)
	if !lets() {
		t.Error("a join gives the actor more time")
	}
	s.reown()
	s.pass(5 * time.Second)
	again()
	s.pass(900 * time.Millisecond)
	if lets() {
		t.Error("it was idle before this owner knew it")
	}
	s.pass(400 * time.Millisecond)
	if !lets() {
		t.Error("it is never let go of")
	}
}

// Actors that wait for a host and have gone leave nothing behind in the order.
func TestParkedActorsThatGo(t *testing.T) {
	s := newSolo(t, Config{})
	var last ID
	for i := range 300 {
		a := Target{App: "dp", Type: "A", ID: fmt.Sprint(i)}
		last = s.id(a)
		s.do(&Submit{Request: Request{ID: last, Target: a, Method: "POST", Path: "/m"}, Waiter: i})
		if i%3 != 0 {
			s.do(&Cancel{App: "dp", ID: last, Waiter: "c"})
		}
	}
	p := s.c.parked[component{"dp", "A", true}]
	if len(p.actors) != 100 || len(p.order) > 2*100+65 {
		t.Errorf("%d actors wait, %d in order", len(p.actors), len(p.order))
	}
	s.host("h1")
	if len(s.c.parked) != 0 || s.c.Counts.Running != 100 {
		t.Errorf("%d run, %d parkings are left", s.c.Counts.Running, len(s.c.parked))
	}
}

// A purge that nobody needs to know of is forgotten; url components stay.
func TestOutlivedPurgeWithServices(t *testing.T) {
	s := newSolo(t, Config{})
	a := Target{App: "dp", Type: "A", ID: "x"}
	s.do(&Submit{Request: Request{ID: s.id(a), Target: a, Method: "POST", Path: "/m"}})
	s.do(&Purge{App: "dp", Waiter: "p"})
	s.do(&SetService{App: "dp", Name: "s", URL: "http://s", Timeout: 1000, Waiter: "w"})
	s.pass(8 * 24 * time.Hour)
	s.do(&Tick{})
	s.do(&Mark{})
	for before := s.c.Seq(); s.c.OldestLive() < before; {
		s.do(&Keep{Before: before, Limit: 10})
	}
	if got := s.answer(&Query{Kind: QueryGeneration, App: "dp", Waiter: "w"}).Value; got != uint64(0) {
		t.Errorf("generation %v", got)
	}
	if s.c.apps["dp"].listed() {
		t.Error("the generation is kept for nothing")
	}
	if fs := s.answer(&Query{Kind: QueryServices, Waiter: "w"}).Value.([]ServiceFact); len(fs) != 1 || fs[0].URL != "http://s" {
		t.Errorf("%v is left", fs)
	}
}

// Which records of a log count for a reader.
func TestVoidForEveryReader(t *testing.T) {
	s := newSolo(t, Config{})
	s.do(&Prove{})
	claim := func(epoch uint64, owner string, level int) []byte {
		return EncodeRecord(&Record{Epoch: epoch, Owner: hash64(owner), Body: &claimed{node: owner, mesh: "test", partitions: 1, level: level}})
	}
	rec := func(epoch uint64, owner string, seq uint64, b message) []byte {
		return EncodeRecord(&Record{Epoch: epoch, Owner: hash64(owner), Seq: seq, Body: b})
	}
	unknown := encode(nil, &envelope{kind: 62, epoch: 1, owner: hash64("g1"), seq: 3, message: &alive{}})
	nonsense := func(epoch uint64, owner string, seq uint64) []byte {
		return encode(nil, &envelope{kind: kindCompleted, epoch: epoch, owner: hash64(owner), seq: seq, message: &notAnID{"x"}})
	}
	for name, x := range map[string]struct {
		b     []byte
		valid bool
		code  Code
	}{
		"the next":           {rec(1, "g1", s.c.Seq()+1, &alive{}), true, ""},
		"a gap":              {rec(1, "g1", s.c.Seq()+2, &alive{}), false, ""},
		"again":              {rec(1, "g1", s.c.Seq(), &alive{}), false, ""},
		"of another":         {rec(1, "g2", s.c.Seq()+1, &alive{}), false, ""},
		"of an earlier term": {rec(0, "g1", s.c.Seq()+1, &alive{}), false, ""},
		"claim of the next":  {claim(2, "g2", 0), true, ""},
		"claim of this term": {claim(1, "g2", 0), false, ""},
		"unknown and void":   {encode(nil, &envelope{kind: 62, epoch: 1, owner: 5, seq: 3, message: &alive{}}), false, ""},
		"unknown":            {unknown, false, CodeNewerFormat},
		"nonsense":           {[]byte{1, 2, 3}, false, ""},
		"a body of nonsense": {nonsense(1, "g1", s.c.Seq()+1), false, CodeDamaged},
		"the same and void":  {nonsense(1, "g2", s.c.Seq()+1), false, ""},
		"a level too high":   {rec(1, "g1", s.c.Seq()+1, &raised{Level + 1}), false, CodeNewerFormat},
		"a level":            {rec(1, "g1", s.c.Seq()+1, &raised{Level}), true, ""},
		"foreign claim":      {EncodeRecord(&Record{Epoch: 2, Owner: 1, Body: &claimed{mesh: "other", partitions: 1}}), false, CodeForeign},
		"other partitions":   {EncodeRecord(&Record{Epoch: 2, Owner: 1, Body: &claimed{mesh: "test", partitions: 2}}), false, CodeForeign},
	} {
		c := New(s.c.cfg)
		for _, b := range s.log {
			if _, err := c.Fold(b); err != nil {
				t.Fatal(err)
			}
		}
		valid, err := c.Fold(x.b)
		code := codeIn(err)
		if valid != x.valid || code != x.code {
			t.Errorf("%s: %v, %v", name, valid, err)
		}
	}
	head := func(epoch, seq uint64, h header) []byte {
		h.mesh, h.partitions = "test", max(h.partitions, 1)
		return rec(epoch, "g1", seq, &h)
	}
	for name, x := range map[string]struct {
		log  [][]byte
		seq  uint64
		code Code
	}{
		"the rest of a round in front":  {[][]byte{rec(2, "g1", 8, &alive{}), head(2, 9, header{}), rec(2, "g1", 10, &alive{})}, 10, ""},
		"a later claim in front":        {[][]byte{claim(4, "g1", 0), head(3, 9, header{}), head(4, 12, header{})}, 12, ""},
		"a claim of the same in front":  {[][]byte{claim(3, "g1", 0), head(3, 9, header{})}, 9, ""},
		"a header of a newer version":   {[][]byte{head(2, 9, header{level: Level + 1})}, 0, CodeNewerFormat},
		"a claim of a newer version":    {[][]byte{claim(1, "g1", Level+1)}, 0, CodeNewerFormat},
		"a foreign header":              {[][]byte{head(2, 9, header{partitions: 3})}, 0, CodeForeign},
		"a header that was deposed":     {[][]byte{head(2, 9, header{}), rec(3, "g2", 12, &header{mesh: "test", partitions: 1}), rec(3, "g2", 13, &alive{})}, 13, ""},
		"a header behind a gap":         {[][]byte{head(2, 9, header{}), head(2, 15, header{})}, 15, ""},
		"a header again":                {[][]byte{head(2, 9, header{}), rec(2, "g1", 10, &alive{}), head(2, 9, header{})}, 10, ""},
		"a header as the next record":   {[][]byte{head(2, 9, header{}), head(2, 10, header{})}, 10, ""},
		"a header of the other of them": {[][]byte{head(2, 9, header{}), rec(2, "g2", 9, &header{mesh: "test", partitions: 1})}, 9, ""},
	} {
		c := New(s.c.cfg)
		code := Code("")
		for _, b := range x.log {
			if _, err := c.Fold(b); err != nil {
				code = codeIn(err)
			}
		}
		if c.Seq() != x.seq || code != x.code {
			t.Errorf("%s: record %d, %q", name, c.Seq(), code)
		}
	}
	body, found := BodyIn(rec(1, "g1", 5, &accepted{req: Request{ID: ID{1}, Body: []byte("b")}}), ID{1}, 5)
	if !found || string(body) != "b" {
		t.Error("the body of a request is not found")
	}
	for i, x := range []struct {
		b  []byte
		id ID
		at uint64
	}{
		{rec(1, "g1", 5, &accepted{req: Request{ID: ID{1}}}), ID{2}, 5}, {rec(1, "g1", 5, &accepted{req: Request{ID: ID{1}}}), ID{1}, 6}, {rec(1, "g1", 5, &alive{}), ID{1}, 5},
		{[]byte{9}, ID{1}, 5}, {rec(1, "g1", 5, &continued{id: ID{1}}), ID{2}, 5}, {rec(1, "g1", 5, &keptRequest{accepted: accepted{req: Request{ID: ID{1}}}}), ID{2}, 5},
	} {
		if _, found := BodyIn(x.b, x.id, x.at); found {
			t.Errorf("case %d is found", i)
		}
	}
}

// Recycled slices are used again unless they are very large.
func TestRecycle(t *testing.T) {
	c := New(Config{})
	for n, want := range map[int]bool{10: true, maxRecycled: true, maxRecycled + 1: false} {
		c.records, c.effects = nil, nil
		rs, es := make([][]byte, 1, n), make([]Effect, 1, n)
		rs[0], es[0] = []byte{1}, Effect{ID: ID{1}}
		c.Recycle(rs, es)
		if got := cap(c.records) == n && cap(c.effects) == n && len(c.records) == 0 && len(c.effects) == 0; got != want {
			t.Errorf("of %d: %v", n, got)
		}
		if want && (rs[:1][0] != nil || es[:1][0].ID != ID{}) {
			t.Error("what was in it is held")
		}
	}
	c.records, c.effects = [][]byte{{7}}, []Effect{{ID: ID{7}}}
	if c.Recycle(make([][]byte, 1), make([]Effect, 1)); len(c.records) != 1 || len(c.effects) != 1 {
		t.Error("what was decided meanwhile is gone")
	}
}

// All who wait hear that there is a new owner.
func TestStepDownTellsEverybody(t *testing.T) {
	s := newSolo(t, Config{})
	a, b := Target{App: "dp", Type: "A", ID: "x"}, Target{App: "dp", Service: "s"}
	s.host("h1")
	s.do(&Submit{Request: Request{ID: s.id(a), Target: a, Method: "POST", Path: "/m"}, Waiter: "call"})
	s.do(&Submit{Request: Request{ID: s.id(b), Target: b, Method: "POST", Path: "/m"}, Waiter: "service"})
	s.do(&Drain{App: "dp", Waiter: "drain"})
	id := s.id(b)
	s.do(&Publish{App: "dp", ID: id, Waiter: "publisher"})
	s.do(&Publish{App: "dp", ID: id, Waiter: "publish"})
	for i := range 2 {
		s.do(&Subscribe{Subscription: Subscription{Actor: a.Actor(), ID: fmt.Sprint(i), Path: "/on", Topic: "t", Group: "g"}})
	}
	s.c.blocked["g"] = []any{"pump"}
	s.c.leaving = append(s.c.leaving, &leaving{waiter: "leaving"})
	s.c.forgettings = append(s.c.forgettings, &forgetting{in: &CancelReminders{Waiter: "forgetting"}})
	s.c.withdrawals = append(s.c.withdrawals, &withdrawal{clearing: &clearing{waiters: []any{"cancelall"}}}, &withdrawal{})
	s.c.purges = append(s.c.purges, &purge{waiter: "purge"})
	s.c.StepDown()
	var heard []string
	for _, e := range s.c.effects {
		if e.Kind == Reply && codeOf(&e) == CodeAskAgain {
			heard = append(heard, fmt.Sprint(e.Waiter))
		}
	}
	slices.Sort(heard)
	if want := []string{"call", "cancelall", "drain", "forgetting", "leaving", "publish", "pump", "purge", "service"}; !slices.Equal(heard, want) || s.c.Owned() {
		t.Errorf("%v hear of it", heard)
	}
}

// notAnID is no body of any record: its first field is too short for an id.
type notAnID struct{ id string }

func (m *notAnID) fields(c *codec) { c.str(1, &m.id) }
