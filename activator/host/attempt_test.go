package host_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/activator"
	"github.com/karmesh/kar/activator/host"
	"github.com/karmesh/kar/runtime"
)

// scriptApp is an app of which a test sets the handler of methods; activation
// and deactivation are counted and answered as the SDKs do.
type scriptApp struct {
	mu      sync.Mutex
	active  map[string]bool
	seen    []string // "METHOD escaped-path?query"
	method  http.HandlerFunc
	gets    atomic.Int64
	refuse  int // status of activations, 0 to allow
	actGate chan struct{}
}

func newScriptApp(method http.HandlerFunc) *scriptApp {
	return &scriptApp{active: map[string]bool{}, method: method}
}

func (a *scriptApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	a.mu.Lock()
	a.seen = append(a.seen, r.Method+" "+r.URL.RequestURI())
	a.mu.Unlock()
	rest, isActor := strings.CutPrefix(path, "/kar/impl/v1/actor/")
	key := strings.Join(strings.SplitN(rest, "/", 3)[:min(2, len(strings.SplitN(rest, "/", 3)))], "/")
	switch {
	case !isActor:
		a.method(w, r)
	case r.Method == "HEAD":
	case r.Method == "GET":
		a.gets.Add(1)
		if a.actGate != nil {
			<-a.actGate
		}
		if a.refuse != 0 {
			http.Error(w, "no such thing", a.refuse)
			return
		}
		a.mu.Lock()
		old := a.active[key]
		a.active[key] = true
		a.mu.Unlock()
		if !old {
			w.WriteHeader(http.StatusCreated)
		}
	case r.Method == "DELETE":
		a.mu.Lock()
		delete(a.active, key)
		a.mu.Unlock()
	default:
		a.mu.Lock()
		known := a.active[key]
		a.mu.Unlock()
		if !known {
			http.Error(w, "not active", 404)
			return
		}
		a.method(w, r)
	}
}

func (a *scriptApp) forgetAll() {
	a.mu.Lock()
	a.active = map[string]bool{}
	a.mu.Unlock()
}

func (a *scriptApp) requests() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.seen...)
}

// ok echoes. It reads first: net/http drops the rest of a body once it has begun to answer.
func ok(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	_, _ = w.Write(b)
}

func TestInvokeActivatesThenRunsOnce(t *testing.T) {
	entered, release := make(chan string, 10), make(chan struct{})
	app := newScriptApp(func(w http.ResponseWriter, r *http.Request) {
		entered <- r.Header.Get("Kar-Request-Id") + " " + r.Header.Get("Kar-Idempotency-Key") + " " + r.Header.Get("Content-Type") + " " + r.URL.Query().Get("session")
		<-release
		w.Header().Set("X-Out", "yes")
		ok(w, r)
	})
	r := start(t, app)
	u := wait(t, "join", r.owners.ups)
	if u.info.Boot != "boot-1" || u.info.Grace != 2000 || len(u.join.Running)+len(u.join.Finished)+len(u.join.Instances) != 0 {
		t.Fatalf("join: %+v", u)
	}
	m := actorCall(1, "x", "/m", `["hi"]`)
	r.owners.send(m)
	if got, want := wait(t, "run", entered), id(1).String()+" "+id(1).String()+"-0 application/kar+json f:"+id(1).String(); got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	r.owners.send(m)
	r.owners.send(m)
	close(release)
	a := wait(t, "answer", r.owners.answers)
	if body(a.Outcome) != `200 ["hi"]` || a.Outcome.Header.Get("X-Out") != "yes" || a.Attempt != m.Attempt {
		t.Fatalf("answer %+v %s", a, body(a.Outcome))
	}
	// Asked again before it was taken: the same answer, no second run.
	r.owners.send(m)
	if a := wait(t, "answer again", r.owners.answers); body(a.Outcome) != `200 ["hi"]` {
		t.Fatal(body(a.Outcome))
	}
	// The same request at another step is another attempt (chain-step-table).
	m2 := *m
	m2.Attempt.Step = 1
	m2.Body = []byte("[2]")
	r.owners.send(&m2)
	a = wait(t, "answer of step 1", r.owners.answers)
	for a.Attempt.Step == 0 { // told again for each time it was asked for
		a = wait(t, "answer of step 1", r.owners.answers)
	}
	if body(a.Outcome) != "200 [2]" {
		t.Fatalf("%+v", a)
	}
	if len(entered) != 1 {
		t.Fatalf("%d more runs, want one for step 1", len(entered))
	}
	if n := app.gets.Load(); n != 1 {
		t.Fatalf("%d activations", n)
	}
}

