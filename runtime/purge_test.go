package runtime

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// An invocation that is purged in the round that decided it does not leave: it
// ran nowhere, and the actor is free at once, whatever links do in that round.
func TestPurgedBeforeItLeft(t *testing.T) {
	for _, relink := range []bool{false, true} {
		w := newWorld(t)
		w.command("host h1 actors=A")
		p := w.parts[0]
		a := Target{App: "dp", Type: "A", ID: "1"}
		id := w.newID("r1", a, "")
		p.core.Step(w.now, &Submit{Request: Request{ID: id, Target: a, Method: "POST", Path: "/m"}, Waiter: "r1"})
		join := &HostJoined{Info: w.infos["h1"], Waiter: "h1"}
		if relink {
			p.core.Step(w.now, &HostUnlinked{Boot: "h1"})
			p.core.Step(w.now, join)
			p.core.Step(w.now, &HostUnlinked{Boot: "h1"})
		}
		p.core.Step(w.now, &Purge{App: "dp", Waiter: "purge"})
		if relink {
			p.core.Step(w.now, join)
		}
		_, effects := p.core.Take()
		for _, e := range effects {
			if m, ok := e.Msg.(*Invoke); ok {
				t.Errorf("relinked %v: %v leaves after its purge", relink, m.Attempt)
			}
		}
		if x := p.core.actors[a.Actor()]; x != nil && len(x.zombies) > 0 {
			t.Errorf("relinked %v: %v is waited for, and ran nowhere", relink, x.zombies)
		}
	}
}

// What such an invocation has left in the log tells the same with and without
// the records in front of it.
func TestPurgedBeforeItLeftAndTrimmed(t *testing.T) {
	b := newBench(t, Config{})
	b.submit(Request{Target: Target{App: "dp", Type: "A", ID: "1"}})
	b.step(&Mark{})
	header := b.c.Seq()
	at := len(b.log) - 1
	b.c.Step(b.now, &HostJoined{Info: HostInfo{Boot: "h1", App: "dp", Actors: []string{"A"}, Grace: 6000}})
	b.c.Step(b.now, &Purge{App: "dp", Waiter: "purge"})
	b.take()
	for n := 0; b.c.OldestLive() < header; n++ {
		if n > 10 {
			t.Fatal("the log cannot be cut")
		}
		b.step(&Keep{Before: header, Limit: 10})
	}
	fold := func(log [][]byte) map[string]string {
		c := New(b.c.cfg)
		for _, r := range log {
			if _, err := c.Fold(r); err != nil {
				t.Fatal(err)
			}
		}
		return durable(c)
	}
	full, cut := fold(b.log), fold(b.log[at:])
	if d := differences(full, cut, isForgettable); d != "" {
		t.Error(d)
	}
	if d := differences(cut, full, func(string) bool { return false }); d != "" {
		t.Error(d)
	}
}

// One that has left, and was sent again in the round of the purge, is waited for.
func TestPurgedAfterItLeft(t *testing.T) {
	w := newWorld(t)
	w.command("host h1 actors=A")
	w.command("call r1 A/1 /m")
	p := w.parts[0]
	join := &HostJoined{Info: w.infos["h1"], Waiter: "h1"} // an answer to a question in front of the invocation
	p.core.Step(w.now, join)
	p.core.Step(w.now, &Purge{App: "dp", Waiter: "purge"})
	_, effects := p.core.Take()
	for _, e := range effects {
		if m, ok := e.Msg.(*Invoke); ok {
			t.Errorf("%v leaves after its purge", m.Attempt)
		}
	}
	if x := p.core.actors[target("A/1").Actor()]; x == nil || len(x.zombies) != 1 {
		t.Error("nobody waits for the end of what may run")
	}
}

