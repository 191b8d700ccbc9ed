package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"sort"
	"sync"
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

// changeID makes the id under which a partition is asked for a change of an app, as
// often as it takes.
func (m *Mesh) changeID(app string, p uint16) runtime.ID {
	var rnd [6]byte
	_, _ = rand.Read(rnd[:])
	return runtime.NewID(time.Now().UnixMilli(), p, app, rnd)
}

// door checks what comes from outside and names the partition to ask: the
// target's, or for what a request sends the one where that request lives.
func (m *Mesh) door(r *runtime.Request) (uint16, error) {
	if m.paused.Load() && r.Boot == "" && r.Session == "" {
		return 0, runtime.Errorf(runtime.CodeShutdown, "the gateway is stopping")
	}
	if r.ID.IsZero() {
		r.ID = m.NewID(r.Target, r.Key)
	}
	p := runtime.PartitionOf(r.Target, r.Key, r.ID, len(m.parts))
	if p != r.ID.Partition() || !r.ID.OfApp(r.Target.App) {
		return 0, &runtime.Error{Code: runtime.CodeBadID, Detail: "the request id was made for another target", ID: r.ID}
	}
	if q, ok := runtime.SessionPartition(r.Session); ok && m.part(q) != nil {
		return q, nil
	}
	return p, nil
}

// submit sends a request to its partition until the partition has decided.
func (m *Mesh) submit(ctx context.Context, r *runtime.Request) (reply, error) {
	p, err := m.door(r)
	if err != nil {
		return reply{}, err
	}
	return m.do(ctx, &Op{Partition: p, Submit: &SubmitOp{Request: *r}})
}

// code is the code of an error, CodeAskAgain for the end of a ctx somewhere else.
func code(err error) runtime.Code {
	var e *runtime.Error
	if errors.As(err, &e) && e != nil {
		return e.Code
	}
	if err != nil {
		return runtime.CodeAskAgain
	}
	return ""
}

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

// Await waits for the outcome of an earlier request of the app, for work on a host when
// boot names one.
func (m *Mesh) Await(ctx context.Context, app string, id runtime.ID, boot string) (*runtime.Outcome, error) {
	if m.part(id.Partition()) == nil {
		return nil, &runtime.Error{Code: runtime.CodeUnknownRequest, Detail: "no request has this id", ID: id}
	}
	rep, err := m.do(ctx, &Op{Partition: id.Partition(), Await: &runtime.Await{App: app, ID: id, Boot: boot}})
	return rep.outcome, err
}

// Release says that the outcomes of plain calls have reached their callers and need not be kept.
func (m *Mesh) Release(app string, ids ...runtime.ID) {
	if len(m.parts) == 1 && m.cfg.Shared == nil {
		m.parts[0].push(&runtime.Release{App: app, IDs: ids})
		return
	}
	by := map[uint16][]runtime.ID{}
	for _, id := range ids {
		if p := id.Partition(); m.part(p) != nil {
			by[p] = append(by[p], id)
		}
	}
	for p, ids := range by {
		m.tell(p, &InputNote{Release: &runtime.Release{App: app, IDs: ids}})
	}
}

// Cancel withdraws a request: before its start it completes as cancelled; a
// running one goes on, its waiters are answered. The result is "cancelled",
// "running" or "completed".
func (m *Mesh) Cancel(ctx context.Context, app string, id runtime.ID) (string, error) {
	if m.part(id.Partition()) == nil {
		return "", &runtime.Error{Code: runtime.CodeUnknownRequest, Detail: "no request has this id", ID: id}
	}
	rep, err := m.do(ctx, &Op{Partition: id.Partition(), Cancel: &runtime.Cancel{App: app, ID: id, Change: m.changeID(app, id.Partition())}})
	s, _ := rep.value.(string)
	return s, err
}

// CancelAll withdraws every request of the app that has not started and returns how many.
func (m *Mesh) CancelAll(ctx context.Context, app string) (int, error) {
	return m.clear(ctx, app, func(id runtime.ID) *Op { return &Op{CancelAll: &runtime.CancelAll{App: app, ID: id}} })
}

// clear asks all partitions, each under an id, and adds up their numbers.
func (m *Mesh) clear(ctx context.Context, app string, ask func(runtime.ID) *Op) (int, error) {
	ids := make([]runtime.ID, len(m.parts))
	for p := range ids {
		ids[p] = m.changeID(app, uint16(p))
	}
	defer m.Release(app, ids...) // it asks no more
	total := 0
	err := m.all(ctx, func(p uint16) *Op { return ask(ids[p]) }, func(v any) {
		n, _ := v.(int)
		total += n
	})
	return total, err
}