func TestConcurrentInvokesShareOneActivation(t *testing.T) {
	app := newScriptApp(ok)
	app.actGate = make(chan struct{})
	r := start(t, app)
	wait(t, "join", r.owners.ups)
	for n := range 5 {
		r.owners.send(actorCall(n+1, "same", "/m", "[]"))
	}
	close(app.actGate)
	for range 5 {
		if a := wait(t, "answer", r.owners.answers); a.Outcome.Status != 200 {
			t.Fatal(body(a.Outcome))
		}
	}
	if n := app.gets.Load(); n != 1 {
		t.Fatalf("%d activations", n)
	}
}

func TestRefusedActivation(t *testing.T) {
	app := newScriptApp(ok)
	app.refuse = 404
	r := start(t, app)
	wait(t, "join", r.owners.ups)
	r.owners.send(actorCall(1, "x", "/m", "[]"))
	a := wait(t, "answer", r.owners.answers)
	if !a.ActivationFailed || body(a.Outcome) != "404 no such thing" {
		t.Fatalf("%+v %s", a, body(a.Outcome))
	}
	// It is not active: asking to deactivate it is answered without the app.
	r.owners.send(&runtime.Deactivate{Actor: runtime.Actor{App: "app/1", Type: "T", ID: "x"}, Epoch: 5})
	wait(t, "deactivated", r.owners.inactive)
	for _, s := range app.requests() {
		if strings.HasPrefix(s, "DELETE") || strings.HasPrefix(s, "POST") {
			t.Fatal(s)
		}
	}
}

func TestRestartedAppIsActivatedAgain(t *testing.T) {
	var runs atomic.Int64
	app := newScriptApp(func(w http.ResponseWriter, r *http.Request) { runs.Add(1); ok(w, r) })
	r := start(t, app)
	wait(t, "join", r.owners.ups)
	r.owners.send(actorCall(1, "x", "/m", "[1]"))
	wait(t, "answer", r.owners.answers)
	app.forgetAll() // as a new process would have
	r.owners.send(actorCall(2, "x", "/m", "[2]"))
	if a := wait(t, "answer", r.owners.answers); body(a.Outcome) != "200 [2]" {
		t.Fatal(body(a.Outcome))
	}
	// A method that does not exist stays a 404, and is asked for once more at most.
	app.method = func(w http.ResponseWriter, r *http.Request) { runs.Add(1); http.Error(w, "no method", 404) }
	r.owners.send(actorCall(3, "x", "/nope", "[]"))
	if a := wait(t, "answer", r.owners.answers); body(a.Outcome) != "404 no method" || a.ActivationFailed {
		t.Fatal(body(a.Outcome))
	}
	if runs.Load() != 3 {
		t.Fatalf("%d runs", runs.Load())
	}
}