// One whose host has joined with a new link and does not run it is sent again
// there. When that, or the body for it, has not left, nobody waits for it.
func TestPurgedBeforeItWasSentAgain(t *testing.T) {
	for _, shed := range []bool{false, true} {
		for _, reads := range []bool{false, true} {
			b := newBench(t, Config{})
			b.c.load.least = 1
			b.host("h1")
			a := Target{App: "dp", Type: "A", ID: "1"}
			body := []byte("[123456]")
			e := b.submit(Request{Target: a, Body: body})
			at := e.bodyAt
			b.step(&HostUnlinked{Boot: "h1"})
			if shed {
				b.c.Shed(1 << 30)
			}
			join := func() { b.c.Step(b.now, &HostJoined{Info: b.c.hosts["h1"].info}) }
			read := func() { b.c.Step(b.now, &BodyRead{ID: e.req.ID, At: at, Body: body, Found: true}) }
			join()
			if shed {
				b.take() // the body is read in another round
			}
			if shed && reads {
				read()
			}
			b.c.Step(b.now, &Purge{App: "dp", Waiter: "purge"})
			read()
			for _, x := range b.take() {
				if m, ok := x.Msg.(*Invoke); ok {
					t.Errorf("shed %v, read %v: %v leaves after its purge", shed, reads, m.Attempt)
				}
			}
			b.step(&Deactivated{Boot: "h1", Actor: a.Actor()})
			if next := b.submit(Request{Target: a}); next.phase != running {
				t.Errorf("shed %v, read %v: the next request is %v", shed, reads, next.phase)
			}
		}
	}
}

// A purge is one small step however much is active; what it has ended is let go
// of in pieces, and is gone for everybody at once.
func TestPurgeInPieces(t *testing.T) {
	const n = 5*sweepBatch + 1
	c := purgeable(t, n)
	now := c.now
	step := func(in Input) (told int) {
		c.Step(now, in)
		_, effects := c.Take()
		for _, e := range effects {
			if _, ok := e.Msg.(*Deactivate); ok {
				told++
			}
		}
		return told
	}
	began := c.Seq()
	if told := step(&Purge{App: "a", Waiter: 1}); told > 0 || c.Seq() > began+2 {
		t.Errorf("%d actors and %d records in the step of the purge", told, c.Seq()-began)
	}
	last := Actor{"a", "A", "0"}
	if got := c.remindersOf(last, "", "", 0); len(got) != 0 {
		t.Errorf("%v outlives the purge", got)
	}
	id := NewID(now.Wall, 0, "a", [6]byte{9})
	if told := step(&Submit{Request: Request{ID: id, Target: Target{App: "a", Type: "A", ID: "0"}, Method: "POST", Path: "/m"}, Waiter: 1}); told != 1 || c.entries[id].phase != queued {
		t.Errorf("a new request finds %v, %d told", c.entries[id].phase, told)
	}
	all := 1
	for range 100 {
		if c.Due(now) > 0 {
			break
		}
		told := step(&Tick{})
		if told > sweepBatch {
			t.Errorf("%d actors in one step", told)
		}
		all += told
	}
	if all != n || len(c.reminders) != 0 || c.remCount != 0 {
		t.Errorf("%d of %d actors were told, %d reminders are left", all, n, c.remCount)
	}
}

func purgeable(t testing.TB, actors int) *Core {
	c := New(Config{Mesh: "m", Partitions: 1, Node: "g", Lease: 6000, IDWindow: 600_000})
	now := Now{Wall: 1767225600000, Mono: 1_000_000}
	if _, err := c.Fold(c.Claim(now)); err != nil || !c.Own(now, 0) {
		t.Fatal(err)
	}
	c.Step(now, &HostJoined{Info: HostInfo{Boot: "h", App: "a", Actors: []string{"A"}, Grace: 6000}})
	for i := range actors {
		a := Actor{"a", "A", fmt.Sprint(i)}
		c.emit(&started{id: ID{1}, attempt: 1, host: "h", actor: a})
		c.emit(&reminderSet{r: Reminder{Actor: a, ID: "r", Path: "/p", Due: now.Wall + 1e9}})
		c.Take()
	}
	return c
}