// all asks all partitions at once and visits the values that came. The error
// is that of a partition that did not answer.
func (m *Mesh) all(ctx context.Context, ask func(p uint16) *Op, visit func(value any)) error {
	var mu sync.Mutex
	return m.each(func(p uint16) error {
		op := ask(p)
		op.Partition = p
		rep, err := m.do(ctx, op)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		visit(rep.value)
		return nil
	})
}

// each asks all partitions at once.
func (m *Mesh) each(ask func(p uint16) error) (failed error) {
	var mu sync.Mutex
	var wait sync.WaitGroup
	for p := range m.parts {
		wait.Go(func() {
			if err := ask(uint16(p)); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = err
			}
		})
	}
	wait.Wait()
	return failed
}

// Purge forgets the app: its work is withdrawn, its state, reminders and
// subscriptions removed. It returns when nothing of it can come back.
func (m *Mesh) Purge(ctx context.Context, app string) error {
	p := runtime.AppPartition(app, len(m.parts))
	_, err := m.do(ctx, &Op{Partition: p, Purge: &runtime.Purge{App: app, ID: m.changeID(app, p)}})
	return err
}

// Drain withdraws what has not started, waits for the rest, and keeps state,
// reminders and subscriptions. It returns how many requests were withdrawn.
func (m *Mesh) Drain(ctx context.Context, app string) (int, error) {
	return m.clear(ctx, app, func(id runtime.ID) *Op { return &Op{Drain: &runtime.Drain{App: app, ID: id}} })
}

// Service is a component that is reached by URL.
type Service struct {
	App, Name, URL string
	Timeout        time.Duration // how long one attempt may take
	Proxied        bool          // there is a proxy before it, see [runtime.Proxied]
}

// AddService registers (or replaces) a url component.
func (m *Mesh) AddService(ctx context.Context, s Service) (replaced bool, err error) {
	return m.setService(ctx, &runtime.SetService{App: s.App, Name: s.Name, URL: s.URL, Timeout: s.Timeout.Milliseconds(), Proxied: s.Proxied})
}

// RemoveService removes one.
func (m *Mesh) RemoveService(ctx context.Context, app, name string) (existed bool, err error) {
	return m.setService(ctx, &runtime.SetService{App: app, Name: name})
}

func (m *Mesh) setService(ctx context.Context, in *runtime.SetService) (bool, error) {
	p := runtime.AppPartition(in.App, len(m.parts))
	in.ID = m.changeID(in.App, p)
	rep, err := m.do(ctx, &Op{Partition: p, SetService: in})
	had, _ := rep.value.(bool)
	return had, err
}

// queryTimeout bounds questions that have no context of their own.
const queryTimeout = 5 * time.Second

// Services lists the url components of an app ("" for all), sorted; changed is
// closed when the list is no longer the whole truth. With an error, when a
// partition did not answer, the list lacks those that it would have named.
func (m *Mesh) Services(ctx context.Context, app string) (list []Service, changed <-chan struct{}, err error) {
	changed = m.services.wait()
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err = m.query(ctx, runtime.Query{Kind: runtime.QueryServices}, func(v any) {
		facts, _ := v.([]runtime.ServiceFact)
		for _, s := range facts {
			if app == "" || s.App == app {
				list = append(list, Service{s.App, s.Name, s.URL, time.Duration(s.Timeout) * time.Millisecond, s.Proxied})
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
	return m.all(ctx, func(uint16) *Op { one := q; return &Op{Query: &one} }, visit)
}

// queryMine asks the partitions that this node owns.
func (m *Mesh) queryMine(ctx context.Context, q runtime.Query, visit func(*partition, any)) error {
	return m.queryEach(ctx, func(*partition) *runtime.Query { one := q; return &one }, visit)
}

// queryEach asks each partition that this node owns its own question, nil for none.
func (m *Mesh) queryEach(ctx context.Context, ask func(*partition) *runtime.Query, visit func(*partition, any)) error {
	ws := map[*partition]*waiter{}
	for _, p := range m.parts {
		if m.cfg.Shared != nil && m.dir.of(p.n).node != m.cfg.Node {
			continue
		}
		if q := ask(p); q != nil {
			w := newWaiter()
			q.Waiter, ws[p] = w, w
			p.push(q)
		}
	}
	var failed error
	take := func(p *partition, r reply) {
		switch {
		case r.err == nil:
			visit(p, r.value)
		case r.err.Code != runtime.CodeNotOwner:
			failed = r.err
		}
	}
	for p, w := range ws {
		select {
		case r := <-w.ch:
			take(p, r)
		case <-ctx.Done():
			select {
			case r := <-w.ch: // it was there before one that hangs took all the time
				take(p, r)
			default:
				failed = ctx.Err()
			}
		}
	}
	return failed
}

// Pause refuses new work from outside with CodeShutdown (callers were told
// nothing was accepted); what is running goes on.
func (m *Mesh) Pause() { m.paused.Store(true) }
