package runtime

import (
	"fmt"
	"testing"
	"time"
)

// A bench plays inputs to one core without a text.
type bench struct {
	t   testing.TB
	c   *Core
	now Now
	log [][]byte
	n   int
}

func newBench(t testing.TB, cfg Config) *bench {
	cfg.Partitions = max(cfg.Partitions, 1)
	cfg.Mesh, cfg.Node, cfg.Lease, cfg.IDWindow, cfg.ResultRetention = "m", "g1", 6000, 600_000, 86_400_000
	b := &bench{t: t, now: Now{1767225600000, 1_000_000}}
	b.own(cfg)
	return b
}

// own makes a new owner from the log.
func (b *bench) own(cfg Config) {
	b.c = New(cfg)
	for _, r := range b.log {
		if _, err := b.c.Fold(r); err != nil {
			b.t.Fatal(err)
		}
	}
	claim := b.c.Claim(b.now)
	b.log = append(b.log, claim)
	if _, err := b.c.Fold(claim); err != nil || !b.c.Own(b.now, 0) {
		b.t.Fatal("not owned", err)
	}
	b.take()
}

func (b *bench) restart() {
	cfg := b.c.cfg
	cfg.Node += "x"
	b.own(cfg)
}

func (b *bench) take() []Effect {
	records, effects := b.c.Take()
	b.c.TakeChanges()
	b.log = append(b.log, records...)
	return effects
}

func (b *bench) step(in Input) []Effect {
	b.c.Step(b.now, in)
	return b.take()
}

// pass lets time go by; hosts beat.
func (b *bench) pass(d time.Duration) []Effect {
	b.now.Wall += d.Milliseconds()
	b.now.Mono += d.Milliseconds()
	for _, boot := range sortedKeys(b.c.hosts) {
		if b.c.hosts[boot].linked {
			b.step(&HostsBeat{Boots: []string{boot}})
		}
	}
	return b.step(&Tick{})
}

func (b *bench) host(boot string) []Effect {
	return b.step(&HostJoined{Info: HostInfo{Boot: boot, App: "dp", Service: "s", Actors: []string{"A", "B"}, Grace: 6000}})
}

// submit fills in what a request needs and returns its entry, nil when it has ended.
func (b *bench) submit(r Request) *entry {
	b.n++
	random := [6]byte{byte(b.n >> 24), byte(b.n >> 16), byte(b.n >> 8), byte(b.n)}
	r.ID = NewID(b.now.Wall, 0, "dp", random)
	r.ID = NewID(b.now.Wall, PartitionOf(r.Target, "", r.ID, b.c.cfg.Partitions), "dp", random)
	r.Target.App, r.Method = "dp", "POST"
	b.step(&Submit{Request: r, Waiter: b.n})
	return b.c.entries[r.ID]
}

func (b *bench) answer(e *entry, o *Outcome) []Effect {
	return b.step(&Answered{Boot: e.host, Answer: Answer{Attempt: b.c.attemptOf(e), Outcome: o}})
}

// Callers that give up leave nothing behind in the mailbox of a busy actor.
func TestMailboxHoldsOnlyWhoWaits(t *testing.T) {
	b := newBench(t, Config{})
	b.host("h1")
	x := Target{App: "dp", Type: "A", ID: "x"}
	b.submit(Request{Target: x})
	for range 500 {
		b.submit(Request{Target: x, Busy: 200})
		b.pass(20 * time.Millisecond)
	}
	a := b.c.actors[x.Actor()]
	if open := len(b.c.entries) - 1; a.queue.len() != open || open > 20 || cap(a.queue.es) > 100 {
		t.Errorf("%d of 500 callers wait, the mailbox holds %d in room for %d", open, a.queue.len(), cap(a.queue.es))
	}
}

// growth is how many times as long as without a burden something may take that
// the burden is to cost nothing. What is looked for is larger.
const growth = 8