// BenchmarkPurge is the longest step of a purge of 200,000 active actors with a
// reminder each.
func BenchmarkPurge(b *testing.B) {
	for range b.N {
		b.StopTimer()
		c := purgeable(b, 200_000)
		b.StartTimer()
		longest := time.Duration(0)
		in := Input(&Purge{App: "a", Waiter: 1})
		for {
			began := time.Now()
			c.Step(c.now, in)
			longest = max(longest, time.Since(began))
			c.Take()
			if c.Due(c.now) > 0 {
				break
			}
			in = &Tick{}
		}
		b.ReportMetric(float64(longest.Microseconds()), "µs/step")
	}
}

// Keeping is bounded in bytes, too.
func TestKeepIsBounded(t *testing.T) {
	w := newWorld(t)
	w.quiet = true
	p := w.parts[0]
	for i := range 50 {
		a := Target{App: "dp", Type: "A", ID: fmt.Sprint(i)}
		w.step(0, &Submit{Request: Request{ID: w.newID(fmt.Sprint("r", i), a, ""), Kind: Tell, Target: a, Method: "POST", Body: make([]byte, 512<<10)}, Waiter: "r"})
	}
	p.core.Step(w.now, &Mark{})
	before := p.core.Seq()
	w.finish(p, "")
	for p.core.OldestLive() < before {
		p.core.Step(w.now, &Keep{Before: before, Limit: 1000})
		records, _ := p.core.Take()
		size := 0
		for _, b := range records {
			size += len(b)
		}
		if size > keepBytes+1<<20 || size == 0 {
			t.Fatalf("%d bytes in one step", size)
		}
	}
}

// However many zombies an actor has, each record of it fits. The records count
// when all of them are there, also behind a cut.
func TestKeptActorWithManyZombies(t *testing.T) {
	const limit, n = 256 << 10, 7000
	boot := strings.Repeat("b", 26)
	b := newBench(t, Config{RecordLimit: limit})
	b.host(boot)
	root := b.submit(Request{Target: Target{App: "dp", Type: "A", ID: "root"}})
	session := b.c.sessionOf(root)
	for range n {
		b.submit(Request{Target: Target{App: "dp", Type: "B", ID: "one"}, Session: session, Boot: boot})
	}
	zombies := func(log [][]byte) int {
		c := New(b.c.cfg)
		for _, r := range log {
			if len(r) > limit {
				t.Fatalf("a record has %d bytes", len(r))
			}
			if _, err := c.Fold(r); err != nil {
				t.Fatal(err)
			}
		}
		if x := c.actors[Actor{"dp", "B", "one"}]; x != nil {
			return len(x.zombies)
		}
		return 0
	}
	purged := len(b.log)
	b.step(&Purge{App: "dp", Waiter: "p"})
	for b.c.Due(b.now) == 0 {
		b.step(&Tick{})
	}
	most := 0
	for end := purged; end <= len(b.log); end++ {
		got := zombies(b.log[:end])
		if got < most {
			t.Errorf("%d zombies, then %d after %d of the %d records of the purge", most, got, end-purged, len(b.log)-purged)
		}
		most = got
	}
	if most != n {
		t.Errorf("%d zombies", most)
	}
	b.step(&Mark{})
	cut := len(b.log) - 1
	before := b.c.Seq()
	b.step(&Keep{Before: before, Limit: 1000})
	if b.c.OldestLive() < before {
		t.Fatal("not all was kept")
	}
	if got := zombies(b.log[cut:]); got != n {
		t.Errorf("%d zombies in the log that was cut", got)
	}
	b.step(&Mark{})
	if got := zombies(b.log[len(b.log)-1:]); got != 0 {
		t.Fatal("the test does not see what is cut off")
	}
	if live := b.c.OldestLive(); live != before+1 {
		t.Errorf("record %d is the oldest that is needed, all from %d on are", live, before+1)
	}
}

