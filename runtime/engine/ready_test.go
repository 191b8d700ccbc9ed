package engine_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// A gateway is ready when it has a way to each owner that lives. A take-over leaves
// all others ready, and one that has been cut off from all others is not.
func TestReadyNeedsAWayToOwners(t *testing.T) {
	r := newMeshRig(t, 16)
	ready := func(m *engine.Mesh) bool { return m.Healthy(within(t)) == nil }
	a, b := r.open("a"), r.open("b")
	spread(t, a, b)
	for _, m := range []*engine.Mesh{a, b} {
		eventually(t, "the first two are ready", func() bool { return ready(m) })
	}
	r.net.mu.Lock() // the address of the third leads to nobody
	for _, x := range []string{"a", "b"} {
		r.net.cut[x+" c"], r.net.cut["c "+x] = true, true
	}
	r.net.mu.Unlock()
	c := r.start("c")
	eventually(t, "all owners are known", func() bool { return owners(c)[""] == 0 })
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ready(c) {
			t.Fatal("a gateway that begins is ready without a stream to anybody")
		}
		if !ready(a) || !ready(b) {
			t.Fatal("it makes others unready")
		}
	}
	for _, x := range []string{"a", "b"} {
		r.net.sever(x, "c", false)
	}
	eventually(t, "it has a share", func() bool { return owners(c)["c"] > 0 })
	eventually(t, "it is ready", func() bool { return ready(c) })
	for _, x := range []string{"a", "b"} {
		r.net.sever(x, "c", true)
	}
	eventually(t, "it is not ready any more", func() bool { return !ready(c) })
	if !ready(a) || !ready(b) { // each knows one who is no better off
		t.Error("those that reach most are not ready")
	}
	for _, x := range []string{"a", "b"} {
		r.net.sever(x, "c", false)
	}
	eventually(t, "it is ready again", func() bool { return ready(c) })
	r.kill("c")
	for end := time.Now().Add(3 * time.Second); owners(a)["c"] > 0; time.Sleep(time.Millisecond) {
		if !ready(a) || !ready(b) {
			t.Fatal("a take-over makes others unready")
		}
		if time.Now().After(end) {
			t.Fatal("nobody takes over")
		}
	}
}

// While no log takes anything, every gateway has given up what it owned: none is ready or
// healthy, however well it can reach the others. One log that nobody writes makes none
// unready.
func TestNobodyIsReadyWhileNoLogIsWritten(t *testing.T) {
	for _, stuck := range []int{1, 16} {
		synctest.Test(t, func(t *testing.T) {
			r := newMeshRig(t, 16)
			nodes := []*engine.Mesh{r.open("a"), r.open("b"), r.open("c")}
			spread(t, nodes...)
			attach(t, nodes[0], actorHost("h"), echo)
			fault := func(f func(string, bool) error) {
				for _, l := range r.logs[:stuck] {
					l.mu.Lock()
					l.fault = f
					l.mu.Unlock()
				}
			}
			fault(func(_ string, first bool) error {
				if first {
					return noAnswer()
				}
				return nil
			})
			time.Sleep(20 * time.Second)
			for range 200 {
				for i, m := range nodes {
					want := runtime.CodeUnavailable
					if stuck == 1 {
						want = runtime.CodeNotOwner // which leaves it ready
					}
					if err := m.Healthy(within(t)); !is(err, want) {
						t.Fatalf("%d logs: the health of gateway %d is %v", stuck, i, err)
					}
				}
				time.Sleep(50 * time.Millisecond)
			}
			fault(nil)
			eventually(t, "all are ready and healthy again", func() bool {
				for _, m := range nodes {
					if m.Healthy(within(t)) != nil {
						return false
					}
				}
				return true
			})
		})
	}
}