// quickest is the shortest of three times: what else the machine does only adds.
func quickest(f func() time.Duration) time.Duration { return min(f(), f(), f()) }

// Parallel calls of one flow to one actor re-enter it at a cost that does not
// grow with their number.
func TestManyCallsOfOneFlow(t *testing.T) {
	b := newBench(t, Config{})
	b.host("h1")
	root := b.submit(Request{Target: Target{App: "dp", Type: "A", ID: "root"}})
	session := b.c.sessionOf(root)
	call := func() *entry {
		return b.submit(Request{Target: Target{App: "dp", Type: "B", ID: "one"}, Session: session, Boot: "h1"})
	}
	calls := func(n int) time.Duration {
		begin := startWatch()
		for range n {
			if e := call(); e.phase != running {
				t.Fatalf("a call is %v", e.phase)
			}
		}
		return begin.spent()
	}
	some := func() time.Duration { return calls(300) }
	first := quickest(some)
	calls(18_200)
	if last := quickest(some); last > growth*first { // 40 times as long when each looks at all before it
		t.Errorf("the first 300 calls of a flow took %v, the last of 20,000 %v", first, last)
	}
	a := b.c.actors[Actor{"dp", "B", "one"}]
	if a.resting.len() != 0 || a.queue.len() != 0 || len(a.nested) != 0 {
		t.Error(fmt.Sprint("running calls are looked at again: ", a.resting.len(), a.queue.len(), len(a.nested)))
	}
}

// A host's account is even once its attempts have ended, whoever folds the log.
func TestHostIsChargedForWhatItRuns(t *testing.T) {
	b := newBench(t, Config{HostBytes: 100})
	b.host("h1")
	s := Target{App: "dp", Service: "s"}
	e := b.submit(Request{Target: s, Body: make([]byte, 500)})
	for range 3 {
		b.answer(e, nil)
	}
	b.step(&Mark{})
	b.step(&Keep{Before: b.c.Seq(), Limit: 100})
	b.restart()
	if h := b.c.hosts["h1"]; h == nil || h.bytes != 0 || len(h.running) != 0 {
		t.Fatalf("after a restart: %+v", h)
	}
	b.host("h1")
	b.pass(2 * time.Second)
	e = b.c.entries[e.req.ID]
	if e.phase != running || b.c.hosts["h1"].bytes != 500 {
		t.Errorf("%v, the host is charged %d", e.phase, b.c.hosts["h1"].bytes)
	}
	b.answer(e, &Outcome{Status: 200})
	if next := b.submit(Request{Target: s, Body: []byte("small")}); next.phase != running {
		t.Errorf("a small request is %v", next.phase)
	}
}

// A host that is full by bytes does not hide one that has room.
func TestFullHostHidesNoOther(t *testing.T) {
	b := newBench(t, Config{HostBytes: 1000})
	b.host("h1")
	b.host("h2")
	s := Target{App: "dp", Service: "s"}
	big := b.submit(Request{Target: s, Body: make([]byte, 2000)})
	for range 5 {
		if e := b.submit(Request{Target: s, Body: []byte("small")}); e.phase != running || e.host == big.host {
			t.Errorf("%v on %q, the big one is on %q", e.phase, e.host, big.host)
		}
	}
}

