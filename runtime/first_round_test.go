package runtime

import "testing"

// TestPurgeInFirstRound: what an earlier term has sent to a host may run there,
// also when the first thing that a new owner hears of is a purge.
func TestPurgeInFirstRound(t *testing.T) {
	s := newSolo(t, Config{})
	s.host("h1")
	to := Target{App: "dp", Type: "A", ID: "1"}
	r := Request{ID: s.id(to), Target: to, Method: "POST", Path: "/m"}
	s.do(&Submit{Request: r, Waiter: "r"})
	cfg := s.c.cfg
	cfg.Node = "g2"
	next := New(cfg)
	for _, b := range s.log {
		if _, err := next.Fold(b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := next.Fold(next.Claim(s.now)); err != nil || !next.Own(s.now, 0) {
		t.Fatal("the claim does not count", err)
	}
	next.Step(s.now, &Purge{App: "dp", Waiter: "p"})
	if !next.isZombie(r.ID, 1) {
		t.Errorf("the attempt that h1 runs is forgotten:\n%s", next.Describe())
	}
}
