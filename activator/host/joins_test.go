package host_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/karmesh/kar/activator"
	"github.com/karmesh/kar/activator/host"
	"github.com/karmesh/kar/runtime"
)

// fourPartitions makes a mesh whose terms are all 5.
func fourPartitions(r *rig, a *activator.Config, _ *host.Config) {
	a.Partitions = 4
	r.owners.epochs = nil
	for p := range 4 {
		r.owners.epochs = append(r.owners.epochs, runtime.PartitionEpoch{Partition: uint16(p), Epoch: 5})
	}
}

// callIn is a call to an actor in a partition of fourPartitions.
func callIn(partition uint16, n int, path, body string) *runtime.Invoke {
	for i := 0; ; i++ {
		m := actorCall(n, fmt.Sprintf("%d-%d", n, i), path, body)
		if runtime.ActorPartition(m.Target.Actor(), 4) == partition {
			m.Attempt.Partition = partition
			return m
		}
	}
}

func ask(pairs ...uint64) *runtime.JoinAsk {
	m := &runtime.JoinAsk{}
	for i := 0; i < len(pairs); i += 2 {
		m.Epochs = append(m.Epochs, runtime.PartitionEpoch{Partition: uint16(pairs[i]), Epoch: pairs[i+1]})
	}
	return m
}

// slowApp lets calls of /slow wait until release is closed, and deactivations too.
type slowApp struct {
	*scriptApp
	entered, ending chan struct{}
	release, end    chan struct{}
}

func newSlowApp(t *testing.T) *slowApp {
	a := &slowApp{entered: make(chan struct{}, 100), ending: make(chan struct{}, 100), release: make(chan struct{}), end: make(chan struct{})}
	a.scriptApp = newScriptApp(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/slow") {
			a.entered <- struct{}{}
			<-a.release
		}
		ok(w, r)
	})
	t.Cleanup(func() { free(a.release); free(a.end) })
	return a
}

func (a *slowApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodDelete {
		a.ending <- struct{}{}
		<-a.end
	}
	a.scriptApp.ServeHTTP(w, r)
}