// A log whose appends take more than a second delays the loss of a silent host
// and does not prevent it; an owner that was away blames nobody.
func TestSlowTicksFindTheLostHost(t *testing.T) {
	for _, gap := range []time.Duration{200 * time.Millisecond, 1100 * time.Millisecond, 5 * time.Second} {
		b := newBench(t, Config{})
		b.host("h1")
		b.submit(Request{Target: Target{App: "dp", Service: "s"}})
		ticks := 0
		for ; b.c.hosts["h1"] != nil && ticks < 100; ticks++ {
			b.now.Wall, b.now.Mono = b.now.Wall+gap.Milliseconds(), b.now.Mono+gap.Milliseconds()
			b.step(&Tick{})
		}
		if want := map[bool]int{true: 36, false: 9}[gap < time.Second]; ticks != want {
			t.Errorf("ticks every %v: lost after %d, want %d", gap, ticks, want)
		}
	}
	b := newBench(t, Config{})
	b.host("h1")
	b.submit(Request{Target: Target{App: "dp", Service: "s"}})
	b.now.Wall, b.now.Mono = b.now.Wall+3_600_000, b.now.Mono+3_600_000
	b.step(&Tick{})
	if b.c.hosts["h1"] == nil {
		t.Error("an owner that was away for an hour counts a host as lost")
	}
	b.now.Wall, b.now.Mono = b.now.Wall+3_600_000, b.now.Mono+3_600_000
	b.step(&HostsBeat{Boots: []string{"h1"}}) // it had waited to be heard
	b.step(&Tick{})
	for range 36 {
		b.now.Wall, b.now.Mono = b.now.Wall+200, b.now.Mono+200
		b.step(&Tick{})
	}
	if b.c.hosts["h1"] != nil {
		t.Error("a sign of life after an hour counts for longer than others")
	}
}

// A refused activation leaves the place of an actor on which another call of
// the flow runs: that one may have activated it.
func TestRefusedActivationBesideRunningCalls(t *testing.T) {
	b := newBench(t, Config{})
	b.host("h1")
	b.host("h2")
	root := b.submit(Request{Target: Target{App: "dp", Type: "A", ID: "root"}})
	x := Target{App: "dp", Type: "B", ID: "b"}
	call := func() *entry {
		return b.submit(Request{Target: x, Session: b.c.sessionOf(root), Boot: root.host})
	}
	refuse := func(e *entry) {
		b.step(&Answered{Boot: e.host, Answer: Answer{Attempt: b.c.attemptOf(e), ActivationFailed: true, Outcome: &Outcome{Status: 404}}})
	}
	first, second := call(), call()
	refuse(first)
	info := HostInfo{Boot: second.host, App: "dp", Service: "s", Actors: []string{"A", "B"}, Grace: 6000, Draining: true}
	b.step(&HostChanged{Info: info})
	third := call()
	if third.host != second.host {
		t.Errorf("the actor runs on %s and on %s", second.host, third.host)
	}
	b.submit(Request{Target: Target{App: "dp", Type: "A", ID: "child"}, Session: b.c.sessionOf(second), Boot: second.host})
	b.answer(second, nil) // waits for what it has called, and may have left an instance
	if second.phase != stopped {
		t.Fatal("it does not wait")
	}
	refuse(third)
	if a := b.c.actors[Actor{"dp", "B", "b"}]; a.host == "" {
		t.Error("the place is forgotten although an attempt was there")
	}
}

// Many short turns of an actor leave no trace each in the list of idle actors.
func TestIdleListHoldsOnlyWhoIsIdle(t *testing.T) {
	b := newBench(t, Config{})
	b.step(&HostJoined{Info: HostInfo{Boot: "h1", App: "dp", Actors: []string{"A"}, Grace: 6000, Idle: 3_600_000}})
	for _, id := range []string{"quiet", "busy"} {
		for range map[string]int{"quiet": 1, "busy": 5000}[id] {
			b.answer(b.submit(Request{Target: Target{App: "dp", Type: "A", ID: id}}), &Outcome{Status: 200})
		}
	}
	if n := len(b.c.hosts["h1"].idle); n > 200 {
		t.Errorf("%d places for two idle actors", n)
	}
}