// TestParallelCallsOfARestartedApp: one of them finds out that the app has
// restarted, and all of them run.
func TestParallelCallsOfARestartedApp(t *testing.T) {
	var runs atomic.Int64
	app := newScriptApp(func(w http.ResponseWriter, r *http.Request) { runs.Add(1); ok(w, r) })
	r := start(t, app)
	wait(t, "join", r.owners.ups)
	n := 0
	for range 20 {
		app.forgetAll()
		for range 8 {
			n++
			r.owners.send(actorCall(n, "x", "/m", "[]"))
		}
		for range 8 {
			if a := wait(t, "answer", r.owners.answers); body(a.Outcome) != "200 []" {
				t.Fatal(body(a.Outcome))
			}
		}
	}
	if runs.Load() != int64(n) {
		t.Fatalf("%d runs of %d calls", runs.Load(), n)
	}
}

// TestAlwaysCreated: an app that answers every activation with "created" is
// believed when a method answers 404, which may come after effects.
func TestAlwaysCreated(t *testing.T) {
	var runs atomic.Int64
	r := start(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch q.Method {
		case "GET":
			w.WriteHeader(http.StatusCreated)
		case "POST":
			runs.Add(1)
			http.Error(w, "no", 404)
		}
	}))
	wait(t, "join", r.owners.ups)
	for n := range 4 {
		r.owners.send(actorCall(n+1, "x", "/m", "[]"))
		if a := wait(t, "answer", r.owners.answers); body(a.Outcome) != "404 no" {
			t.Fatal(body(a.Outcome))
		}
	}
	if runs.Load() != 4 {
		t.Fatalf("%d runs of 4 calls", runs.Load())
	}
}

// sees is a witness of restarts only.
type sees struct{ restarted, known bool }

func (s sees) Meet() {}
func (s sees) Answers(int) func() (bool, bool) {
	return func() (bool, bool) { return false, false }
}
func (s sees) Backlog() (waiting, most int, known bool) { return 0, 0, false }
func (s sees) Programs() func() (bool, bool) {
	return func() (bool, bool) { return s.restarted, s.known }
}

// TestMethodThatForgetsItsActor: its 404 comes after effects. Only a restart of the
// app would be a reason to run it again, and none is one to do so without end.
func TestMethodThatForgetsItsActor(t *testing.T) {
	for witness, most := range map[sees]int64{{false, true}: 1, {true, true}: 2, {false, false}: 2} {
		var runs atomic.Int64
		var app *scriptApp
		app = newScriptApp(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/close") {
				runs.Add(1)
				app.forgetAll()
				http.Error(w, "no such account", 404)
				return
			}
			ok(w, r)
		})
		r := start(t, app, func(_ *rig, _ *activator.Config, c *host.Config) { c.Witness = witness })
		wait(t, "join", r.owners.ups)
		r.owners.send(actorCall(1, "x", "/close", "[]"))
		if a := wait(t, "answer", r.owners.answers); body(a.Outcome) != "404 no such account" {
			t.Fatalf("%v: %s", witness, body(a.Outcome))
		}
		if runs.Load() > most {
			t.Errorf("%v: %d runs", witness, runs.Load())
		}
		r.owners.send(actorCall(2, "x", "/m", "[2]"))
		if a := wait(t, "answer", r.owners.answers); body(a.Outcome) != "200 [2]" {
			t.Errorf("%v: %s", witness, body(a.Outcome))
		}
	}
}

func TestDeactivate(t *testing.T) {
	app := newScriptApp(ok)
	r := start(t, app)
	wait(t, "join", r.owners.ups)
	r.owners.send(actorCall(1, "a/b?c#d% e😀+", "/m", "[1]"))
	wait(t, "answer", r.owners.answers)
	actor := runtime.Actor{App: "app/1", Type: "T", ID: "a/b?c#d% e😀+"}
	asked := runtime.Deactivate{Actor: actor, Epoch: 5, Asking: 1}
	r.owners.send(&asked)
	if m := wait(t, "deactivated", r.owners.inactive); m != asked {
		t.Fatal(m)
	}
	seen := app.requests()
	want := "DELETE /kar/impl/v1/actor/T/a%2Fb%3Fc%23d%25%20e%F0%9F%98%80+"
	if seen[len(seen)-1] != want {
		t.Fatalf("got %q, want %q", seen[len(seen)-1], want)
	}
	r.owners.send(actorCall(2, actor.ID, "/m?x=1", "[1]"))
	wait(t, "answer", r.owners.answers)
	seen = app.requests()
	if got := seen[len(seen)-1]; got != "POST /kar/impl/v1/actor/T/a%2Fb%3Fc%23d%25%20e%F0%9F%98%80+/m?x=1&session=f:"+id(2).String() {
		t.Fatal(got)
	}
	if app.gets.Load() != 2 {
		t.Fatal("it was not activated again")
	}
}

