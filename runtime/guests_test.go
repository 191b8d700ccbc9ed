package runtime

import (
	"fmt"
	"testing"
)

// Who waits for a request of another id than its own leaves it all the same.
func TestGuestsLeave(t *testing.T) {
	s := newSolo(t, Config{})
	to := Target{App: "dp", Type: "A", ID: "1"}
	ask := func(w any) ID {
		id := s.id(to)
		s.do(&Submit{Request: Request{ID: id, Kind: Call, Target: to, Method: "POST", Path: "/m", Key: "k"}, View: &View{}, Waiter: w})
		return id
	}
	first := ask("first")
	for i := range 100 {
		w := fmt.Sprint("again", i)
		s.do(&Leave{ID: ask(w), Waiter: w})
	}
	ask("stays")
	if ws := s.c.entries[first].waiters; len(ws) != 2 || len(s.c.guests) != 1 {
		t.Errorf("%d wait, %d of them under another id", len(ws), len(s.c.guests))
	}
	s.host("h1")
	effects, _ := s.end(Outcome{Status: 200, Body: []byte("x")})
	replies := 0
	for _, e := range effects {
		if e.Kind == Reply {
			replies++
		}
	}
	if replies != 2 || len(s.c.guests) != 0 {
		t.Errorf("%d were answered, %d are remembered", replies, len(s.c.guests))
	}
}
