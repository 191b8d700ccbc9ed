package runtime

import (
	"fmt"
	"testing"
)

// All requests of an app are withdrawn in pieces, whoever asks; the answer comes with
// the last one and counts them all. What comes meanwhile is not withdrawn.
func TestWithdrawInPieces(t *testing.T) {
	const n = 3*pieceSize + 1
	for name, in := range map[string]Input{"cancel": &CancelAll{App: "dp", Waiter: "w"}, "drain": &Drain{App: "dp", Waiter: "w"}} {
		b := newBench(t, Config{})
		submit := func(i int) *entry {
			return b.submit(Request{Kind: Tell, Target: Target{App: "dp", Type: "A", ID: fmt.Sprint(i)}})
		}
		for i := range n {
			submit(i)
		}
		var late *entry
		for answered := false; !answered; {
			before := len(b.c.entries)
			effects := b.step(in)
			in = &Tick{}
			if ended := before - len(b.c.entries); ended > pieceSize || ended == 0 {
				t.Fatalf("%s: %d requests ended in one step", name, ended)
			}
			for _, e := range effects {
				if e.Kind == Reply && e.Waiter == "w" {
					answered = true
					if e.Value != n || len(b.c.entries) != 1 {
						t.Errorf("%s: the answer is %v, %d requests are left", name, e.Value, len(b.c.entries))
					}
				}
			}
			if late == nil {
				late = submit(n)
			}
		}
		if b.c.entries[late.req.ID] != late {
			t.Errorf("%s: a request that came later was withdrawn", name)
		}
		// An owner that steps down in the middle answers.
		for i := range n {
			submit(i)
		}
		b.step(&CancelAll{App: "dp", Waiter: "again"})
		b.c.StepDown()
		told := false
		for _, e := range b.take() {
			told = told || e.Waiter == "again" && e.Err != nil && e.Err.Code == CodeAskAgain
		}
		if !told {
			t.Errorf("%s: nobody was told that the owner stepped down", name)
		}
	}
}
