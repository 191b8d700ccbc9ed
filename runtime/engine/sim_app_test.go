package engine_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// A simAsk is a request of the app without an answer: it is sent again under its id on
// each new stream.
type simAsk struct {
	open  bool // an earlier try may have been accepted
	tries int
	send  func(*simLink)
	done  chan simAnswer
}

type simAnswer struct {
	value any
	err   error
}

// ask has some gateway do something, over however many streams it takes.
func (h *simHost) ask(do func(ctx context.Context, m *engine.Mesh) (any, error)) (any, error) {
	a := &simAsk{done: make(chan simAnswer, 1)}
	h.mu.Lock()
	h.seq++
	seq := h.seq
	a.send = func(l *simLink) {
		l.toNode(func() {
			h.w.spawn(func() {
				v, err := do(l.over, l.n.mesh)
				l.toHost(func() { h.response(seq, simAnswer{v, err}) })
			})
		})
	}
	h.asks[seq] = a
	if h.link != nil {
		a.send(h.link)
	}
	h.mu.Unlock()
	select {
	case x := <-a.done:
		return x.value, x.err
	case <-h.over.Done():
		return nil, errDead
	}
}

func (h *simHost) response(seq uint64, x simAnswer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.asks[seq]
	if a == nil {
		return
	}
	var e *runtime.Error
	if errors.As(x.err, &e) && e.Code.Status() == 503 && (e.Code == runtime.CodeAskAgain || a.open) {
		a.open = true
		pause := min(20*time.Millisecond<<min(a.tries, 6), time.Second)
		a.tries++
		h.w.spawn(func() {
			if sleepFor(h.over, pause) {
				h.mu.Lock()
				defer h.mu.Unlock()
				if h.link != nil && h.asks[seq] == a {
					a.send(h.link)
				}
			}
		})
		return
	}
	delete(h.asks, seq)
	a.done <- x
}

// simTarget is an actor of a level, or the service: what it calls is one level below, so
// that no two flows wait for each other.
func (w *world) simTarget(level int) runtime.Target {
	if w.dice.oneIn(6) {
		return runtime.Target{App: "app", Service: "s"}
	}
	return runtime.Target{App: "app", Type: "A", ID: fmt.Sprintf("%d-%d", level, w.dice.n(6))}
}

func (w *world) newRequest(level int) *runtime.Request {
	t := w.simTarget(level)
	r := &runtime.Request{Target: t, Method: "POST", Path: fmt.Sprint("/m", level), Body: []byte("[]")}
	if w.dice.oneIn(8) {
		r.Body = make([]byte, w.dice.n(6000))
	}
	r.ID = engine.NewID(time.Now(), t, "", w.parts)
	return r
}

// serve is the app: a method takes its time, remembers something, and calls others.
func (h *simHost) serve(m *runtime.Invoke, r *simRun) *runtime.Outcome {
	w, d := h.w, h.w.dice
	level := 0
	_, _ = fmt.Sscanf(m.Path, "/m%d", &level)
	wait := d.between(0, 200*time.Millisecond)
	switch {
	case w.isCalm():
	case d.oneIn(60):
		wait = d.between(5*time.Second, 25*time.Second)
	case d.oneIn(8):
		wait = d.between(0, 4*time.Second)
	}
	if !sleepFor(h.over, wait/2) || !h.step() {
		return nil
	}
	if m.Target.IsActor() && m.Target.App == "app" && m.Path != "/rem" && m.Path != "/ev" && d.oneIn(3) && !h.remember(m, r) {
		return nil
	}
	if level > 0 {
		switch what := d.n(10); {
		case what < 4:
			if !h.nest(m, r, level, 1) {
				return nil
			}
		case what == 4:
			if !h.nest(m, r, level, 3) {
				return nil
			}
		case what == 5:
			if !h.tell(m, level) {
				return nil
			}
		case what == 6:
			t := w.simTarget(level - 1)
			if t.IsActor() {
				return ok(fmt.Sprintf(`{"tailCall":true,"value":{"actorType":"A","actorId":%q,"path":"/m%d","payload":"[]"}}`, t.ID, level-1))
			}
		}
	}
	if !sleepFor(h.over, wait/2) || !h.step() {
		return nil
	}
	return ok(fmt.Sprintf(`{"value":%q}`, r.token()))
}

// nest makes calls at once, and waits for all of them.
func (h *simHost) nest(m *runtime.Invoke, r *simRun, level, n int) bool {
	var all sync.WaitGroup
	for range n {
		q := h.w.newRequest(level - 1)
		q.Session, q.Boot = m.Session, h.boot
		if m.Session != "" { // of a service, which has none, nobody knows whose call it is
			h.w.judge.child(q.ID, r)
		}
		all.Go(func() {
			v, err := h.ask(func(ctx context.Context, m *engine.Mesh) (any, error) {
				again := *q
				return m.Call(ctx, &again)
			})
			if err == nil && !h.dead() {
				o, _ := v.(*runtime.Outcome)
				h.w.judge.outcome(q.ID, o)
				h.mu.Lock()
				h.got = append(h.got, q.ID)
				h.mu.Unlock()
			}
			h.w.judge.childAnswered(q.ID, err)
		})
	}
	all.Wait()
	return h.step()
}