func TestJoinAfterStreamLoss(t *testing.T) {
	entered, release := make(chan struct{}, 10), make(chan struct{})
	app := newScriptApp(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/slow") {
			entered <- struct{}{}
			<-release
		}
		ok(w, r)
	})
	r := start(t, app)
	wait(t, "join", r.owners.ups)
	slow, quick, late := actorCall(1, "x", "/slow", "[1]"), actorCall(2, "y", "/quick", "[2]"), actorCall(3, "z", "/slow", "[3]")
	r.owners.send(slow)
	r.owners.send(quick)
	r.owners.send(late)
	wait(t, "quick answer", r.owners.answers)
	wait(t, "slow start", entered)
	wait(t, "late start", entered)
	r.proxy.cut(true)
	wait(t, "link down", r.owners.linkDown)
	release <- struct{}{} // one of the two ends while nobody is attached
	r.proxy.cut(false)
	u := wait(t, "second join", r.owners.ups)
	if len(u.join.Running)+len(u.join.Finished) != 3 || len(u.join.Instances) != 3 {
		t.Fatalf("join %+v", u.join)
	}
	told := map[runtime.ID]bool{}
	for _, f := range u.join.Finished {
		told[f.Attempt.ID] = true
	}
	close(release)
	for range len(u.join.Running) {
		a := wait(t, "answer after the join", r.owners.answers)
		if told[a.Attempt.ID] {
			t.Fatalf("%v was told twice", a.Attempt)
		}
		told[a.Attempt.ID] = true
	}
	if len(told) != 3 {
		t.Fatalf("told of %d attempts", len(told))
	}
	// What was taken is not told again.
	r.owners.send(&runtime.Taken{Attempts: []runtime.Attempt{slow.Attempt, quick.Attempt, late.Attempt}})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.host.DrainAttempts(ctx); err != nil {
		t.Fatal(err)
	}
	r.proxy.cut(false)
	if u := wait(t, "third join", r.owners.ups); len(u.join.Finished)+len(u.join.Running) != 0 || !u.info.Draining {
		t.Fatalf("join %+v", u)
	}
}

func TestOldEpochIsRefused(t *testing.T) {
	app := newScriptApp(ok)
	r := start(t, app)
	wait(t, "join", r.owners.ups)
	r.owners.send(&runtime.JoinAsk{Epochs: []runtime.PartitionEpoch{{Partition: 0, Epoch: 9}}})
	old := actorCall(1, "x", "/m", "[]")
	r.owners.send(old)
	r.owners.send(&runtime.Deactivate{Actor: old.Target.Actor(), Epoch: 8})
	fresh := actorCall(2, "x", "/m", "[]")
	fresh.Epoch = 9
	r.owners.send(fresh)
	if a := wait(t, "answer", r.owners.answers); a.Attempt != fresh.Attempt {
		t.Fatal(a)
	}
	if len(r.owners.answers) != 0 || len(r.owners.inactive) != 0 {
		t.Fatal("a message of an old epoch was obeyed")
	}
}

