package runtime

import (
	"fmt"
	"testing"
	"time"
)

// A host that comes takes parked requests from the front one after the other;
// with 100,000 of them each must not move all the others.
func TestParkedRequestsDoNotMove(t *testing.T) {
	c := New(Config{Partitions: 1})
	comp := component{"app", "s", false}
	var es []*entry
	for i := range 4 {
		e := &entry{req: Request{ID: ID{byte(i)}, Target: Target{App: "app", Service: "s"}}, order: uint64(i)}
		c.park(e)
		es = append(es, e)
	}
	p := c.parked[comp]
	second := &p.requests.es[1]
	c.unpark(es[0])
	if &p.requests.es[0] != second || *second != es[1] {
		t.Error("taking the first moved the others")
	}
	c.unpark(es[2])
	if p.requests.len() != 2 || p.requests.es[0] != es[1] || p.requests.es[1] != es[3] {
		t.Errorf("%v is left", p.requests.es)
	}
	c.unpark(es[1])
	c.unpark(es[3])
	if len(c.parked) != 0 {
		t.Error("the empty parking is kept")
	}
}

// However many actors wait for one host that is full, those of another start as soon
// as that has room.
func TestRoomBehindManyOfAFullHost(t *testing.T) {
	b := newBench(t, Config{HostLimit: 1})
	b.host("h1")
	at := func(id string) *entry {
		return b.submit(Request{Target: Target{App: "dp", Type: "A", ID: id}})
	}
	const n = 200
	for i := range n { // each has its place there
		b.answer(at(fmt.Sprint(i)), &Outcome{Status: 200})
	}
	for i := range n { // the first runs for long
		at(fmt.Sprint(i))
	}
	b.host("h2")
	x, y := at("x"), at("y")
	if x.host != "h2" || y.phase != queued {
		t.Fatal("there is room")
	}
	b.answer(x, &Outcome{Status: 200})
	if y.host != "h2" || y.phase != running {
		t.Errorf("who came last is %v, and %d run on the host", y.phase, len(b.c.hosts["h2"].running))
	}
}

// Lines of hosts that have gone are not kept while others wait.
func TestLinesOfHostsThatHaveGone(t *testing.T) {
	b := newBench(t, Config{HostLimit: 1})
	at := func(id string) *entry {
		return b.submit(Request{Target: Target{App: "dp", Type: "A", ID: id}})
	}
	b.host("h")
	b.answer(at("waits"), &Outcome{Status: 200})
	at("long")
	at("waits") // for room on its host, all the time
	for i := range 20 {
		boot := fmt.Sprint("h", i)
		b.host(boot)
		b.answer(at(boot+" waits"), &Outcome{Status: 200})
		at(boot + " long")
		e := at(boot + " waits")
		if e.phase != queued || len(b.c.hosts[boot].lines) != 1 {
			t.Fatal("nobody waits for room on the host")
		}
		b.step(&HostDown{Boot: boot, Reason: "exit"})
		b.pass(time.Second)
		b.step(&Cancel{App: "dp", ID: e.req.ID})
	}
	lines := 0
	for _, h := range b.c.hosts {
		lines += len(h.lines)
	}
	if p := b.c.parked[component{"dp", "A", true}]; len(p.actors) != 1 || lines != 1 {
		t.Errorf("%d actors wait, and there are %d lines", len(p.actors), lines)
	}
}
