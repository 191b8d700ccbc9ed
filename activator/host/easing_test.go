package host_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/karmesh/kar/activator"
	"github.com/karmesh/kar/activator/host"
	"github.com/karmesh/kar/runtime"
)

func easing(lease time.Duration) option {
	return func(_ *rig, a *activator.Config, _ *host.Config) { a.Lease = lease }
}

func deletion(m *runtime.Invoke) string { return "DELETE /kar/impl/v1/actor/T/" + m.Target.ID }

// One owner is silent: its idle actors are deactivated before its lease ends, so
// the app is not frozen and the work of the other owner goes on. What comes from
// the silent one waits, and finds its actor activated anew.
func TestSilentOwnerStopsItsOwnActorsOnly(t *testing.T) {
	t.Parallel()
	app := newScriptApp(ok)
	r := start(t, app, easing(time.Second), fourPartitions)
	wait(t, "join", r.owners.ups)
	var idle []*runtime.Invoke
	for n := range 3 {
		idle = append(idle, callIn(1, n+1, "/m", "[]"))
		r.owners.send(idle[n])
		wait(t, "answer", r.owners.answers)
	}
	other := callIn(2, 4, "/m", "[]")
	r.owners.setBeat(silent(1))
	for n, end := 4, time.Now().Add(2500*time.Millisecond); time.Now().Before(end); n++ {
		r.owners.send(sameActor(other, n))
		if a := wait(t, "answer of another partition", r.owners.answers); a.Outcome == nil || a.Outcome.Status != 200 {
			t.Fatalf("answer %+v", a)
		}
	}
	none(t, "act on the app", r.guard.did, 0)
	seen := app.requests()
	for _, m := range idle {
		if !slices.Contains(seen, deletion(m)) {
			t.Errorf("%s was not deactivated", m.Target.ID)
		}
	}
	if slices.Contains(seen, deletion(other)) {
		t.Error("an actor of another owner was deactivated")
	}
	late := sameActor(idle[0], 100_000)
	r.owners.send(late)
	none(t, "run for the silent owner", r.owners.answers, 300*time.Millisecond)
	none(t, "word about actors that nobody asked for", r.owners.inactive, 0)
	r.owners.send(ask(1, 6)) // a new owner
	// The three that have finished are named too.
	if j := wait(t, "answer to the new owner", r.owners.joins); len(j.answer.Instances) != 0 || len(j.answer.Running) != 4 {
		t.Errorf("told %+v", j.answer)
	}
	gets := app.gets.Load()
	r.owners.setBeat(nil)
	for range 3 { // the new owner hears again what has finished
		wait(t, "answer of before", r.owners.answers)
	}
	if a := wait(t, "run", r.owners.answers); a.Attempt != late.Attempt || a.Outcome.Status != 200 {
		t.Errorf("answer %+v", a)
	}
	if n := app.gets.Load() - gets; n != 1 {
		t.Errorf("%d activations", n)
	}
	// Asked for by its owner, a deactivation is confirmed as ever, of one that is gone too.
	for _, m := range idle {
		r.owners.send(&runtime.Deactivate{Actor: m.Target.Actor(), Partition: 1, Epoch: 6})
		if a := wait(t, "confirmation", r.owners.inactive); a.Actor != m.Target.Actor() {
			t.Errorf("confirmed %v", a)
		}
	}
}

// sameActor is another call of the same actor.
func sameActor(m *runtime.Invoke, n int) *runtime.Invoke {
	again := actorCall(n, m.Target.ID, "/m", "[]")
	again.Attempt.Partition = m.Attempt.Partition
	return again
}

// What runs for the silent owner when its lease ends is the reason to freeze.
func TestSilentOwnerOfRunningWork(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	app := newScriptApp(func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Kar-Request-Id") == id(2).String() {
			close(entered)
			<-release
		}
		ok(w, q)
	})
	r := start(t, app, easing(time.Second), fourPartitions)
	wait(t, "join", r.owners.ups)
	idle, busy := callIn(1, 1, "/m", "[]"), callIn(1, 2, "/m", "[]")
	r.owners.send(idle)
	wait(t, "answer", r.owners.answers)
	r.owners.send(busy)
	wait(t, "run", entered)
	r.owners.setBeat(silent(1))
	if got := wait(t, "freeze", r.guard.did); got != "freeze" {
		t.Fatal(got)
	}
	if seen := app.requests(); !slices.Contains(seen, deletion(idle)) || slices.Contains(seen, deletion(busy)) {
		t.Errorf("the app was asked %q", seen)
	}
	r.owners.setBeat(nil)
	if got := wait(t, "thaw", r.guard.did); got != "thaw" {
		t.Fatal(got)
	}
	close(release)
	if a := wait(t, "answer", r.owners.answers); a.Attempt != busy.Attempt {
		t.Errorf("answer %+v", a)
	}
}

// The owner asks for a deactivation that the host has begun on its own: it is
// done once, and confirmed when it is done.
func TestDeactivationThatIsUnderWay(t *testing.T) {
	t.Parallel()
	began, release := make(chan struct{}, 10), make(chan struct{})
	script := newScriptApp(ok)
	app := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Method == http.MethodDelete {
			began <- struct{}{}
			<-release
		}
		script.ServeHTTP(w, q)
	})
	r := start(t, app, easing(3*time.Second), fourPartitions)
	wait(t, "join", r.owners.ups)
	m := callIn(1, 1, "/m", "[]")
	r.owners.send(m)
	wait(t, "answer", r.owners.answers)
	r.owners.setBeat(silent(1))
	wait(t, "deactivation", began)
	r.owners.setBeat(nil)
	r.owners.send(&runtime.Deactivate{Actor: m.Target.Actor(), Partition: 1, Epoch: 5})
	none(t, "confirmation before it is done", r.owners.inactive, 100*time.Millisecond)
	close(release)
	wait(t, "confirmation", r.owners.inactive)
	none(t, "second deactivation", began, 100*time.Millisecond)
}
