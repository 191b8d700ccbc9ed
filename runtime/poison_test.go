package runtime

import (
	"testing"
	"time"
)

// One request among many ends each host that runs it. The innocent end, none by
// the attempt limit, and the guilty one is found within the rounds that halving
// takes, owners that change and a log that is cut included.
func TestPoisonAmongMany(t *testing.T) {
	const innocent = 2000
	b := newBench(t, Config{MaxAttempts: 3})
	b.host("h0")
	var poison *entry
	for i := range innocent + 1 {
		target := Target{Service: "s"}
		if i%2 == 0 {
			target = Target{Type: "A", ID: utoa(uint64(i))}
		}
		if e := b.submit(Request{Kind: Tell, Target: target}); i == 1234 {
			poison = e
		}
	}
	id := poison.req.ID
	ended := func(effects []Effect) (guilty bool) {
		for _, e := range effects {
			if e.Kind == AppError && e.ID == id {
				guilty = true
			} else if e.Kind == AppError {
				t.Fatalf("an innocent request ended with %s", e.Outcome.Code)
			}
		}
		return guilty
	}
	boot, died, guilty := "h0", 0, false
	for ; !guilty && died < 30; died++ {
		if e := b.c.entries[id]; e.phase == running { // the host ends before anything else does
			guilty = ended(b.step(&HostDown{Boot: boot}))
			boot = "h" + utoa(uint64(died+1))
			if died == 5 {
				b.step(&Mark{})
				b.step(&Keep{Before: b.c.Seq(), Limit: 10_000})
				b.restart()
			}
			b.host(boot)
		}
		for quiet := 0; !guilty && b.c.entries[id].phase != running; quiet++ {
			if quiet > 3000 {
				t.Fatalf("nothing happens: %s", b.c.Describe())
			}
			h := b.c.hosts[boot]
			for _, run := range sortedIDs(h.running) {
				if e := h.running[run]; b.c.entries[id].phase != running {
					ended(b.answer(e, &Outcome{Status: 200}))
				}
			}
			guilty = ended(b.pass(200 * time.Millisecond))
		}
	}
	if open := len(b.c.entries); !guilty || died > 16 || open > 0 {
		t.Errorf("after %d lost hosts guilty is %v, %d are open", died, guilty, open)
	}
	t.Logf("%d hosts were lost, after %v", died, time.Duration(b.now.Mono-1_000_000)*time.Millisecond)
}

// A suspect that waits for its turn holds up neither others nor those on whom
// the suspects that run depend.
func TestSuspectsDoNotWaitForEachOther(t *testing.T) {
	b := newBench(t, Config{})
	b.host("h1")
	var es []*entry
	for _, id := range []string{"one", "two"} {
		es = append(es, b.submit(Request{Target: Target{Type: "A", ID: id}}))
	}
	for range 3 {
		for _, e := range es {
			b.answer(e, nil)
		}
	}
	run, wait := es[0], es[1]
	for i := 0; run.phase != running; i++ {
		if b.pass(100 * time.Millisecond); wait.phase == running {
			run, wait = wait, run
		}
		if i > 20 {
			t.Fatal("no suspect starts")
		}
	}
	b.pass(3 * time.Second)
	if wait.phase != stopped {
		t.Fatalf("two suspects of groups of one run beside each other: %v", wait.phase)
	}
	if e := b.submit(Request{Target: Target{Type: "A", ID: "three"}}); e.phase != running {
		t.Errorf("a request that is no suspect is %v", e.phase)
	}
	call := b.submit(Request{Target: Target{Type: "A", ID: wait.req.Target.ID}, Session: b.c.sessionOf(run), Boot: "h1"})
	if wait.phase != running {
		t.Error("the suspect that runs waits for one that waits for it")
	}
	b.answer(wait, &Outcome{Status: 200})
	if call.phase != running {
		t.Errorf("the nested call is %v", call.phase)
	}
}

// A suspect whose callers this partition does not know has its turn after a
// while in any case: two partitions might wait for each other.
func TestSuspectsOfTwoPartitions(t *testing.T) {
	b := newBench(t, Config{})
	b.host("h1")
	long := b.submit(Request{Target: Target{Type: "A", ID: "long"}})
	far := &Vouched{Flow: ID{1}, Parents: []ID{{2}}, Partition: 1, Epoch: 1}
	b.n++
	id := NewID(b.now.Wall, 0, "dp", [6]byte{9})
	b.step(&Submit{Request: Request{ID: id, Target: Target{App: "dp", Service: "s"}, Method: "POST"}, Vouched: far, Waiter: 1})
	nested := b.c.entries[id]
	for range 3 {
		b.answer(long, nil)
		b.answer(nested, nil)
	}
	first := int64(0)
	for range 400 {
		b.pass(100 * time.Millisecond)
		if long.phase == running && nested.phase == running {
			break
		}
		if long.phase == running && first == 0 {
			first = b.now.Mono
		} else if nested.phase == running && first == 0 {
			b.answer(nested, nil) // the other one is to be first
		}
	}
	if long.phase != running || nested.phase != running || b.now.Mono-first < patience/2 {
		t.Errorf("long is %v, nested %v after %d ms", long.phase, nested.phase, b.now.Mono-first)
	}
}
