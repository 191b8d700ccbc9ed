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
func (b *bench) pass(d time.Duration) {
	b.now.Wall += d.Milliseconds()
	b.now.Mono += d.Milliseconds()
	for _, boot := range sortedKeys(b.c.hosts) {
		if b.c.hosts[boot].linked {
			b.step(&HostsBeat{Boots: []string{boot}})
		}
	}
	b.step(&Tick{})
}

func (b *bench) host(boot string) {
	b.step(&HostJoined{Info: HostInfo{Boot: boot, App: "dp", Service: "s", Actors: []string{"A", "B"}, Grace: 6000}})
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
	begin := time.Now()
	for i := range 20_000 {
		if e := call(); e.phase != running {
			t.Fatalf("call %d is %v", i, e.phase)
		}
	}
	if took := time.Since(begin); took > 10*time.Second { // 0.2 s when each is looked at once, 40 s when all are
		t.Errorf("20,000 calls of a flow took %v", took)
	}
	a := b.c.actors[Actor{"dp", "B", "one"}]
	if a.resting.len() != 0 || a.queue.len() != 0 || len(a.nested) != 0 {
		t.Error(fmt.Sprint("running calls are looked at again: ", a.resting.len(), a.queue.len(), len(a.nested)))
	}
}
