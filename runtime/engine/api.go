package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sort"
	"time"

	"github.com/karmesh/kar/runtime"
)

// This file is the engine as the rooms above it see it. Every method may be
// called from any goroutine; every error is a *runtime.Error unless it is
// ctx's own. A ctx that ends only ends the waiting, never the work.

// NewID makes the id of a request for target (key: its Idempotency-Key or "").
func (m *Mesh) NewID(t runtime.Target, key string) runtime.ID {
	return NewID(time.Now(), t, key, len(m.parts))
}

// NewID makes a request id for a mesh of that many partitions.
func NewID(now time.Time, t runtime.Target, key string, partitions int) runtime.ID {
	var rnd [6]byte
	_, _ = rand.Read(rnd[:]) // crypto/rand.Read does not fail (Go 1.24)
	id := runtime.NewID(now.UnixMilli(), 0, t.App, rnd)
	if p := runtime.PartitionOf(t, key, id, partitions); p != 0 {
		id = runtime.NewID(now.UnixMilli(), p, t.App, rnd)
	}
	return id
}

// door checks what comes from outside and names the partition of a request.
func (m *Mesh) door(r *runtime.Request) (*partition, error) {
	if m.paused.Load() && r.Boot == "" && r.Session == "" {
		return nil, runtime.Errorf(runtime.CodeShutdown, "the gateway is stopping")
	}
	if r.ID.IsZero() {
		r.ID = m.NewID(r.Target, r.Key)
	}
	p := runtime.PartitionOf(r.Target, r.Key, r.ID, len(m.parts))
	if p != r.ID.Partition() || !r.ID.OfApp(r.Target.App) {
		return nil, &runtime.Error{Code: runtime.CodeBadID, Detail: "the request id was made for another target", ID: r.ID}
	}
	return m.part(p), nil
}

// submit sends a request to its partition until the partition has decided.
func (m *Mesh) submit(ctx context.Context, r *runtime.Request) (reply, error) {
	p, err := m.door(r)
	if err != nil {
		return reply{}, err
	}
	q, ok := runtime.SessionPartition(r.Session)
	if !ok || q == p.n || r.Kind != runtime.Call || m.part(q) == nil {
		return p.submit(ctx, r, nil)
	}
	n := &nested{parent: m.part(q)}
	rep, err := p.submit(ctx, r, n)
	n.close(r.ID, err == nil && !rep.open)
	return rep, err
}

// submit decides one request here. The answer "ask again" of an owner that
// stepped down leaves open whether the request was accepted: from then on it is
// asked for until there is an answer, and no error may say that it was refused.
func (p *partition) submit(ctx context.Context, r *runtime.Request, n *nested) (rep reply, err error) {
	open := false
	for {
		in := &runtime.Submit{Request: *r}
		if err = nil; n != nil {
			in.Vouched, err = n.vouch(ctx, r)
		}
		if err == nil && r.Key != "" {
			in.View, err = p.keyView(ctx, r)
		}
		if err == nil {
			w := newWaiter()
			in.Waiter = w
			if rep, err = p.ask(ctx, w, in); err != nil && ctx.Err() != nil {
				p.push(&runtime.Leave{ID: r.ID, Waiter: w})
			}
		}
		switch again := isAgain(err); {
		case ctx.Err() != nil && err != nil:
			return rep, ctx.Err()
		case again || open && is(err, runtime.CodeUnavailable):
			open = open || again
		case open && is(err, runtime.CodeShutdown):
			return rep, &runtime.Error{Code: runtime.CodeUnknownOutcome, Detail: "the gateway stopped while the request was under way; it goes on when a gateway runs", ID: r.ID}
		default:
			return rep, err
		}
	}
}

// nested is a call from a request in another partition, whose owner remembers
// the child until it is closed: a retry of the parent waits for it.
type nested struct {
	parent  *partition
	parents []runtime.ID
}

