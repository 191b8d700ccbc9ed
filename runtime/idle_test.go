package runtime

import (
	"fmt"
	"testing"
	"time"
)

// Actors are let go as fast as others fall idle.
func TestIdleActorsAreLetGoAsTheyCome(t *testing.T) {
	b := newBench(t, Config{})
	info := HostInfo{Boot: "h1", App: "dp", Actors: []string{"A"}, Grace: 6000, Idle: 1000}
	b.step(&HostJoined{Info: info})
	n := 0
	for range 100 { // 20 s, 2,000 in each
		for range 400 {
			n++
			b.answer(b.submit(Request{Target: Target{App: "dp", Type: "A", ID: fmt.Sprint(n)}}), &Outcome{Status: 200})
		}
		for _, e := range b.pass(200 * time.Millisecond) {
			if m, ok := e.Msg.(*Deactivate); ok {
				b.step(&Deactivated{Boot: "h1", Actor: m.Actor})
			}
		}
	}
	if left := len(b.c.actors); left > 8000 {
		t.Errorf("%d of %d actors are active, 2,000 are younger than the idle interval", left, n)
	}
}
