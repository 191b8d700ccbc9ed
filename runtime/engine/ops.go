package engine

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/karmesh/kar/runtime"
)

// This file brings a question to the owner of a partition, here or at another
// gateway, and answers the questions of others.

const (
	// askPause is how long to wait before asking again when nothing says that it would help sooner.
	askPause = 20 * time.Millisecond
	// askOften is for how long it is asked that often.
	askOften = 15 * time.Second
	// ownerPatience is how long a request that was certainly not accepted waits
	// for its partition to have an owner.
	ownerPatience = 10 * time.Second
)

// do asks the owner of a partition until it answers, whoever that is. An op is
// asked again when the answer was lost, so requests and changes carry ids.
func (m *Mesh) do(ctx context.Context, op *Op) (reply, error) {
	var giveUp time.Time
	if op.Submit != nil {
		c := m.memory.charge(len(op.Submit.Request.Body))
		defer c.release()
		if err := m.memory.door(&op.Submit.Request, nil); err != nil {
			return reply{}, err
		}
		ctx = charged(ctx, c)
	}
	open := false // an earlier try may have been accepted
	for began := time.Now(); ; {
		rep, err := m.once(ctx, op)
		if err == nil || ctx.Err() != nil {
			if err != nil {
				err = ctx.Err()
			}
			return rep, err
		}
		now := time.Now()
		switch code(err) {
		case runtime.CodeAskAgain:
			open, giveUp = true, time.Time{}
		case runtime.CodeNotOwner:
			if down := m.part(op.Partition).down.Load(); !open && down != nil && down.Code == runtime.CodeDamaged {
				return reply{}, down
			}
			if giveUp.IsZero() {
				giveUp = now.Add(ownerPatience)
			} else if !open && now.After(giveUp) {
				return reply{}, runtime.Errorf(runtime.CodeUnavailable, "partition %d has no owner now", op.Partition)
			}
		case runtime.CodeUnavailable, runtime.CodeStoreAway:
			if !open { // else this says nothing about the earlier try
				return rep, err
			}
		case runtime.CodeShutdown:
			if open {
				err = &runtime.Error{Code: runtime.CodeUnknownOutcome, Detail: "the gateway stopped while the request was under way; it goes on when a gateway runs", ID: op.requestID()}
			}
			return rep, err
		default:
			return rep, err
		}
		m.pause(ctx, op.Partition, time.Since(began))
	}
}

func (op *Op) requestID() runtime.ID {
	if op.Submit != nil {
		return op.Submit.Request.ID
	}
	return runtime.ID{}
}