// free closes c unless it is closed.
func free(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// TestJoinOfOnePartition: a partition has a new owner while the others go on.
func TestJoinOfOnePartition(t *testing.T) {
	app := newSlowApp(t)
	r := start(t, app, fourPartitions)
	if u := wait(t, "join", r.owners.ups); len(u.join.Epochs) != 4 {
		t.Errorf("the join answers %v", u.join.Epochs)
	}
	large := string(bytes.Repeat([]byte("x"), 200<<10))
	small, big, slow := callIn(1, 1, "/m", "[1]"), callIn(1, 2, "/m", large), callIn(1, 3, "/slow", "[3]")
	other, otherSlow := callIn(2, 4, "/m", "[4]"), callIn(2, 5, "/slow", "[5]")
	for _, m := range []*runtime.Invoke{small, big, other} {
		r.owners.send(m)
		wait(t, "answer", r.owners.answers)
	}
	for _, m := range []*runtime.Invoke{slow, otherSlow} {
		r.owners.send(m)
		wait(t, "start", app.entered)
	}

	r.owners.send(ask(1, 9, 2, 4)) // of partition 2 by an owner whose term is over
	j := wait(t, "join of one partition", r.owners.joins)
	if len(j.epochs) != 1 || j.epochs[0] != (runtime.PartitionEpoch{Partition: 1, Epoch: 9}) {
		t.Errorf("answered for %v", j.epochs)
	}
	if len(j.answer.Instances) != 3 {
		t.Errorf("instances %v", j.answer.Instances)
	}
	// The answers that belong to it may be lost on their way, or be overtaken: who has
	// nothing of them must not believe that the attempts have never arrived.
	if len(j.answer.Running) != 3 || j.answer.Running[0] != slow.Attempt || !slices.Contains(j.answer.Running, small.Attempt) || !slices.Contains(j.answer.Running, big.Attempt) {
		t.Errorf("running %v", j.answer.Running)
	}
	// The small one came first: the gateway tells in the order of the stream.
	if len(r.owners.answers) == 0 {
		t.Fatal("the finished answer did not come before the join")
	}
	if a := wait(t, "finished answer", r.owners.answers); a.Attempt != small.Attempt || body(a.Outcome) != "200 [1]" {
		t.Errorf("got %v %s", a.Attempt, body(a.Outcome))
	}
	if a := wait(t, "large answer", r.owners.answers); a.Attempt != big.Attempt || len(a.Outcome.Body) != len(large) {
		t.Errorf("got %v", a.Attempt)
	}

	// The old owner is not obeyed any more; the other partition is not affected.
	r.owners.send(callIn(1, 6, "/m", "[6]"))
	r.owners.send(callIn(2, 7, "/m", "[7]"))
	if a := wait(t, "answer of another partition", r.owners.answers); body(a.Outcome) != "200 [7]" {
		t.Errorf("got %s", body(a.Outcome))
	}
	free(app.release)
	ended := map[runtime.Attempt]bool{}
	for range 2 {
		ended[wait(t, "end", r.owners.answers).Attempt] = true
	}
	if !ended[slow.Attempt] || !ended[otherSlow.Attempt] {
		t.Errorf("ended %v", ended)
	}

	// Asked again in the same term it answers again, without what was taken.
	r.owners.send(&runtime.Taken{Attempts: []runtime.Attempt{small.Attempt, big.Attempt}})
	r.owners.send(ask(1, 9))
	j = wait(t, "join in the same term", r.owners.joins)
	if len(j.answer.Running) != 1 || len(r.owners.answers) != 1 {
		t.Errorf("running %v, %d finished", j.answer.Running, len(r.owners.answers))
	}
	if a := wait(t, "finished answer", r.owners.answers); a.Attempt != slow.Attempt {
		t.Errorf("got %v", a.Attempt)
	}
	r.owners.send(ask(1, 8, 2, 1))
	if j := wait(t, "what it knows", r.owners.joins); len(j.epochs) != 0 || len(j.answer.Later) != 2 {
		t.Errorf("an older term was answered: %v, later %v", j.epochs, j.answer.Later)
	}
}

// TestJoinAfterTheTermsRose: the gateway that a host meets may know less than it.
func TestJoinAfterTheTermsRose(t *testing.T) {
	r := start(t, newScriptApp(ok), fourPartitions)
	wait(t, "join", r.owners.ups)
	r.owners.send(ask(1, 9))
	wait(t, "join of one partition", r.owners.joins)
	mine, other := callIn(1, 1, "/m", "[1]"), callIn(2, 2, "/m", "[2]")
	mine.Epoch = 9
	for _, m := range []*runtime.Invoke{mine, other} {
		r.owners.send(m)
		wait(t, "answer", r.owners.answers)
	}
	r.proxy.cut(false)
	u := wait(t, "second join", r.owners.ups)
	if len(u.join.Epochs) != 3 || len(u.join.Finished) != 1 || u.join.Finished[0].Attempt != other.Attempt || len(u.join.Instances) != 1 {
		t.Errorf("the join to a gateway that knows an older term: %+v", u.join)
	}
	r.owners.send(ask(1, 9))
	if j := wait(t, "join", r.owners.joins); len(j.answer.Instances) != 1 {
		t.Errorf("join %+v", j)
	}
	if a := wait(t, "finished answer", r.owners.answers); a.Attempt != mine.Attempt {
		t.Errorf("got %v", a.Attempt)
	}
}

// TestDeactivationsAndANewOwner: one in progress is still listed, and its
// confirmation follows; one that waits is the new owner's to ask for, which is
// not lost.
func TestDeactivationsAndANewOwner(t *testing.T) {
	app := newSlowApp(t)
	r := start(t, app, fourPartitions)
	wait(t, "join", r.owners.ups)
	quick, busy := callIn(1, 1, "/m", "[1]"), callIn(1, 2, "/slow", "[2]")
	r.owners.send(quick)
	wait(t, "answer", r.owners.answers)
	r.owners.send(busy)
	wait(t, "start", app.entered)
	end := func(m *runtime.Invoke, epoch uint64) {
		r.owners.send(&runtime.Deactivate{Actor: m.Target.Actor(), Partition: 1, Epoch: epoch})
	}
	end(busy, 5) // waits for the call
	end(quick, 5)
	wait(t, "deactivation", app.ending)
	r.owners.send(ask(1, 9))
	if j := wait(t, "join", r.owners.joins); len(j.answer.Instances) != 2 {
		t.Errorf("instances %v", j.answer.Instances)
	}
	end(quick, 9)
	end(busy, 9)
	r.owners.send(ask(1, 9))
	wait(t, "join behind them", r.owners.joins)
	free(app.end)
	if a := wait(t, "deactivated", r.owners.inactive); a.Actor != quick.Target.Actor() {
		t.Errorf("deactivated %v", a)
	}
	free(app.release)
	if a := wait(t, "deactivated", r.owners.inactive); a.Actor != busy.Target.Actor() {
		t.Errorf("deactivated %v", a)
	}
	r.owners.send(ask(1, 9))
	if j := wait(t, "join", r.owners.joins); len(j.answer.Instances) != 0 || len(r.owners.inactive) != 0 {
		t.Errorf("instances %v, %d more deactivated", j.answer.Instances, len(r.owners.inactive))
	}
}

func silent(partitions ...uint16) func() ([]uint16, bool) {
	return func() ([]uint16, bool) { return partitions, false }
}

// TestLeaseOfOnePartition: only work in a silent partition freezes.
func TestLeaseOfOnePartition(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	app := newScriptApp(func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Kar-Request-Id") == id(4).String() {
			close(entered)
			<-release
		}
		ok(w, q)
	})
	r := start(t, app, shortLease, fourPartitions)
	wait(t, "join", r.owners.ups)
	r.owners.send(callIn(2, 1, "/m", "[]"))
	wait(t, "answer", r.owners.answers)
	r.owners.setBeat(silent(1, 3))
	none(t, "act on an app that holds nothing there", r.guard.did, 700*time.Millisecond)

	// A call of a partition whose lease is over waits for the word of its owner:
	// nothing freezes for it, and nothing starts.
	late := callIn(1, 2, "/m", "[2]")
	r.owners.send(late)
	none(t, "act", r.guard.did, 100*time.Millisecond)
	r.owners.send(ask(1, 6))
	if j := wait(t, "join", r.owners.joins); len(j.answer.Running) != 1 || j.answer.Running[0] != late.Attempt || len(j.answer.Instances) != 0 {
		t.Errorf("join %+v", j)
	}
	if len(r.owners.answers) != 0 || app.gets.Load() != 1 {
		t.Fatal("it started while the lease was over")
	}
	r.owners.setBeat(silent(3))
	if a := wait(t, "answer", r.owners.answers); a.Attempt != late.Attempt {
		t.Errorf("got %v", a.Attempt)
	}

	// Now something of partition 1 runs.
	runs := callIn(1, 4, "/m", "[4]")
	runs.Epoch = 6
	r.owners.send(runs)
	wait(t, "run", entered)
	r.owners.setBeat(silent(1, 3))
	if got := wait(t, "freeze", r.guard.did); got != "freeze" {
		t.Fatal(got)
	}
	// While frozen nothing starts anywhere.
	r.owners.send(callIn(2, 3, "/m", "[3]"))
	none(t, "answer of a frozen app", r.owners.answers, 200*time.Millisecond)
	r.owners.setBeat(silent(3))
	if got := wait(t, "thaw", r.guard.did); got != "thaw" {
		t.Fatal(got)
	}
	if a := wait(t, "answer after the thaw", r.owners.answers); body(a.Outcome) != "200 [3]" {
		t.Errorf("got %s", body(a.Outcome))
	}
	close(release)
	wait(t, "answer of what ran meanwhile", r.owners.answers)
	none(t, "act", r.guard.did, 400*time.Millisecond)
}

