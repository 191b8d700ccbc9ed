package engine_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A handLink is a host of which the test says everything by hand.
type handLink struct {
	invokes chan *runtime.Invoke
	asks    chan *runtime.JoinAsk
}

func (l *handLink) Send(m runtime.HostMessage) {
	switch m := m.(type) {
	case *runtime.Invoke:
		l.invokes <- m
	case *runtime.JoinAsk:
		l.asks <- m
	}
}

// A host that was asked to join says what it has finished, then what it knows. The stream
// to the owner comes up before these, between them, or behind both: the owner never
// believes that what has completed has not arrived, and gets the answer when it asks again.
func TestStreamComesUpWithinAJoin(t *testing.T) {
	for when, name := range []string{"before", "between", "behind"} {
		t.Run(name, func(t *testing.T) {
			r := newMeshRig(t, 16)
			r.lease = 6 * time.Second
			a, b := r.open("a"), r.open("b")
			spread(t, a, b)
			p := uint16(0)
			for a.Owners()[p] != "b" {
				p++
			}
			h := &handLink{make(chan *runtime.Invoke, 10), make(chan *runtime.JoinAsk, 100)}
			if err := a.HostUp(actorHost("h"), runtime.JoinAnswer{}, h); err != nil {
				t.Fatal(err)
			}
			x := call("app", "A", r.actorIn(p), "m")
			x.Kind = runtime.Tell
			if _, err := a.Accept(within(t), x); err != nil {
				t.Fatal(err)
			}
			first := <-h.invokes
			// The streams break, and the owner has to begin anew.
			r.net.sever("a", "b", true)
			var failed atomic.Bool
			l := r.logs[p]
			l.mu.Lock()
			l.fault = func(node string, before bool) error {
				if node == "b" && before && failed.CompareAndSwap(false, true) {
					return runtime.Errorf(runtime.CodeDiskFull, "no space left")
				}
				return nil
			}
			l.mu.Unlock()
			asked := func() (e runtime.PartitionEpoch) {
				for end := within(t).Done(); ; {
					select {
					case ask := <-h.asks:
						for _, e := range ask.Epochs {
							if e.Partition == p && e.Epoch > first.Epoch {
								return e
							}
						}
					case <-end:
						t.Fatal("the host is not asked")
					}
				}
			}
			finished := func() { a.Answered("h", runtime.Answer{Attempt: first.Attempt, Outcome: ok(`{"value":1}`)}) }
			joined := func(e runtime.PartitionEpoch) {
				es := []runtime.PartitionEpoch{e}
				a.Joined("h", h, es, runtime.JoinAnswer{Epochs: es, Running: []runtime.Attempt{first.Attempt}})
			}
			e := asked()
			up := func() {
				r.net.sever("a", "b", false)
				asked() // again: the stream stands
			}
			steps := []func(){finished, func() { joined(e) }}
			for _, step := range slices.Insert(steps, when, up) {
				step()
			}
			select {
			case in := <-h.invokes:
				t.Fatalf("what has completed as attempt %d is begun again as attempt %d", first.Attempt.Number, in.Attempt.Number)
			case <-time.After(300 * time.Millisecond):
			}
			finished() // the answer to the second question
			joined(e)
			eventually(t, "it has ended", func() bool { return b.Stats().Pending == 0 })
			if len(h.invokes) > 0 {
				t.Error("it was begun again")
			}
		})
	}
}
