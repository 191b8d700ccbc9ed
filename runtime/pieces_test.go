package runtime

import (
	"fmt"
	"maps"
	"testing"
)

// While the actors of a lost host are gone through in pieces, each is active at
// one place at most, whoever asks for it first; the log tells the same at once.
func TestLossInPieces(t *testing.T) {
	const actors = 5 * pieceSize
	b := newBench(t, Config{})
	b.host("h1")
	target := func(i int) Target { return Target{App: "dp", Type: "A", ID: fmt.Sprint(i)} }
	for i := range actors {
		b.answer(b.submit(Request{Target: target(i)}), &Outcome{Status: 200})
	}
	open := b.submit(Request{Target: target(3)})
	b.host("h2")
	b.step(&HostDown{Boot: "h1"})
	if len(b.c.losing) == 0 || b.c.Due(b.now) != 0 {
		t.Fatal("all was done in one step, or the rest is forgotten")
	}
	if open.phase != running || open.host != "h2" {
		t.Errorf("what ran there is %v on %s", open.phase, open.host)
	}
	for _, i := range []int{0, 1, actors / 2, actors - 1} {
		e := b.submit(Request{Target: target(i)})
		if e.host != "h2" || b.c.actors[e.req.Target.Actor()].host != "h2" {
			t.Errorf("actor %d runs on %q", i, e.host)
		}
	}
	b.step(&Deactivated{Boot: "h1", Actor: target(7).Actor()})
	b.step(&Mark{})
	mark := len(b.log) - 1
	b.step(&Keep{Before: b.c.Seq(), Limit: 10 * actors})
	if live := b.c.OldestLive(); live <= uint64(mark) {
		t.Errorf("record %d is still needed", live)
	}
	active := func() []Actor {
		as, _ := b.c.query(&Query{Kind: QueryActive, App: "dp"}).([]Actor)
		return as
	}
	if as := active(); len(as) != 5 {
		t.Errorf("%d actors are active halfway", len(as))
	}
	for range 20 {
		b.step(&Tick{})
	}
	if len(b.c.losing) > 0 || len(b.c.actors) != 5 || b.c.Counts.ActiveActors != 5 {
		t.Errorf("%d hosts are left, %d actors, %d active", len(b.c.losing), len(b.c.actors), b.c.Counts.ActiveActors)
	}
	fold := func(log [][]byte) map[string]string {
		c := New(b.c.cfg)
		for _, r := range log {
			if _, err := c.Fold(r); err != nil {
				t.Fatal(err)
			}
		}
		if c.hosts["h1"] != nil {
			t.Error("what was kept brings a lost host back")
		}
		return durable(c)
	}
	if d := differences(fold(b.log), fold(b.log[mark:]), isForgettable); d != "" {
		t.Error(d)
	}
}

// What a host says it holds, and what it is known to hold, is gone through in
// pieces as well; another join begins anew.
func TestJoinInPieces(t *testing.T) {
	const actors = 3*pieceSize + 1
	b := newBench(t, Config{})
	b.host("h1")
	var instances []Actor
	for i := range actors {
		target := Target{App: "dp", Type: "A", ID: fmt.Sprint(i)}
		b.answer(b.submit(Request{Target: target}), &Outcome{Status: 200})
		instances = append(instances, target.Actor(), Actor{"dp", "A", fmt.Sprint("stray", i)})
	}
	b.restart()
	info := HostInfo{Boot: "h1", App: "dp", Actors: []string{"A"}, Grace: 6000, Idle: 1000}
	strays, idle := map[Actor]int{}, map[Actor]bool{}
	note := func(effects []Effect) {
		for _, e := range effects {
			if d, ok := e.Msg.(*Deactivate); ok && b.c.actors[d.Actor] == nil {
				strays[d.Actor]++
			}
		}
		for _, i := range b.c.hosts["h1"].idle {
			idle[i.a.actor] = true
		}
	}
	all := func() {
		for n := 0; b.c.Due(b.now) == 0; n++ {
			note(b.step(&Tick{}))
		}
	}
	note(b.step(&HostJoined{Info: info, Join: JoinAnswer{Instances: instances}}))
	note(b.step(&Tick{}))
	if len(b.c.reviews) == 0 {
		t.Fatal("all was done in two steps")
	}
	maps.DeleteFunc(strays, func(Actor, int) bool { return true })
	note(b.step(&HostJoined{Info: info, Join: JoinAnswer{Instances: instances}}))
	all()
	if len(strays) != actors || len(idle) != actors {
		t.Errorf("%d strays were deactivated, %d actors may fall idle, of %d", len(strays), len(idle), actors)
	}
	note(b.step(&HostJoined{Info: info, Join: JoinAnswer{}}))
	for i := range 2 * pieceSize { // they are let go for other reasons meanwhile
		a := b.c.actors[instances[2*i]]
		b.c.unplace(a)
		b.c.dropActor(a)
	}
	all()
	info.Draining = true
	deactivated := 0
	count := func(effects []Effect) {
		for _, e := range effects {
			if d, ok := e.Msg.(*Deactivate); ok && b.c.actors[d.Actor] != nil {
				deactivated++
			}
		}
	}
	count(b.step(&HostChanged{Info: info}))
	for b.c.Due(b.now) == 0 {
		count(b.step(&Tick{}))
	}
	if deactivated != actors-2*pieceSize {
		t.Errorf("a host that is to be emptied lets go of %d actors", deactivated)
	}
}

