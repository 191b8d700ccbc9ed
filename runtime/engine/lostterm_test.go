package engine_test

import (
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A laterHost has heard of a later term than its gateway.
type laterHost struct {
	fakeHost
	lost chan *runtime.TermLost
}

func (h *laterHost) Send(m runtime.HostMessage) {
	if l, ok := m.(*runtime.TermLost); ok {
		h.lost <- l
	}
}

func meetsLater(t *testing.T, r *meshRig, seen runtime.TermSeen) (*laterHost, func() uint64) {
	a := r.open("a")
	h := &laterHost{fakeHost{owners: a, info: actorHost("h"), serve: echo}, make(chan *runtime.TermLost, 10)}
	if err := a.HostUp(h.info, runtime.JoinAnswer{Epochs: []runtime.PartitionEpoch{}, Later: []runtime.TermSeen{seen}}, h); err != nil {
		t.Fatal(err)
	}
	return h, func() uint64 { return a.Stats().TermsLost }
}

// TestLaterTermThatIsLost: the owner has never heard of the term that a host knows,
// and neither has its log.
func TestLaterTermThatIsLost(t *testing.T) {
	r := newMeshRig(t, 1)
	seen := runtime.TermSeen{Partition: 0, Epoch: 40, Mark: 3}
	h, count := meetsLater(t, r, seen)
	select {
	case l := <-h.lost:
		if l.Seen != seen || l.Epoch != 1 || !l.Obeyed(seen) || l.Obeyed(runtime.TermSeen{Epoch: 40, Mark: 4}) {
			t.Errorf("got %+v", l)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing is said")
	}
	if count() != 1 {
		t.Error("it is not counted")
	}
}

// TestLaterTermOfAnotherOwner: the owner was deposed and has not noticed. It must
// not have the host believe that the later term is gone.
func TestLaterTermOfAnotherOwner(t *testing.T) {
	r := newMeshRig(t, 1)
	a := r.open("a")
	h := &laterHost{fakeHost{owners: a, info: actorHost("h"), serve: echo}, make(chan *runtime.TermLost, 10)}
	l := r.logs[0]
	l.put(l.fold(t, "z").Claim(runtime.Now{Wall: time.Now().UnixMilli(), Mono: 1}))
	seen := runtime.TermSeen{Partition: 0, Epoch: l.fold(t, "y").Epoch(), Mark: 3}
	if err := a.HostUp(h.info, runtime.JoinAnswer{Epochs: []runtime.PartitionEpoch{}, Later: []runtime.TermSeen{seen}}, h); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a later term", func() bool { return l.fold(t, "y").Epoch() > seen.Epoch })
	if n := len(h.lost); n != 0 || a.Stats().TermsLost != 0 {
		t.Errorf("a deposed owner was believed: %+v", <-h.lost)
	}
}