// What runs when its app is purged is kept anew in pieces, by the next owner too, and
// nothing of it is cut off before. The end of one looks at no other.
func TestPurgeOfManyThatRun(t *testing.T) {
	const n = 30_000
	b := newBench(t, Config{})
	b.host("h1")
	var as []Attempt
	for i := range n {
		e := b.submit(Request{Target: Target{App: "dp", Type: "A", ID: fmt.Sprint(i)}})
		as = append(as, b.c.attemptOf(e))
	}
	join := func() {
		info := HostInfo{Boot: "h1", App: "dp", Service: "s", Actors: []string{"A", "B"}, Grace: 6000}
		b.step(&HostJoined{Info: info, Join: JoinAnswer{Running: as}})
	}
	purged := len(b.log)
	inPieces := func() {
		for {
			began := len(b.log)
			b.step(&Tick{})
			if got := len(b.log) - began; got > pieceSize+n/idsInRecord+5 {
				t.Fatalf("%d records in one step", got)
			}
			if got := len(b.c.haunted) + len(b.c.entries); got < n {
				t.Fatalf("%d actors are haunted or will be", got)
			}
			if b.c.Due(b.now) > 0 {
				return
			}
			if len(b.c.unkept) > 0 && b.c.OldestLive() > max(uint64(purged), b.c.head) {
				t.Fatal("what is not kept anew may be cut off")
			}
		}
	}
	b.step(&Purge{App: "dp", Waiter: "p"})
	if got := len(b.log) - purged; got > pieceSize+n/idsInRecord+5 {
		t.Errorf("%d records in the step of the purge", got)
	}
	b.step(&Tick{})
	b.restart() // in the middle
	join()
	inPieces()
	b.step(&Mark{})
	cut := len(b.log) - 1
	for before := b.c.Seq(); b.c.OldestLive() < before; {
		b.step(&Keep{Before: before, Limit: 512})
	}
	b.log = b.log[cut:]
	b.restart()
	join()
	inPieces()
	ended := 0
	end := func(n int) time.Duration {
		begin := startWatch()
		for _, a := range as[ended : ended+n] {
			b.step(&Answered{Boot: "h1", Answer: Answer{Attempt: a, Outcome: &Outcome{Status: 200}}})
		}
		ended += n
		return begin.spent()
	}
	some := func() time.Duration { return end(50) }
	first := quickest(some)
	end(n - 300)
	if last := quickest(some); first > growth*last { // a hundred times as long when each is looked for
		t.Errorf("the first 50 of %d ends took %v, the last %v", n, first, last)
	}
	if len(b.c.haunted) != 0 {
		t.Errorf("%d actors are haunted by what has ended", len(b.c.haunted))
	}
}

