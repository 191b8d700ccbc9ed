package runtime

import "testing"

// The purge of one app, however large, does not hold up what waits on a host of
// another app that is lost meanwhile; nor does a cancel of all.
func TestPurgeHoldsUpNoNeighbour(t *testing.T) {
	for _, begin := range []Input{&Purge{App: "big", Waiter: "purge"}, &CancelAll{App: "big", Waiter: "cancel"}} {
		b := newBench(t, Config{HostLimit: 1})
		for i := range 20_000 {
			id := NewID(b.now.Wall, 0, "big", [6]byte{1, byte(i >> 16), byte(i >> 8), byte(i)})
			b.step(&Submit{Request: Request{ID: id, Kind: Tell, Target: Target{App: "big", Service: "s"}, Method: "POST"}})
		}
		b.host("h1")
		two := Target{App: "dp", Type: "A", ID: "2"}
		b.answer(b.submit(Request{Target: two}), &Outcome{Status: 200})
		b.submit(Request{Target: Target{App: "dp", Type: "A", ID: "1"}})
		e := b.submit(Request{Target: two}) // waits: its host is full
		b.host("h2")
		b.host("h3")
		b.step(begin)
		b.step(&HostDown{Boot: "h1", Reason: "exit"})
		n := 0
		for ; e.phase != running || e.host == "h1"; n++ {
			if n > 3 {
				t.Fatalf("%T: what waited on the lost host still waits", begin)
			}
			b.step(&Tick{})
		}
	}
}