// pause waits a little, or until the partition has another owner. Who has waited
// for long asks once a second.
func (m *Mesh) pause(ctx context.Context, p uint16, waited time.Duration) {
	wait := askPause
	if waited > askOften {
		wait = time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	m.dir.wait(ctx, p, m.dir.of(p))
}

// once asks whoever seems to be the owner. CodeNotOwner: certainly nothing has
// happened. CodeAskAgain: that is not known.
func (m *Mesh) once(ctx context.Context, op *Op) (reply, error) {
	p := m.part(op.Partition)
	if p == nil {
		return reply{}, runtime.Errorf(runtime.CodeNotFound, "there is no partition %d", op.Partition)
	}
	if m.cfg.Shared == nil {
		return p.exec(ctx, op)
	}
	o := m.dir.of(op.Partition)
	switch o.node {
	case m.cfg.Node:
		return p.exec(ctx, op)
	case "":
		return reply{}, runtime.Errorf(runtime.CodeNotOwner, "partition %d has no owner", op.Partition)
	}
	ask := *op
	ask.Epoch = o.epoch
	m.tally.forwarded.Add(1)
	res, err := m.peers.Ask(ctx, o.node, &ask)
	if err != nil {
		return reply{}, err
	}
	if res.Err != nil && res.Err.Code == runtime.CodeNotOwner && m.dir.of(op.Partition) == o {
		m.dir.gone(op.Partition, o.node)
		m.owned.nudge()
	}
	return res.reply(op)
}

// exec answers an op that is for this owner.
func (p *partition) exec(ctx context.Context, op *Op) (reply, error) {
	switch {
	case op.Submit != nil:
		return p.submit(ctx, op.Submit)
	case op.Await != nil:
		return p.await(ctx, op.Await)
	case op.State != nil:
		return p.state(ctx, op.State)
	case op.Known != nil:
		return p.known(ctx, op.Known)
	case op.Publish != nil:
		return p.publish(ctx, op.Publish)
	case op.HandOver != nil:
		return reply{}, runtime.Errorf(runtime.CodeInternal, "nobody asks itself to hand over")
	}
	w := newWaiter()
	in := op.input(w)
	if in == nil {
		return reply{}, runtime.Errorf(runtime.CodeUnsupported, "this gateway does not know the question; it is older than the asking one")
	}
	rep, err := p.ask(ctx, w, in)
	if err != nil && ctx.Err() != nil {
		switch {
		case op.Drain != nil:
			p.push(&runtime.Leave{ID: op.Drain.ID, Waiter: w})
		case op.CancelAll != nil:
			p.push(&runtime.Leave{ID: op.CancelAll.ID, Waiter: w})
		}
	}
	return rep, err
}

// input is the op as the core takes it, for those that need nothing else.
func (op *Op) input(w *waiter) runtime.Input {
	switch {
	case op.Cancel != nil:
		in := *op.Cancel
		in.Waiter = w
		return &in
	case op.SetReminder != nil:
		in := *op.SetReminder
		in.Waiter = w
		return &in
	case op.CancelReminders != nil:
		in := *op.CancelReminders
		in.Waiter = w
		return &in
	case op.Subscribe != nil:
		return &runtime.Subscribe{Subscription: *op.Subscribe, Boot: op.Boot, ID: op.ID, Waiter: w}
	case op.Unsubscribe != nil:
		in := *op.Unsubscribe
		in.Waiter = w
		return &in
	case op.Purge != nil:
		in := *op.Purge
		in.Waiter = w
		return &in
	case op.Drain != nil:
		in := *op.Drain
		in.Waiter = w
		return &in
	case op.CancelAll != nil:
		in := *op.CancelAll
		in.Waiter = w
		return &in
	case op.SetService != nil:
		in := *op.SetService
		in.Waiter = w
		return &in
	case op.Query != nil:
		in := *op.Query
		in.Waiter = w
		return &in
	}
	return nil
}

// answerType is what the reply's value is, for reading it from JSON.
func (op *Op) answerType() reflect.Type {
	switch {
	case op.Cancel != nil:
		return reflect.TypeFor[string]()
	case op.SetReminder != nil, op.Subscribe != nil, op.SetService != nil, op.Purge != nil:
		return reflect.TypeFor[bool]()
	case op.Publish != nil:
		return reflect.TypeFor[bool]()
	case op.CancelReminders != nil, op.Unsubscribe != nil, op.Drain != nil, op.CancelAll != nil:
		return reflect.TypeFor[int]()
	case op.Known != nil:
		return reflect.TypeFor[[]runtime.Actor]()
	case op.Query != nil:
		return queryAnswer(op.Query)
	}
	return nil
}

func queryAnswer(q *runtime.Query) reflect.Type {
	switch q.Kind {
	case runtime.QueryReminders:
		return reflect.TypeFor[[]runtime.Reminder]()
	case runtime.QuerySubscriptions:
		return reflect.TypeFor[[]runtime.Subscription]()
	case runtime.QueryActive:
		if q.Limit > 0 {
			return reflect.TypeFor[activeAnswer]()
		}
		return reflect.TypeFor[[]runtime.Actor]()
	case runtime.QueryMissing:
		return reflect.TypeFor[[]runtime.MissingComponent]()
	case runtime.QueryRequest:
		return reflect.TypeFor[runtime.RequestFacts]()
	case runtime.QueryGroups:
		return reflect.TypeFor[[]runtime.GroupCursor]()
	case runtime.QueryServices:
		return reflect.TypeFor[[]runtime.ServiceFact]()
	case runtime.QueryGauges:
		return reflect.TypeFor[runtime.Gauges]()
	case runtime.QueryIdle:
		return reflect.TypeFor[bool]()
	}
	return reflect.TypeFor[uint64]() // QueryGeneration
}

// result is a reply for the wire.
func result(rep reply, err error) *Result {
	if err != nil {
		switch code(err) {
		case runtime.CodeAskAgain, runtime.CodeShutdown, runtime.CodeUnknownOutcome: // of this gateway, which is no end to the asking
			return &Result{Err: runtime.Errorf(runtime.CodeAskAgain, "%v", err)}
		}
		return &Result{Err: asError(err)}
	}
	res := &Result{Outcome: rep.outcome, Open: rep.open, ID: rep.id}
	switch v := rep.value.(type) {
	case nil:
	case runtime.StateResult:
		res.State = &v
	default:
		b, err := json.Marshal(v)
		if err != nil {
			return &Result{Err: runtime.Errorf(runtime.CodeInternal, "the answer cannot be sent: %v", err)}
		}
		res.Value = b
	}
	return res
}

// reply is what came over the wire.
func (res *Result) reply(op *Op) (reply, error) {
	if res.Err != nil {
		return reply{}, res.Err
	}
	rep := reply{outcome: res.Outcome, open: res.Open, id: res.ID}
	if res.State != nil {
		rep.value = *res.State
	}
	if t := op.answerType(); t != nil && res.Value != nil {
		v := reflect.New(t)
		if err := json.Unmarshal(res.Value, v.Interface()); err != nil {
			return reply{}, runtime.Errorf(runtime.CodeInternal, "the owner's answer cannot be read: %v", err)
		}
		rep.value = v.Elem().Interface()
	}
	return rep, nil
}

// submit decides one request here: directly, or, when its caller lives here and
// its target elsewhere, by passing it on.
func (p *partition) submit(ctx context.Context, op *SubmitOp) (reply, error) {
	r := &op.Request
	target := runtime.PartitionOf(r.Target, r.Key, r.ID, len(p.m.parts))
	if op.Vouched == nil && target != p.n {
		return p.passOn(ctx, r, target)
	}
	in := &runtime.Submit{Request: *r, Vouched: op.Vouched}
	if r.Key != "" {
		done := p.lookups.begin(r.ID)
		v, err := p.keyView(ctx, r)
		if err != nil {
			done()
			return reply{}, err
		}
		in.View = v
		defer done()
		if ctx.Err() != nil {
			return reply{}, ctx.Err()
		}
	}
	w := newWaiter()
	in.Waiter = w
	w.charge.Store(chargeOf(ctx).hold())
	rep, err := p.ask(ctx, w, in)
	if err != nil && ctx.Err() != nil {
		p.push(&runtime.Leave{ID: r.ID, Waiter: w})
	}
	return rep, err
}

// passOn is what a request that lives here sends to another partition: the owner
// of the caller checks that it is current, remembers the child, and asks the
// child's owner until there is an answer: the outcome of a call; that a tell or
// promise is accepted.
func (p *partition) passOn(ctx context.Context, r *runtime.Request, target uint16) (rep reply, err error) {
	n := &nested{parent: p}
	open := false // an earlier try may have been accepted
	began := time.Now()
	for again := true; again; {
		var v *runtime.Vouched
		if v, err = n.vouch(ctx, r); err != nil {
			break
		}
		// Without a known caller it goes on as it came.
		op := &Op{Partition: target, Submit: &SubmitOp{Request: *r, Vouched: v}}
		rep, err = p.m.once(ctx, op)
		open = open || is(err, runtime.CodeAskAgain)
		again = is(err, runtime.CodeAskAgain) || is(err, runtime.CodeNotOwner)
		if again {
			p.m.pause(ctx, target, time.Since(began))
			again = ctx.Err() == nil
		}
	}
	n.close(r, err == nil && !rep.open && (rep.outcome == nil || rep.outcome.Code != runtime.CodePurged))
	switch code(err) {
	case runtime.CodeUnavailable, runtime.CodeStoreAway, runtime.CodeNotOwner, runtime.CodeShutdown:
		if open { // which says nothing about the earlier try
			err = runtime.Errorf(runtime.CodeAskAgain, "%v", err)
		}
	}
	return rep, err
}

// nested is a call from a request in another partition, whose owner remembers
// the child until it is closed: a retry of the parent waits for it.
type nested struct {
	parent  *partition
	parents []runtime.ID
	term    uint64 // of the owner that remembers it
}

// vouch asks the owner of the caller about a nested call. It waits for the
// answer even when ctx ends, for only the answer says who remembers the child.
func (n *nested) vouch(ctx context.Context, r *runtime.Request) (*runtime.Vouched, error) {
	w, child := newWaiter(), *r
	child.Body = nil // nobody reads it, and the question outlives who asks
	rep, err := n.parent.ask(context.WithoutCancel(ctx), w, &runtime.Vouch{Request: child, Parents: n.parents, Term: n.term, Waiter: w})
	if err != nil {
		return nil, err
	}
	v, _ := rep.value.(*runtime.Vouched)
	if v != nil {
		if n.term != v.Epoch {
			n.parents, n.term = nil, v.Epoch // a new owner finds what is open of older terms itself
		}
		for _, id := range v.Parents {
			if !slices.Contains(n.parents, id) {
				n.parents = append(n.parents, id)
			}
		}
	}
	return v, ctx.Err()
}

// close lets the parents go on when the child has its outcome; else it may
// still run although its caller was answered or went away, and is watched.
func (n *nested) close(child *runtime.Request, ended bool) {
	if ended && len(n.parents) > 0 {
		n.parent.push(&runtime.ChildClosed{Parents: n.parents, Child: child.ID})
		return
	}
	if len(n.parents) > 0 {
		n.parent.watch(child.ID, n.parents, child.Target.App, n.term)
	}
}

// await asks for an outcome here.
func (p *partition) await(ctx context.Context, a *runtime.Await) (reply, error) {
	if a.App != "" {
		rep, err := p.awaitWith(ctx, a, nil) // what is open, or has just ended, needs no store
		if !is(err, runtime.CodeAskAgain) {
			return rep, err
		}
		v, err := p.view(ctx, a.App, [][]byte{runtime.OutcomeInStore(a.ID)}, nil)
		if err != nil {
			return reply{}, err
		}
		return p.awaitWith(ctx, a, v)
	}
	if err := p.lookups.wait(ctx, a.ID); err != nil {
		return reply{}, err
	}
	return p.awaitWith(ctx, a, &runtime.View{})
}

func (p *partition) awaitWith(ctx context.Context, a *runtime.Await, v *runtime.View) (reply, error) {
	w := newWaiter()
	rep, err := p.ask(ctx, w, &runtime.Await{App: a.App, ID: a.ID, Boot: a.Boot, Waiter: w, View: v})
	if err != nil && ctx.Err() != nil {
		p.push(&runtime.Leave{ID: a.ID, Waiter: w})
	}
	return rep, err
}

// state reads or changes an actor's state here.
func (p *partition) state(ctx context.Context, op *runtime.StateOp) (reply, error) {
	for fresh := false; ; fresh = true {
		gen, err := p.generation(ctx, op.Actor.App, fresh)
		if err != nil {
			return reply{}, err
		}
		keys, prefix := runtime.StateKeys(op, gen)
		v, err := p.view(ctx, op.Actor.App, keys, prefix)
		if err != nil {
			return reply{}, err
		}
		v.Generation = gen
		for _, k := range keys {
			v.Keys = append(v.Keys, string(k))
		}
		w := newWaiter()
		rep, err := p.ask(ctx, w, &runtime.StateInput{Op: *op, View: v, Waiter: w})
		if !fresh && is(err, runtime.CodeAskAgain) {
			continue // a view that was too old; from then on the asker waits in between
		}
		if x, large := rep.value.(*runtime.StateScan); large {
			rep.value = runtime.StateResult{Fields: x.Fields()}
		}
		return rep, err
	}
}

// known lists actors with state here.
func (p *partition) known(ctx context.Context, op *KnownOp) (reply, error) {
	gen, err := p.generation(ctx, op.App, true)
	if err != nil {
		return reply{}, err
	}
	var as []runtime.Actor
	for read := false; !read; {
		a := p.applier.Load()
		at, err := a.caughtUp(ctx)
		if err != nil {
			return reply{}, err
		}
		err = p.m.cfg.Store.Read(ctx, p.n, func(s runtime.Snapshot) error {
			as = as[:0]
			last := runtime.Actor{}
			err := s.Scan(runtime.StatePrefix(op.App, gen, op.Type), func(k, _ []byte) bool {
				if a, ok := runtime.ActorOfKey(k, op.App, gen); ok && a != last {
					as, last = append(as, a), a
				}
				return ctx.Err() == nil
			})
			if read = s.Applied() >= at; !read { // it has fallen back since
				a.saw(s.Applied())
			}
			return err
		})
		if err != nil {
			return reply{}, storeAway(err)
		}
	}
	return reply{value: as}, nil
}

// lookups are keyed requests whose key is being looked up in the store before
// the core sees them: nobody may be told meanwhile that their id is unknown.
type lookups struct {
	mu  sync.Mutex
	ids map[runtime.ID]*lookup
}

type lookup struct {
	count int
	over  chan struct{}
}

// begin notes a lookup; the result ends it, once.
func (l *lookups) begin(id runtime.ID) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ids == nil {
		l.ids = map[runtime.ID]*lookup{}
	}
	x := l.ids[id]
	if x == nil {
		x = &lookup{over: make(chan struct{})}
		l.ids[id] = x
	}
	x.count++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if x.count--; x.count == 0 {
			delete(l.ids, id)
			close(x.over)
		}
	}
}

// wait returns when no lookup of the id is under way.
func (l *lookups) wait(ctx context.Context, id runtime.ID) error {
	l.mu.Lock()
	x := l.ids[id]
	l.mu.Unlock()
	if x == nil {
		return nil
	}
	select {
	case <-x.over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
