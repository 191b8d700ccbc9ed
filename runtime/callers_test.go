package runtime

import (
	"testing"
)

// A call with the session of a request that has ended counts for all requests of
// its flow that run on the host. How many such calls count for how many is
// bounded, is charged to the app, and nothing else is refused for it.
func TestCallsWithManyCallers(t *testing.T) {
	const n = 900
	b := newBench(t, Config{})
	b.host("h1")
	target := Target{App: "dp", Type: "A", ID: "root"}
	root := b.submit(Request{Target: target})
	first := b.submit(Request{Target: target, Session: b.c.sessionOf(root), Boot: "h1"})
	ended := b.c.sessionOf(first)
	b.answer(first, &Outcome{Status: 200})
	app := b.c.apps["dp"]
	held := b.c.Held()
	var open []*entry
	for range n {
		if e := b.submit(Request{Target: target, Session: ended, Boot: "h1"}); e != nil {
			open = append(open, e)
		}
	}
	links := 0
	for _, e := range b.c.entries {
		links += len(e.children)
	}
	if len(open) < 500 || len(open) == n || links > maxLinks || links != app.links {
		t.Errorf("%d of %d calls were accepted, with %d links, %d counted", len(open), n, links, app.links)
	}
	if more := b.c.Held() - held; more < 32*int64(links) {
		t.Errorf("they are charged with %d bytes", more)
	}
	if b.submit(Request{Target: target, Session: b.c.sessionOf(root), Boot: "h1"}) == nil {
		t.Error("a call of one caller is refused")
	}
	if b.submit(Request{Kind: Tell, Target: target, Session: ended, Boot: "h1"}) == nil {
		t.Error("a tell, which nobody waits for, is refused")
	}
	vouch := Vouch{Request: Request{ID: NewID(b.now.Wall, 0, "dp", [6]byte{9}), Target: target, Session: ended, Boot: "h1"}, Waiter: "v"}
	refused := func() bool {
		for _, e := range b.step(&vouch) {
			if e.Kind == Reply && e.Err != nil && e.Err.Code == CodeMailboxFull {
				return true
			}
		}
		return false
	}
	if !refused() {
		t.Error("one for another partition is not refused")
	}
	for _, e := range open[len(open)/2:] {
		b.answer(e, &Outcome{Status: 200})
	}
	if refused() || b.submit(Request{Target: target, Session: ended, Boot: "h1"}) == nil {
		t.Error("calls are refused although others have ended")
	}
	b.restart()
	links = 0
	for _, e := range b.c.entries {
		links += len(e.children)
	}
	if app = b.c.apps["dp"]; links == 0 || links != app.links {
		t.Errorf("a new owner counts %d links of %d", app.links, links)
	}
	for _, e := range b.c.openEntries() {
		b.c.end(e, &Outcome{Status: 200})
	}
	if app.links != 0 {
		t.Errorf("%d links are left", app.links)
	}
}