// tell sends something on that nobody waits for.
func (h *simHost) tell(m *runtime.Invoke, level int) bool {
	q := h.w.newRequest(level - 1)
	q.Session, q.Boot, q.Kind = m.Session, h.boot, runtime.Tell
	_, err := h.ask(func(ctx context.Context, m *engine.Mesh) (any, error) {
		again := *q
		return m.Accept(ctx, &again)
	})
	if err == nil && !h.dead() {
		h.w.judge.accepted(q.ID)
	}
	return h.step()
}

// remember reads what the actor remembers and writes something else.
func (h *simHost) remember(m *runtime.Invoke, r *simRun) bool {
	a := m.Target.Actor()
	id := func() runtime.ID { return engine.NewID(time.Now(), m.Target, "", h.w.parts) }
	v, err := h.ask(func(ctx context.Context, m *engine.Mesh) (any, error) {
		return m.State(ctx, runtime.StateOp{Actor: a, Verb: runtime.StateGet, Key: "k", Boot: h.boot})
	})
	if !h.step() {
		return false
	}
	if res, ok := v.(*runtime.StateResult); ok && err == nil {
		h.w.judge.read(r, a, string(res.Value))
	}
	value, write := r.token(), id()
	h.w.judge.writing(a, value)
	_, err = h.ask(func(ctx context.Context, m *engine.Mesh) (any, error) {
		return m.State(ctx, runtime.StateOp{Actor: a, Verb: runtime.StateSet, Key: "k", Value: []byte(value), Boot: h.boot, ID: write})
	})
	if !h.step() {
		return false
	}
	if err == nil {
		h.w.judge.written(a, value)
	}
	return true
}

// A simClient is outside of the mesh: it asks some gateway, and asks again under the same
// id until it has an answer.
type simClient struct {
	w    *world
	name string
	told int
	mine map[string]string
}

func newSimClient(w *world, n int) *simClient { return &simClient{w: w, name: fmt.Sprint("c", n)} }

func (c *simClient) run() {
	w, d := c.w, c.w.dice
	for i := 0; !w.isCalm() && w.over.Err() == nil; i++ {
		sleepFor(w.over, d.between(0, 800*time.Millisecond))
		switch what := d.n(20); {
		case what >= 18:
			c.once()
		case what == 13, what == 14:
			c.remind()
		case what == 15, what == 16:
			c.fields()
		case what == 17:
			c.events()
		case what < 5:
			c.call(w.newRequest(d.n(4)))
		case what == 10:
			c.keyed()
		case what == 11:
			r := w.newRequest(d.n(3))
			r.Deadline = time.Now().Add(d.between(10*time.Millisecond, 3*time.Second)).UnixMilli()
			w.judge.limited(r.ID)
			c.call(r)
		case what == 12:
			c.cancelled()
		case what < 7:
			r := w.newRequest(d.n(3))
			r.Kind = runtime.Tell
			c.accept(r)
		case what == 7:
			c.inOrder()
		case what == 8:
			c.state(i)
		case w.kind.bursts:
			c.burst()
		}
	}
}

// insist asks gateways until one answers for good.
func (c *simClient) insist(what string, do func(context.Context, *engine.Mesh) error) bool {
	for began := time.Now(); c.w.over.Err() == nil; {
		n := c.w.anyNode()
		if n == nil || n.pass() != nil {
			sleepFor(c.w.over, 100*time.Millisecond)
			continue
		}
		ctx, cancel := context.WithTimeout(n.ended, c.w.dice.between(time.Second, 40*time.Second))
		err := do(ctx, n.mesh)
		over := ctx.Err() != nil
		cancel()
		var e *runtime.Error
		switch {
		case n.dead() || over:
		case err == nil:
			return true
		case errors.As(err, &e) && (e.Code.Status() == 503 || e.Code == runtime.CodeUnknownOutcome || e.Code == runtime.CodeMailboxFull):
		default:
			c.w.judge.fault("%s of %s after %s: %v", what, c.name, time.Since(began), err)
			return false
		}
		sleepFor(c.w.over, c.w.dice.between(10*time.Millisecond, 300*time.Millisecond))
	}
	return false
}

func (c *simClient) call(r *runtime.Request) {
	c.w.judge.wanted(r.ID)
	c.insist("call "+r.ID.String(), func(ctx context.Context, m *engine.Mesh) error {
		again := *r
		o, err := m.Call(ctx, &again)
		if err == nil {
			c.w.judge.outcome(r.ID, o)
		}
		return err
	})
}