// Requests in back-off cost the others of their service nothing.
func TestManyInBackOff(t *testing.T) {
	b := newBench(t, Config{})
	b.host("h1")
	s := Target{App: "dp", Service: "s"}
	calls := func() time.Duration {
		begin := startWatch()
		for range 500 {
			b.answer(b.submit(Request{Target: s}), &Outcome{Status: 200})
		}
		return begin.spent()
	}
	alone := quickest(calls)
	for range 10_000 {
		e := b.submit(Request{Target: s})
		for range 3 {
			b.answer(e, nil)
		}
	}
	if beside := quickest(calls); beside > growth*alone { // 20 times as long when they are looked at
		t.Errorf("500 calls took %v alone, and %v beside 10,000 in back-off", alone, beside)
	}
	for id := range b.c.entries {
		b.step(&Cancel{App: "dp", ID: id})
		break
	}
	if p := b.c.parked[component{"dp", "s", false}]; p.resting != 9999 {
		t.Errorf("%d are not due", p.resting)
	}
}

// Calls of a flow that rest on an actor cost those that come and go nothing, and each
// is looked at when something has changed for it.
func TestManyRestOnOneActor(t *testing.T) {
	const n = 5000
	b := newBench(t, Config{})
	b.host("h1")
	root := b.submit(Request{Target: Target{App: "dp", Type: "A", ID: "root"}})
	session := b.c.sessionOf(root)
	call := func() *entry {
		return b.submit(Request{Target: Target{App: "dp", Type: "B", ID: "one"}, Session: session, Boot: "h1"})
	}
	calls := func() time.Duration {
		begin := time.Now()
		for range 300 {
			b.answer(call(), &Outcome{Status: 200})
		}
		return time.Since(begin)
	}
	alone := quickest(calls)
	var resting []*entry
	for range n {
		e := call()
		for range 3 {
			b.answer(e, nil)
		}
		resting = append(resting, e)
	}
	if a := b.c.actors[Actor{"dp", "B", "one"}]; a.resting.len() != n || a.ready.len() > suspectMisses {
		t.Fatalf("%d rest, %d of them are looked at", a.resting.len(), a.ready.len())
	}
	if beside := quickest(calls); beside > growth*alone { // 30 times as long when all are looked at
		t.Errorf("300 calls took %v alone, and %v beside %d that rest", alone, beside, n)
	}
	for ended := 0; ended < n; {
		if b.pass(200 * time.Millisecond); b.now.Mono > 10_000_000 {
			t.Fatalf("%d of %d have ended", ended, n)
		}
		for _, e := range resting {
			if e.phase == running {
				b.answer(e, &Outcome{Status: 200})
				ended++
			}
		}
	}
}

// What hosts run that a purge has ended costs the joins and losses of others nothing.
func TestManyHaunted(t *testing.T) {
	const n = 20_000
	b := newBench(t, Config{})
	some := func() time.Duration {
		begin := time.Now()
		for i := range 100 {
			boot := fmt.Sprint("other", b.n, i)
			b.n++
			b.host(boot)
			b.step(&HostUnlinked{Boot: boot})
			b.host(boot)
			b.step(&HostDown{Boot: boot})
		}
		return time.Since(begin)
	}
	alone := quickest(some)
	b.host("h1")
	for i := range n {
		b.submit(Request{Target: Target{App: "dp", Type: "A", ID: fmt.Sprint(i)}})
	}
	b.step(&Purge{App: "dp", Waiter: "p"})
	for b.c.Due(b.now) == 0 {
		b.step(&Tick{})
	}
	if beside := quickest(some); beside > growth*alone { // hundreds of times as long when all are sorted
		t.Errorf("100 joins and losses took %v alone, and %v beside %d haunted actors", alone, beside, n)
	}
	if len(b.c.haunted) != n || len(b.c.hauntedOn["h1"]) != n {
		t.Errorf("%d actors are haunted, %d on h1", len(b.c.haunted), len(b.c.hauntedOn["h1"]))
	}
	b.step(&HostDown{Boot: "h1"})
	for b.c.Due(b.now) == 0 {
		b.step(&Tick{})
	}
	if len(b.c.haunted)+len(b.c.hauntedOn)+len(b.c.ghosts) != 0 {
		t.Error("the lost host haunts")
	}
}
