package engine_test

import (
	"sync"
	"testing"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// A host that comes back with more finished answers than one frame between gateways
// holds joins all the same, and each answer reaches its owner once.
func TestLargeJoinsGoInPieces(t *testing.T) {
	const frame, each, many = 16 << 20, 3 << 20, 24 // 72 MiB
	r := newMeshRig(t, 4)
	a := r.open("a")
	r.open("b")
	eventually(t, "both own partitions", func() bool { return owns(a, "a")*owns(a, "b") > 0 && owns(a, "a")+owns(a, "b") == 4 })
	var mu sync.Mutex
	answers := map[runtime.Attempt]int{}
	notes := 0
	told := func(n *engine.Note) {
		h := n.Host
		if h == nil || h.Boot != "large" {
			return
		}
		size := 0
		mu.Lock()
		defer mu.Unlock()
		if h.Answered != nil {
			answers[h.Answered.Attempt]++
		}
		if h.Up != nil {
			notes++
			running := map[runtime.Attempt]bool{}
			for _, x := range h.Up.Join.Running {
				running[x] = true
			}
			for _, x := range h.Up.Join.Finished {
				size += len(x.Outcome.Body)
				answers[x.Attempt]++
				if running[x.Attempt] {
					t.Errorf("%v has finished and runs", x.Attempt)
				}
			}
		}
		if size > frame {
			t.Errorf("a note with %d MiB", size>>20)
		}
	}
	r.net.told.Store(&told)
	join := runtime.JoinAnswer{Epochs: a.Epochs()}
	remote := 0
	for _, e := range join.Epochs {
		if a.Owners()[e.Partition] == "b" {
			remote++
			for i := range many {
				at := runtime.Attempt{ID: runtime.ID{byte(e.Partition), byte(i)}, Number: 1, Partition: e.Partition}
				join.Finished = append(join.Finished, runtime.Answer{Attempt: at, Outcome: &runtime.Outcome{Status: 200, Body: make([]byte, each)}})
			}
		}
	}
	if remote == 0 {
		t.Fatal("b owns nothing")
	}
	info := actorHost("large")
	info.Grace = 3000
	h := &fakeHost{owners: a, info: info, serve: echo}
	if err := a.HostUp(info, join, h); err != nil {
		t.Fatal(err)
	}
	defer h.stop()
	eventually(t, "the answers are taken", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.taken >= many*remote
	})
	mu.Lock()
	defer mu.Unlock()
	if len(answers) != many*remote || notes < remote {
		t.Errorf("%d answers of %d, in %d notes", len(answers), many*remote, notes)
	}
	for at, n := range answers {
		if n != 1 {
			t.Errorf("%v was told %d times", at, n)
		}
	}
}

func owns(m *engine.Mesh, node string) (n int) {
	for _, o := range m.Owners() {
		if o == node {
			n++
		}
	}
	return n
}
