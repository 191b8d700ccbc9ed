package host_test

import (
	"errors"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/karmesh/kar/activator"
	"github.com/karmesh/kar/activator/host"
	"github.com/karmesh/kar/runtime"
)

func inTerm(epoch uint64, m *runtime.Invoke) *runtime.Invoke {
	m.Epoch = epoch
	return m
}

// TestOlderCopyOfTheLog: a host has heard of a term that the log does not hold any
// more. It says so, and goes on once what runs of that has ended.
func TestOlderCopyOfTheLog(t *testing.T) {
	app := newSlowApp(t)
	free(app.end)
	r := start(t, app, fourPartitions)
	wait(t, "join", r.owners.ups)
	r.owners.send(ask(1, 9))
	wait(t, "join", r.owners.joins)
	slow := inTerm(9, callIn(1, 1, "/slow", "[1]"))
	r.owners.send(slow)
	wait(t, "start", app.entered)

	r.owners.send(ask(1, 6))
	j := wait(t, "what it knows", r.owners.joins)
	if len(j.epochs) != 0 || len(j.answer.Later) != 1 || j.answer.Later[0].Epoch != 9 || j.answer.Later[0].Partition != 1 || len(j.answer.Running) != 0 {
		t.Fatalf("answered %v %+v", j.epochs, j.answer)
	}
	seen := j.answer.Later[0]
	r.owners.send(&runtime.TermLost{Partition: 1, Epoch: 6, Seen: seen})
	r.owners.send(inTerm(6, callIn(1, 2, "/m", "[2]"))) // too early
	none(t, "join while it runs", r.owners.joins, 50*time.Millisecond)
	none(t, "answer", r.owners.answers, 0)
	free(app.release)
	if a := wait(t, "end", r.owners.answers); a.Attempt != slow.Attempt {
		t.Errorf("ended %v", a.Attempt)
	}
	wait(t, "deactivation", app.ending)
	j = wait(t, "join in the earlier term", r.owners.joins)
	if len(j.epochs) != 1 || j.epochs[0] != (runtime.PartitionEpoch{Partition: 1, Epoch: 6}) || len(j.answer.Instances) != 0 {
		t.Fatalf("answered %v %+v", j.epochs, j.answer)
	}
	none(t, "word about actors that nobody asked for", r.owners.inactive, 0)
	// Answers come again with each join, as long as they are not taken.
	answerOf := func(m *runtime.Invoke, want string, but runtime.Attempt) {
		t.Helper()
		for {
			a := wait(t, "answer", r.owners.answers)
			if a.Attempt == but {
				t.Fatal("an owner of before is obeyed")
			}
			if a.Attempt == m.Attempt {
				if body(a.Outcome) != want {
					t.Errorf("got %s", body(a.Outcome))
				}
				return
			}
		}
	}
	third := inTerm(6, callIn(1, 3, "/m", "[3]"))
	r.owners.send(third)
	answerOf(third, "200 [3]", runtime.Attempt{})

	// The log grows to the same term again; a word of before has no weight then.
	r.owners.send(ask(1, 9))
	wait(t, "join", r.owners.joins)
	r.owners.send(&runtime.TermLost{Partition: 1, Epoch: 6, Seen: seen})
	before, fifth := inTerm(6, callIn(1, 4, "/m", "[4]")), inTerm(9, callIn(1, 5, "/m", "[5]"))
	r.owners.send(before)
	r.owners.send(fifth)
	answerOf(fifth, "200 [5]", before.Attempt)
}

// anotherMesh starts a gateway of it, which the host meets from now on.
func anotherMesh(t *testing.T, r *rig, o *owners, epoch uint64) {
	o.epochs = []runtime.PartitionEpoch{{Partition: 0, Epoch: epoch}}
	act, err := activator.New(activator.Config{Owners: o, API: r.api, Mesh: "two", Node: "gw2", Version: "test", Lease: time.Second, Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	gw := httptest.NewServer(act)
	t.Cleanup(func() { _ = act.Close(); gw.Close() })
	r.proxy.mu.Lock()
	r.proxy.to = gw.Listener.Addr().String()
	r.proxy.mu.Unlock()
	r.proxy.cut(false)
}

func inMesh(name string) option {
	return func(_ *rig, a *activator.Config, _ *host.Config) { a.Mesh, a.Lease = name, time.Second }
}

// TestAnotherMesh: a host whose gateway is one of another mesh from now on takes its
// work once nothing of the first is left.
func TestAnotherMesh(t *testing.T) {
	for name, epoch := range map[string]uint64{"of earlier terms": 1, "of later terms": 50} {
		t.Run(name, func(t *testing.T) {
			app := newSlowApp(t)
			r := start(t, app, inMesh("one"))
			wait(t, "join", r.owners.ups)
			r.owners.send(actorCall(1, "a", "/m", "[1]"))
			wait(t, "answer", r.owners.answers)
			other := newOwners()
			anotherMesh(t, r, other, epoch)
			wait(t, "deactivation of what is active", app.ending)
			none(t, "join before it has ended", other.ups, 0)
			free(app.end)
			u := wait(t, "join of the other mesh", other.ups)
			if len(u.join.Epochs) != 1 || u.join.Epochs[0].Epoch != epoch || len(u.join.Instances)+len(u.join.Finished)+len(u.join.Later) != 0 {
				t.Errorf("joined with %+v", u.join)
			}
			other.send(inTerm(epoch, actorCall(1, "a", "/m", "[2]")))
			if a := wait(t, "answer", other.answers); body(a.Outcome) != "200 [2]" {
				t.Errorf("got %s", body(a.Outcome))
			}
		})
	}
}

// TestAnotherMeshMeanwhile: what runs for the first mesh does not end within the
// lease, so that mesh may have it run elsewhere: it is stopped.
func TestAnotherMeshMeanwhile(t *testing.T) {
	app := newSlowApp(t)
	free(app.end)
	r := start(t, app, inMesh("one"))
	wait(t, "join", r.owners.ups)
	r.owners.send(actorCall(1, "a", "/slow", "[1]"))
	wait(t, "start", app.entered)
	defer free(app.release)
	other := newOwners()
	anotherMesh(t, r, other, 50)
	for what := ""; what != "kill"; {
		what = wait(t, "end of the app", r.guard.did)
	}
	none(t, "join", other.ups, 0)
	err := wait(t, "end of the host", r.ran)
	var e *runtime.Error
	if !errors.As(err, &e) || e.Code != runtime.CodeHostLost {
		t.Errorf("the host ended with %v", err)
	}
	r.ran <- nil // for the rig
}