// TestLeaseEndsWithTheInstance: what is gone needs no lease.
func TestLeaseEndsWithTheInstance(t *testing.T) {
	t.Parallel()
	r := start(t, newScriptApp(ok), shortLease, fourPartitions)
	wait(t, "join", r.owners.ups)
	m := callIn(1, 1, "/m", "[]")
	r.owners.send(m)
	wait(t, "answer", r.owners.answers)
	r.owners.send(&runtime.Deactivate{Actor: m.Target.Actor(), Partition: 1, Epoch: 5})
	wait(t, "deactivated", r.owners.inactive)
	r.owners.setBeat(silent(1))
	none(t, "act", r.guard.did, 700*time.Millisecond)
}

// eventOwners keeps answers and joins in the order in which they came.
type eventOwners struct {
	*owners
	events chan any
}

func (o *eventOwners) Answered(_ string, a runtime.Answer) { o.events <- a }
func (o *eventOwners) Joined(_ string, _ runtime.Link, epochs []runtime.PartitionEpoch, j runtime.JoinAnswer) {
	o.events <- join{epochs, j}
}

// TestJoinsUnderLoad plays owners that change all the time, and lose what was
// on its way to them: each attempt runs once, and its answer is never lost.
func TestJoinsUnderLoad(t *testing.T) {
	const calls, partitions = 3000, 4
	var mu sync.Mutex
	runs := map[string]int{}
	o := &eventOwners{events: make(chan any, 1<<16)}
	r := start(t, newScriptApp(func(w http.ResponseWriter, q *http.Request) {
		mu.Lock()
		runs[q.Header.Get("Kar-Request-Id")]++
		mu.Unlock()
		if strings.HasSuffix(q.URL.Path, "/short") {
			return
		}
		ok(w, q)
	}), fourPartitions, func(r *rig, a *activator.Config, _ *host.Config) {
		o.owners = r.owners
		a.Owners, a.Lease = o, time.Minute // which does not run out on a busy machine
	})
	wait(t, "join", r.owners.ups)
	random := rand.New(rand.NewPCG(1, 2))
	large := strings.Repeat("x", 2<<20) // many pieces, which others overtake
	epochs := [partitions]uint64{5, 5, 5, 5}
	asked := [partitions]bool{}
	missed := [partitions]bool{} // an answer on its way to the owner
	open := map[runtime.Attempt]*runtime.Invoke{}
	joins := 0
	invoke := func(m *runtime.Invoke) {
		again := *m
		again.Epoch = epochs[m.Attempt.Partition]
		r.owners.send(&again)
	}
	step := func(e any) {
		switch e := e.(type) {
		case runtime.Answer:
			p := e.Attempt.Partition
			if asked[p] && random.IntN(2) == 0 {
				missed[p] = true
				return // told to the owner before, which has not recorded it
			}
			if open[e.Attempt] != nil && e.Outcome == nil {
				t.Fatalf("the answer of %v was lost", e.Attempt)
			}
			delete(open, e.Attempt)
			r.owners.send(&runtime.Taken{Attempts: []runtime.Attempt{e.Attempt}})
		case join:
			joins++
			running := map[runtime.Attempt]bool{}
			for _, a := range e.answer.Running {
				running[a] = true
			}
			for _, x := range e.epochs {
				if x.Epoch != epochs[x.Partition] {
					continue // by the time it came there was another owner
				}
				asked[x.Partition] = false
				for a, m := range open {
					if a.Partition == x.Partition && !running[a] {
						invoke(m)
					}
				}
				if missed[x.Partition] { // what was lost has to come again
					missed[x.Partition], asked[x.Partition] = false, true
					r.owners.send(ask(uint64(x.Partition), x.Epoch))
				}
			}
		}
	}
	for n := range calls {
		p := uint16(random.IntN(partitions))
		path, text := "/m", "[1]"
		switch random.IntN(60) {
		case 0:
			text = large[:150<<10]
		case 1:
			path, text = "/short", large
		}
		m := callIn(p, n+1, path, text)
		open[m.Attempt] = m
		if !asked[p] {
			invoke(m)
		}
		if random.IntN(10) == 0 {
			p := random.IntN(partitions)
			epochs[p] += uint64(random.IntN(2)) // a new owner, or one that has missed something
			asked[p] = true
			r.owners.send(ask(uint64(p), epochs[p]))
		}
		for len(o.events) > 0 {
			step(<-o.events)
		}
	}
	// Answers that an owner has not recorded come again when it asks.
	for p := range partitions {
		epochs[p]++
		asked[p] = true
		r.owners.send(ask(uint64(p), epochs[p]))
	}
	for len(open) > 0 {
		select {
		case e := <-o.events:
			step(e)
		case <-time.After(patience): // since the last of them
			t.Fatalf("%d of %d calls without an answer after %d joins", len(open), calls, joins)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for id, n := range runs {
		if n != 1 {
			t.Errorf("%s ran %d times", id, n)
		}
	}
	if len(runs) != calls || joins < 100 {
		t.Errorf("%d of %d calls ran, %d joins", len(runs), calls, joins)
	}
}