func TestLargeBodiesDoNotBlockSmallCalls(t *testing.T) {
	app := newScriptApp(ok)
	r := start(t, app)
	wait(t, "join", r.owners.ups)
	big := bytes.Repeat([]byte{0, 1, 254, 255}, 1<<20)
	const n = 4
	for i := range n {
		r.owners.send(serviceCall(1000+i, "POST", "/big", big))
	}
	for i := range 50 {
		r.owners.send(serviceCall(i, "POST", "/small", []byte{byte(i), 0xff}))
	}
	want := sha256.Sum256(big)
	bigs, smalls, smallsFirst := 0, 0, 0
	for range n + 50 {
		a := wait(t, "answer", r.owners.answers)
		if len(a.Outcome.Body) > 10 {
			bigs++
			if sha256.Sum256(a.Outcome.Body) != want {
				t.Fatal("a large body was changed")
			}
			continue
		}
		smalls++
		if bigs == 0 {
			smallsFirst++
		}
	}
	if bigs != n || smalls != 50 || smallsFirst < 25 {
		t.Fatalf("%d large, %d small, %d of them before any large one", bigs, smalls, smallsFirst)
	}
}

func TestAnswersOverTheKeepLimitAreLost(t *testing.T) {
	app := newScriptApp(ok)
	r := start(t, app, func(_ *rig, _ *activator.Config, h *host.Config) { h.KeepLimit = 3000 })
	wait(t, "join", r.owners.ups)
	for i := range 3 {
		r.owners.send(serviceCall(i+1, "POST", "/", bytes.Repeat([]byte("x"), 2000)))
		wait(t, "answer", r.owners.answers)
	}
	r.proxy.cut(false)
	u := wait(t, "join", r.owners.ups)
	lost := 0
	for _, f := range u.join.Finished {
		if f.Outcome == nil {
			lost++
		}
	}
	if len(u.join.Finished) != 3 || lost != 2 {
		t.Fatalf("%d finished, %d lost, the first %s", len(u.join.Finished), lost, body(u.join.Finished[0].Outcome))
	}
}

// What a host says over a stream that it has left is told from what it says now.
func TestStreamsAreNumbered(t *testing.T) {
	r := start(t, newScriptApp(ok))
	for n := range uint64(3) {
		if u := wait(t, "join", r.owners.ups); u.info.Attachment != n+1 {
			t.Fatalf("the stream %d has the number %d", n+1, u.info.Attachment)
		}
		r.proxy.cut(false)
	}
}

func TestExitReports(t *testing.T) {
	r := start(t, newScriptApp(ok))
	wait(t, "join", r.owners.ups)
	wait(t, "ready", r.host.Ready())
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := host.ReportExit(ctx, "http://"+r.proxy.addr(), host.Access{}, "other", "killed"); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, "exit", r.owners.downs); got != "other: killed" {
		t.Fatal(got)
	}
	if err := r.host.Exit(ctx, "exit code 3"); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, "exit", r.owners.downs); got != "boot-1: exit code 3" {
		t.Fatal(got)
	}
	if len(r.owners.linkDown) != 0 {
		t.Fatal("an exit was reported as a broken stream")
	}
}

// Of an app that listens outside of the tree the end of the tree is no proof: while
// something runs in it, nothing is reported and the owners wait for the lease.
func TestExitOfATreeWithoutTheApp(t *testing.T) {
	entered, release := make(chan struct{}, 1), make(chan struct{})
	r := start(t, newScriptApp(func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-release
		ok(w, r)
	}))
	t.Cleanup(func() { close(release) })
	wait(t, "join", r.owners.ups)
	r.host.Unguarded()
	r.owners.send(actorCall(1, "x", "/slow", "[]"))
	wait(t, "the start", entered)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var e *runtime.Error
	if err := r.host.Exit(ctx, "exit code 0"); !errors.As(err, &e) || e.Code != runtime.CodeHostLost {
		t.Errorf("the exit is taken: %v", err)
	}
	wait(t, "the broken stream", r.owners.linkDown)
	if len(r.owners.downs) != 0 {
		t.Errorf("it was reported: %s", <-r.owners.downs)
	}
}

