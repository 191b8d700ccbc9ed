package runtime

import "testing"

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