// However many requests wait when their app is purged, a step ends a piece of them,
// and what is accepted meanwhile starts when the last has ended. That holds over a
// take-over and a trim in the middle. A purge makes no dead letters.
func TestPurgeOfManyThatWait(t *testing.T) {
	const n, apart = 6*purgePiece + 1, 3
	b := newBench(t, Config{})
	b.host("h1")
	one := Target{App: "dp", Type: "A", ID: "one"}
	first := b.submit(Request{Target: one})
	for i := range n - 1 {
		switch i % apart {
		case 0:
			b.submit(Request{Target: one})
		case 1:
			b.submit(Request{Kind: Tell, Target: Target{App: "dp", Type: "C", ID: fmt.Sprint(i)}})
		default:
			b.submit(Request{Kind: Promise, Target: Target{App: "dp", Service: "t"}})
		}
	}
	told, began := 0, false
	look := func(effects []Effect) {
		for _, e := range effects {
			if e.Kind == AppError {
				t.Fatal("a purge makes a dead letter")
			}
			if e.Outcome != nil && e.Outcome.Code == CodePurged {
				told++
			}
			_, ok := e.Msg.(*Invoke)
			began = began || ok
		}
	}
	old := func() int {
		left := 0
		for _, e := range b.c.entries {
			if b.c.isPurged(e) {
				left++
			}
		}
		return left
	}
	step := func(in Input) {
		before := max(old(), 1)
		look(b.step(in))
		if ended := before - old(); ended > purgePiece {
			t.Fatalf("%d requests ended in one step", ended)
		}
	}
	look(b.step(&Purge{App: "dp", Waiter: "p"}))
	if left := old(); left != n-purgePiece {
		t.Fatalf("%d of %d requests are left after the first step", left, n)
	}
	next := b.submit(Request{Target: Target{App: "dp", Type: "B", ID: "new"}})
	other := b.submit(Request{Target: Target{App: "dp", Service: "s"}})
	if told < purgePiece/apart || next.phase != queued || other.phase != queued {
		t.Errorf("%d callers were told, what comes later is %v and %v", told, next.phase, other.phase)
	}
	step(&Tick{})
	b.restart()
	step(&Mark{})
	cut := len(b.log) - 1
	before := b.c.Seq()
	if left := old(); left < 2*purgePiece {
		t.Fatalf("%d are left for the next owner", left)
	}
	for b.c.OldestLive() < before {
		step(&Keep{Before: before, Limit: 400})
	}
	b.log = b.log[cut:]
	b.restart()
	look(b.host("h1"))
	for b.c.Due(b.now) == 0 {
		step(&Tick{})
	}
	if len(b.c.entries) != 2 || !began {
		t.Errorf("%d requests are left, invoked %v", len(b.c.entries), began)
	}
	for id, e := range b.c.entries {
		if e.phase != running {
			t.Errorf("%v is %v", id, e.phase)
		}
	}
	if !b.c.ended.has(first.req.ID) || b.c.ended.count < n {
		t.Error("ids of what has ended are forgotten")
	}
}

// What a host says in the middle of a purge about an attempt that has not been ended
// yet counts when it is.
func TestHostSpeaksInTheMiddleOfAPurge(t *testing.T) {
	for what, say := range map[string]func(b *bench, e *entry){
		"it has answered": func(b *bench, e *entry) { b.answer(e, &Outcome{Status: 200}) },
		"it has stopped":  func(b *bench, e *entry) { b.answer(e, nil) },
		"it has not got it": func(b *bench, e *entry) {
			b.step(&HostUnlinked{Boot: "h1"})
			b.host("h1")
		},
		"it is lost": func(b *bench, e *entry) {
			b.step(&HostDown{Boot: "h1"})
			b.host("h2")
		},
	} {
		b := newBench(t, Config{})
		for range 2 * purgePiece { // they end first
			b.submit(Request{Kind: Tell, Target: Target{Service: "t"}})
		}
		b.host("h1")
		a := Target{App: "dp", Type: "A", ID: "1"}
		e := b.submit(Request{Target: a})
		b.step(&Purge{App: "dp", Waiter: "p"})
		if !b.c.isPurged(e) {
			t.Fatal("it has ended already")
		}
		say(b, e)
		for b.c.Due(b.now) == 0 {
			for _, x := range b.step(&Tick{}) {
				if d, ok := x.Msg.(*Deactivate); ok {
					b.step(&Deactivated{Boot: x.Boot, Actor: d.Actor})
				}
				if x.Kind == Reply && x.Outcome != nil && x.Outcome.Code != CodePurged {
					t.Errorf("%s: the caller got %v", what, x.Outcome)
				}
			}
		}
		if next := b.submit(Request{Target: a}); next.phase != running {
			t.Errorf("%s: the next request is %v, zombies %v", what, next.phase, b.c.actors[a.Actor()].zombies)
		}
	}
}

