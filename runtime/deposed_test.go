package runtime

import "testing"

// A log may be cut in front of what a deposed owner has written behind the claim of his
// successor. Its numbers go on from where his term ended, so they are behind those of
// the new terms, meet them or are ahead; whichever it is, a reader that begins there
// knows by the first header that counts whether it has read the same terms.
func TestLogThatBeginsInADeposedTerm(t *testing.T) {
	cfg := Config{Partitions: 2}
	tell := func(s *solo) Input {
		to := actorIn(0, 2, "A").target()
		return &Submit{Request: Request{ID: s.id(to), Kind: Tell, Target: to, Method: "POST", Path: "/m"}, Waiter: s.ids}
	}
	for late := range 8 { // records that the deposed owner writes
		for between := range 8 { // records of the term behind his
			for first := range 3 { // records of the last term in front of its header
				s := newSolo(t, cfg)
				s.do(tell(s))
				deposed := s.c
				s.reown()
				for range between {
					s.do(&Prove{})
				}
				from := len(s.log)
				deposed.Step(s.now, &FenceAsk{From: 1, Epoch: 9, Part: 1})
				for range late + 1 {
					deposed.Step(s.now, &Mark{})
				}
				void, _ := deposed.Take()
				s.log = append(s.log, void...)
				to := len(s.log)
				s.reown()
				for i := range first {
					s.do(&FenceAsk{From: 1, Epoch: uint64(3 + i), Part: 1})
				}
				s.do(tell(s))
				s.do(&Mark{})
				mark := s.c.Seq()
				s.do(tell(s))
				for s.c.OldestLive() < mark {
					s.do(&Keep{Before: mark, Limit: 5})
				}
				want := foldFrom(t, s, 0)
				for at := from; at < to; at++ {
					if got := foldFrom(t, s, at); got != want {
						t.Fatalf("%d late records, %d between, %d in front, cut at %d of %d: the trimmed log tells\n%s\nthe full one\n%s", late, between, first, at, to, got, want)
					}
				}
			}
		}
	}
}

func foldFrom(t *testing.T, s *solo, at int) string {
	c := New(s.c.cfg)
	for _, b := range s.log[at:] {
		if _, err := c.Fold(b); err != nil {
			t.Fatal(err)
		}
	}
	return c.Describe()
}