// vouch asks the owner of the caller about a nested call. It waits for the
// answer even when ctx ends, for only the answer says who remembers the child.
func (n *nested) vouch(ctx context.Context, r *runtime.Request) (*runtime.Vouched, error) {
	w := newWaiter()
	rep, err := n.parent.ask(context.WithoutCancel(ctx), w, &runtime.Vouch{Request: *r, Waiter: w})
	if err != nil {
		return nil, err
	}
	v, _ := rep.value.(*runtime.Vouched)
	if v != nil {
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
func (n *nested) close(child runtime.ID, ended bool) {
	if ended && len(n.parents) > 0 {
		n.parent.push(&runtime.ChildClosed{Parents: n.parents, Child: child})
		return
	}
	for _, id := range n.parents {
		n.parent.watch(child, id)
	}
}

func isAgain(err error) bool { return is(err, runtime.CodeAskAgain) }

func is(err error, code runtime.Code) bool {
	var e *runtime.Error
	return errors.As(err, &e) && e != nil && e.Code == code
}

// Call submits a request and waits for its outcome. A request whose id is
// already known is not run again: the caller becomes one more waiter. A zero
// r.ID is filled in (and set in *r before anything else happens); when the
// Idempotency-Key was used before it becomes the id of that request.
func (m *Mesh) Call(ctx context.Context, r *runtime.Request) (*runtime.Outcome, error) {
	rep, err := m.submit(ctx, r)
	if err != nil {
		return nil, err
	}
	if !rep.id.IsZero() {
		r.ID = rep.id // of the request that used the Idempotency-Key first
	}
	return rep.outcome, nil
}

// Accept submits a request (Tell, Promise or Remove) and returns once it is durable.
func (m *Mesh) Accept(ctx context.Context, r *runtime.Request) (runtime.ID, error) {
	rep, err := m.submit(ctx, r)
	return rep.id, err
}

// Await waits for the outcome of an earlier request of the app.
func (m *Mesh) Await(ctx context.Context, app string, id runtime.ID) (*runtime.Outcome, error) {
	p := m.part(id.Partition())
	if p == nil {
		return nil, &runtime.Error{Code: runtime.CodeUnknownRequest, Detail: "no request has this id", ID: id}
	}
	for {
		v, err := p.view(ctx, app, [][]byte{runtime.OutcomeInStore(id)}, nil)
		if err != nil {
			return nil, err
		}
		w := newWaiter()
		rep, err := p.ask(ctx, w, &runtime.Await{App: app, ID: id, Waiter: w, View: v})
		if isAgain(err) {
			continue
		}
		if err != nil {
			if ctx.Err() != nil {
				p.push(&runtime.Leave{ID: id, Waiter: w})
			}
			return nil, err
		}
		return rep.outcome, nil
	}
}

// Release says that the outcomes of plain calls have reached their callers and need not be kept.
func (m *Mesh) Release(ids ...runtime.ID) {
	if len(m.parts) == 1 {
		m.parts[0].push(&runtime.Release{IDs: ids})
		return
	}
	for _, id := range ids {
		if p := m.part(id.Partition()); p != nil {
			p.push(&runtime.Release{IDs: []runtime.ID{id}})
		}
	}
}

// Cancel withdraws a request: before its start it completes as cancelled; a
// running one goes on, its waiters are answered. The result is "cancelled",
// "running" or "completed".
func (m *Mesh) Cancel(ctx context.Context, app string, id runtime.ID) (string, error) {
	p := m.part(id.Partition())
	if p == nil {
		return "", &runtime.Error{Code: runtime.CodeUnknownRequest, Detail: "no request has this id", ID: id}
	}
	w := newWaiter()
	rep, err := p.ask(ctx, w, &runtime.Cancel{App: app, ID: id, Waiter: w})
	s, _ := rep.value.(string)
	return s, err
}

// CancelAll withdraws every request of the app that has not started and returns how many.
func (m *Mesh) CancelAll(ctx context.Context, app string) (int, error) {
	return m.sum(ctx, func(w *waiter) runtime.Input { return &runtime.CancelAll{App: app, Waiter: w} })
}

// sum asks all partitions at once and adds up their numbers.
func (m *Mesh) sum(ctx context.Context, make func(*waiter) runtime.Input) (int, error) {
	total := 0
	var failed error
	m.all(ctx, make, func(rep reply, err error) {
		if err != nil {
			failed = err
		}
		n, _ := rep.value.(int)
		total += n
	})
	return total, failed
}

// all asks all partitions at once.
func (m *Mesh) all(ctx context.Context, make func(*waiter) runtime.Input, each func(reply, error)) {
	ws := []*waiter{}
	for _, p := range m.parts {
		w := newWaiter()
		ws = append(ws, w)
		p.push(make(w))
	}
	for _, w := range ws {
		select {
		case r := <-w.ch:
			if r.err != nil {
				each(r, r.err)
			} else {
				each(r, nil)
			}
		case <-ctx.Done():
			each(reply{}, ctx.Err())
		}
	}
}

// Purge forgets the app: its work is withdrawn, its state, reminders and
// subscriptions removed. It returns when nothing of it can come back.
func (m *Mesh) Purge(ctx context.Context, app string) error {
	w := newWaiter()
	_, err := m.part(runtime.AppPartition(app, len(m.parts))).ask(ctx, w, &runtime.Purge{App: app, Waiter: w})
	return err
}

// Drain withdraws what has not started, waits for the rest, and keeps state,
// reminders and subscriptions. It returns how many requests were withdrawn.
func (m *Mesh) Drain(ctx context.Context, app string) (int, error) {
	return m.sum(ctx, func(w *waiter) runtime.Input { return &runtime.Drain{App: app, Waiter: w} })
}

// Service is a component that is reached by URL.
type Service struct {
	App, Name, URL string
	Timeout        time.Duration // how long one attempt may take
}

// AddService registers (or replaces) a url component.
func (m *Mesh) AddService(ctx context.Context, s Service) (replaced bool, err error) {
	return m.setService(ctx, &runtime.SetService{App: s.App, Name: s.Name, URL: s.URL, Timeout: s.Timeout.Milliseconds()})
}

// RemoveService removes one.
func (m *Mesh) RemoveService(ctx context.Context, app, name string) (existed bool, err error) {
	return m.setService(ctx, &runtime.SetService{App: app, Name: name})
}

func (m *Mesh) setService(ctx context.Context, in *runtime.SetService) (bool, error) {
	w := newWaiter()
	in.Waiter = w
	rep, err := m.part(runtime.AppPartition(in.App, len(m.parts))).ask(ctx, w, in)
	had, _ := rep.value.(bool)
	return had, err
}

// queryTimeout bounds questions that have no context of their own.
const queryTimeout = 5 * time.Second

// Services lists the url components of an app ("" for all), sorted; changed is
// closed when the list is no longer the whole truth. With an error, when a
// partition did not answer, the list lacks those that it would have named.
func (m *Mesh) Services(app string) (list []Service, changed <-chan struct{}, err error) {
	changed = m.services.wait()
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	err = m.query(ctx, runtime.Query{Kind: runtime.QueryServices}, func(v any) {
		for _, s := range v.([]runtime.ServiceFact) {
			if app == "" || s.App == app {
				list = append(list, Service{s.App, s.Name, s.URL, time.Duration(s.Timeout) * time.Millisecond})
			}
		}
	})
	sort.Slice(list, func(i, j int) bool {
		a, b := list[i], list[j]
		return a.App < b.App || a.App == b.App && a.Name < b.Name
	})
	return list, changed, err
}

// query asks every partition and visits the answers that came.
func (m *Mesh) query(ctx context.Context, q runtime.Query, visit func(any)) error {
	var failed error
	m.all(ctx, func(w *waiter) runtime.Input {
		one := q
		one.Waiter = w
		return &one
	}, func(r reply, err error) {
		if err != nil {
			failed = err
			return
		}
		visit(r.value)
	})
	return failed
}

// Pause refuses new work from outside with CodeShutdown (callers were told
// nothing was accepted); what is running goes on.
func (m *Mesh) Pause() { m.paused.Store(true) }