// The members of a purged app are let go of in pieces, by a trim and by the next owner
// as well. Nobody finds them meanwhile, and those that are made anew stay.
func TestPurgeOfManyMembers(t *testing.T) {
	const n = 3*sweepBatch + 7
	for _, how := range []string{"ticks", "keeps", "a new owner"} {
		b := newBench(t, Config{})
		sub := func(app string, i int, path string) Subscription {
			s := Subscription{Actor: Actor{app, "A", fmt.Sprint(i)}, ID: "s", Path: path, Topic: "t", Group: "g", Next: 5}
			if i%3 == 0 {
				s.Group = ""
			}
			b.step(&Subscribe{Subscription: s})
			return s
		}
		var old []Subscription
		for i := range n {
			old = append(old, sub("dp", i, "/old"))
		}
		sub("eb", 0, "/stays")
		key := b.c.groupKey(&old[1])
		event := &DeliverEvents{Group: key, From: 5, Events: []Event{{Offset: 5, Body: []byte("1")}}, Waiter: "e"}
		b.step(&Mark{})
		cut, seq := len(b.log)-1, b.c.Seq()
		b.step(&Keep{Before: seq, Limit: 10}) // half of it is kept already
		b.step(&Purge{App: "dp", Waiter: "p"})
		if left := b.c.apps["dp"].members; left < n-sweepBatch {
			t.Fatalf("%d of %d members are left", left, n)
		}
		same := func(want ...Subscription) {
			t.Helper()
			var got []Subscription
			for _, s := range old {
				got = append(got, b.c.subscriptionsOf(s.Actor, "")...)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %d subscriptions are found: %v", how, len(got), got)
			}
		}
		same()
		for _, e := range b.step(event) {
			if e.Kind == Reply && (e.Err == nil || e.Err.Code != CodeNotFound) {
				t.Errorf("%s: an event is delivered to a purged group: %v", how, e)
			}
		}
		fresh := []Subscription{sub("dp", 0, "/new"), sub("dp", 1, "/new"), sub("dp", n-2, "/new")}
		same(fresh...)
		if gs := b.c.groupCursors("", 0); len(gs) != 3 {
			t.Errorf("%s: groups %v", how, gs)
		}
		if how == "a new owner" {
			b.restart()
			same(fresh...)
		}
		for steps := 0; b.c.Due(b.now) == 0 || b.c.OldestLive() < seq; steps++ {
			before := len(b.c.memberOf)
			if how == "keeps" {
				b.step(&Keep{Before: seq, Limit: 10})
			} else {
				b.step(&Tick{})
			}
			if got := before - len(b.c.memberOf); got > sweepBatch {
				t.Fatalf("%s: %d members are let go of in one step", how, got)
			}
			if b.c.OldestLive() >= seq && how == "keeps" {
				break
			}
			if steps > n {
				t.Fatalf("%s: it does not end", how)
			}
			if b.c.Due(b.now) > 0 {
				b.step(&Keep{Before: seq, Limit: 10})
			}
		}
		same(fresh...)
		b.log = b.log[cut:]
		b.restart()
		same(fresh...)
		for b.c.Due(b.now) == 0 {
			b.step(&Tick{})
		}
		if len(b.c.memberOf) != 4 || b.c.apps["dp"].members != 3 || b.c.subCount != 4 {
			t.Errorf("%s: %d members, %d of the app, %d subscriptions", how, len(b.c.memberOf), b.c.apps["dp"].members, b.c.subCount)
		}
		if bad := recounted(b.c); bad != nil {
			t.Errorf("%s: %v", how, bad)
		}
	}
}

// A purge has ended when each partition has confirmed it, not when one before it has.
func TestPurgeEndsWithItsOwnMessage(t *testing.T) {
	s := newSolo(t, Config{Partitions: 2})
	told := func(effects []Effect) (list []string) {
		for _, e := range effects {
			if e.Kind == Reply {
				list = append(list, fmt.Sprint(e.Waiter))
			}
		}
		return list
	}
	s.do(&Purge{App: "one", Waiter: "one"})
	s.do(&Purge{App: "two", Waiter: "two"})
	if got := told(s.do(&Acked{Partition: 1, N: 1})); !reflect.DeepEqual(got, []string{"one"}) {
		t.Errorf("after the first confirmation %v were told", got)
	}
	if got := told(s.do(&Acked{Partition: 1, N: 2})); !reflect.DeepEqual(got, []string{"two"}) {
		t.Errorf("after the second confirmation %v were told", got)
	}
}