// A host that is to be emptied while its join is gone through is asked again for
// what it was asked before, and for what it holds without anybody's knowledge.
func TestEmptiedWhileItJoins(t *testing.T) {
	const actors = 3 * pieceSize
	b := newBench(t, Config{})
	info := HostInfo{Boot: "h1", App: "dp", Actors: []string{"A"}, Grace: 6000, Idle: 600_000}
	b.step(&HostJoined{Info: info})
	target := func(i int) Target { return Target{App: "dp", Type: "A", ID: fmt.Sprint(i)} }
	asked := map[Actor]int{}
	note := func(effects []Effect) {
		for _, e := range effects {
			if d, ok := e.Msg.(*Deactivate); ok {
				asked[d.Actor]++
			}
		}
	}
	instances := []Actor{}
	for i := range actors {
		b.answer(b.submit(Request{Target: target(i)}), &Outcome{Status: 200})
		instances = append(instances, target(i).Actor())
	}
	for _, i := range []int{0, actors - 1} { // what asks for it is lost with the link
		b.submit(Request{Kind: Remove, Target: target(i)})
	}
	stray := target(actors).Actor()
	b.step(&HostUnlinked{Boot: "h1"})
	note(b.step(&HostJoined{Info: info, Join: JoinAnswer{Instances: append(instances, stray)}}))
	info.Draining = true
	note(b.step(&HostChanged{Info: info}))
	for b.c.Due(b.now) == 0 {
		note(b.step(&Tick{}))
	}
	for i := range actors + 1 {
		if n := asked[target(i).Actor()]; n != 1 {
			t.Errorf("actor %d was deactivated %d times", i, n)
		}
	}
}

// What a host that has joined over a new stream has not said to run is compared also when
// it is to be emptied, or goes on, before all has been: what a purge has ended there has
// stopped.
func TestHauntedWhileItJoins(t *testing.T) {
	const actors = 3 * pieceSize
	for _, frozen := range []bool{false, true} {
		b := newBench(t, Config{})
		b.host("h1")
		for i := range actors {
			b.submit(Request{Target: Target{App: "dp", Type: "A", ID: fmt.Sprint(i)}})
		}
		rest := func() {
			for b.c.Due(b.now) == 0 {
				b.step(&Tick{})
			}
		}
		b.step(&Purge{App: "dp", Waiter: "purge"})
		rest()
		if len(b.c.haunted) != actors {
			t.Fatalf("%d actors are waited for", len(b.c.haunted))
		}
		info := b.c.hosts["h1"].info
		b.step(&HostUnlinked{Boot: "h1"})
		info.Frozen = frozen
		b.step(&HostJoined{Info: info})
		if n := len(b.c.haunted); n == 0 {
			t.Fatal("all was done in one step")
		}
		info.Frozen, info.Draining = false, !frozen
		b.step(&HostChanged{Info: info})
		rest()
		if n := len(b.c.haunted); n > 0 {
			t.Errorf("frozen %v: %d actors wait for the end of what has ended", frozen, n)
		}
	}
}

// A host whose stream is gone offers nothing, whatever is heard about it.
func TestUnlinkedHostOffersNothing(t *testing.T) {
	b := newBench(t, Config{})
	b.host("h1")
	b.step(&HostUnlinked{Boot: "h1"})
	info := b.c.hosts["h1"].info
	info.Actors = append(info.Actors, "C")
	b.step(&HostChanged{Info: info})
	target := Target{App: "dp", Type: "C", ID: "1"}
	e := b.submit(Request{Target: target})
	if e.phase != queued {
		t.Errorf("the request is %v on %q", e.phase, e.host)
	}
	b.step(&HostJoined{Info: info})
	if e.phase != running {
		t.Errorf("the request is %v when the host is back", e.phase)
	}
}
