package engine_test

import (
	"testing"

	"github.com/karmesh/kar/runtime"
)

// A host that was asked to join attaches when a partition has gone to an owner of a later
// term: that one asks for itself, unless the host says that it has answered it since.
func TestOwnerOfALaterTermAsks(t *testing.T) {
	rig := newMeshRig(t, 2)
	a := rig.open("a")
	for _, since := range []bool{false, true} {
		join := runtime.JoinAnswer{Epochs: a.Epochs()}
		join.Epochs[1].Epoch-- // whom the host was asked for
		if since {
			join.Later = []runtime.TermSeen{{Partition: 1, Epoch: a.Epochs()[1].Epoch}}
		}
		h := &handLink{make(chan *runtime.Invoke, 1), make(chan *runtime.JoinAsk, 10)}
		if err := a.HostUp(actorHost("h"), join, h); err != nil {
			t.Fatal(err)
		}
		a.HostDown("h", "exited")
		asked := 0
		for len(h.asks) > 0 {
			for _, e := range (<-h.asks).Epochs {
				if e != a.Epochs()[1] {
					t.Errorf("the host is asked again for %v", e)
				}
				asked++
			}
		}
		if want := map[bool]int{false: 1}[since]; asked != want {
			t.Errorf("it has answered since: %v; it was asked %d times", since, asked)
		}
	}
}