func TestLostBootEnds(t *testing.T) {
	r := start(t, newScriptApp(ok), func(r *rig, _ *activator.Config, _ *host.Config) {
		r.owners.upErr = runtime.Errorf(runtime.CodeHostLost, "late")
	})
	if got := wait(t, "kill", r.guard.did); got != "kill" {
		t.Fatal(got)
	}
	err := wait(t, "end", r.ran)
	r.ran <- nil
	var e *runtime.Error
	if !errors.As(err, &e) || e.Code != runtime.CodeHostLost {
		t.Fatal(err)
	}
}

// TestDeactivateWaitsForAttempts: after a purge the owner ends an instance
// while an attempt that it has given up still runs there.
func TestDeactivateWaitsForAttempts(t *testing.T) {
	entered, release := make(chan struct{}, 10), make(chan struct{})
	app := newScriptApp(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/slow") {
			entered <- struct{}{}
			<-release
		}
		ok(w, r)
	})
	app.actGate = make(chan struct{})
	r := start(t, app)
	free := sync.OnceFunc(func() { close(release) })
	t.Cleanup(free)
	wait(t, "join", r.owners.ups)
	slow, also := actorCall(1, "x", "/slow", "[1]"), actorCall(2, "x", "/slow", "[2]")
	end := func(n uint64) *runtime.Deactivate {
		return &runtime.Deactivate{Actor: slow.Target.Actor(), Epoch: 5, Asking: n}
	}
	r.owners.send(slow)
	r.owners.send(also)
	r.owners.send(end(7)) // while it is activated
	close(app.actGate)
	wait(t, "slow start", entered)
	wait(t, "slow start", entered)
	r.owners.send(end(8))
	// The reader goes on, and a call that the slow one may wait for runs.
	r.owners.send(actorCall(3, "x", "/nested", "[3]"))
	if a := wait(t, "nested answer", r.owners.answers); body(a.Outcome) != "200 [3]" {
		t.Fatal(body(a.Outcome))
	}
	release <- struct{}{} // one of the two is not enough
	wait(t, "answer", r.owners.answers)
	r.owners.send(actorCall(4, "y", "/other", "[4]"))
	wait(t, "answer of another", r.owners.answers)
	none(t, "deactivation", r.owners.inactive, 20*time.Millisecond)
	free()
	wait(t, "answer", r.owners.answers)
	if m := wait(t, "deactivated", r.owners.inactive); m != *end(8) {
		t.Fatalf("%+v is not what was asked last", m)
	}
	var order []string
	for _, s := range app.requests() {
		if strings.Contains(s, "/T/x") {
			order = append(order, strings.Fields(s)[0])
		}
	}
	if got := strings.Join(order, " "); got != "GET POST POST POST DELETE" {
		t.Fatal(got)
	}
	// Twice asked, once done; and the next call activates again.
	r.owners.send(actorCall(5, "x", "/m", "[5]"))
	wait(t, "answer", r.owners.answers)
	if len(r.owners.inactive) != 0 || app.gets.Load() != 3 {
		t.Fatalf("%d more deactivations, %d activations", len(r.owners.inactive), app.gets.Load())
	}
}

// What counts a host lost that has reported its end comes too late to mean anything.
func TestVerdictAfterTheEnd(t *testing.T) {
	r := start(t, http.NotFoundHandler())
	wait(t, "host", r.owners.ups)
	wait(t, "ready", r.host.Ready())
	r.owners.mu.Lock()
	r.owners.onDown = func() { r.owners.send(&runtime.Verdict{Reason: "it was not heard of"}) }
	r.owners.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := r.host.Exit(ctx, "the process exited"); err != nil {
		t.Error(err)
	}
	err := wait(t, "end", r.ran)
	r.ran <- err // for the rig
	if err != nil {
		t.Errorf("the host ended with %v", err)
	}
	select {
	case did := <-r.guard.did:
		t.Errorf("the guard was told to %s", did)
	default:
	}
}