func (c *simClient) accept(r *runtime.Request) bool {
	return c.insist("acceptance of "+r.ID.String(), func(ctx context.Context, m *engine.Mesh) error {
		again := *r
		_, err := m.Accept(ctx, &again)
		if err == nil {
			c.w.judge.accepted(r.ID)
		}
		return err
	})
}

// keyed calls under a key that others use as well.
func (c *simClient) keyed() {
	key := fmt.Sprint("k", c.w.dice.n(40))
	t := runtime.Target{App: "app", Type: "A", ID: key}
	r := &runtime.Request{Target: t, Method: "POST", Path: "/m0", Body: []byte("[]"), Key: key}
	r.ID = engine.NewID(time.Now(), t, key, c.w.parts)
	c.w.judge.keyed(r.ID, key)
	c.insist("call under "+key, func(ctx context.Context, m *engine.Mesh) error {
		again := *r
		o, err := m.Call(ctx, &again)
		if err == nil {
			c.w.judge.outcome(again.ID, o)
			c.w.judge.same(key, again.ID)
		}
		return err
	})
}

// cancelled sends a tell that is to begin later, and withdraws it.
func (c *simClient) cancelled() {
	r := c.w.newRequest(0)
	r.Kind, r.NotBefore = runtime.Tell, time.Now().Add(c.w.dice.between(0, 2*time.Second)).UnixMilli()
	if !c.accept(r) {
		return
	}
	sleepFor(c.w.over, c.w.dice.between(0, 3*time.Second))
	c.insist("cancel", func(ctx context.Context, m *engine.Mesh) error {
		how, err := m.Cancel(ctx, "app", r.ID)
		if err == nil {
			c.w.trace.say("%s: %s", r.ID, how)
			c.w.judge.cancelled(r.ID, how)
		}
		return err
	})
}

// once sends a tell and gives it up when it is refused: then it was not accepted.
func (c *simClient) once() {
	r := c.w.newRequest(0)
	r.Kind = runtime.Tell
	n := c.w.anyNode()
	if n == nil || n.pass() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(n.ended, time.Minute)
	defer cancel()
	_, err := n.mesh.Accept(ctx, r)
	switch {
	case n.dead() || ctx.Err() != nil || is(err, runtime.CodeUnknownOutcome) || is(err, runtime.CodeAskAgain):
	case err == nil:
		c.w.judge.accepted(r.ID)
	default:
		c.w.trace.say("%s is refused: %v", r.ID, err)
		c.w.judge.refused(r.ID)
	}
}

// inOrder sends some tells to one actor, each when the one before is accepted.
func (c *simClient) inOrder() {
	t := runtime.Target{App: "app", Type: "A", ID: fmt.Sprint("q-", c.name)}
	for range 2 + c.w.dice.n(5) {
		c.told++
		r := &runtime.Request{Target: t, Kind: runtime.Tell, Method: "POST", Path: "/m0", Body: []byte("[]")}
		r.ID = engine.NewID(time.Now(), t, "", c.w.parts)
		c.w.judge.ordered(r.ID, c.name, c.told)
		if !c.accept(r) {
			return
		}
	}
}

// state writes and reads what only this client uses.
func (c *simClient) state(i int) {
	a := runtime.Actor{App: "app", Type: "A", ID: "s-" + c.name}
	value := fmt.Sprint(i)
	set := func(ctx context.Context, m *engine.Mesh) error {
		_, err := m.State(ctx, runtime.StateOp{Actor: a, Verb: runtime.StateSet, Key: "k", Value: []byte(value)})
		return err
	}
	get := func(ctx context.Context, m *engine.Mesh) error {
		res, err := m.State(ctx, runtime.StateOp{Actor: a, Verb: runtime.StateGet, Key: "k"})
		if err == nil && string(res.Value) != value && ctx.Err() == nil {
			c.w.judge.fault("%s reads %q of its state, acknowledged was %q", c.name, res.Value, value)
		}
		return err
	}
	if c.insist("write", set) {
		c.insist("read", get)
	}
}

// burst has many tells accepted at once, to actors of their own.
func (c *simClient) burst() {
	var all sync.WaitGroup
	n := 10 + c.w.dice.n(100)
	if c.w.dice.oneIn(20) {
		n = 2500 // more than one round
	}
	c.w.trace.say("%s sends %d tells at once", c.name, n)
	for i := range n {
		t := runtime.Target{App: "app", Type: "A", ID: fmt.Sprint("b-", i)}
		r := &runtime.Request{Target: t, Kind: runtime.Tell, Method: "POST", Path: "/m0", Body: []byte("[]")}
		r.ID = engine.NewID(time.Now(), t, "", c.w.parts)
		all.Go(func() { c.accept(r) })
	}
	all.Wait()
}
