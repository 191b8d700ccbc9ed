package engine

import (
	"context"
	"errors"
	"sort"

	"github.com/karmesh/kar/runtime"
)

func (m *Mesh) actorPart(a runtime.Actor) *partition {
	return m.part(runtime.ActorPartition(a, len(m.parts)))
}

// view reads keys, or everything under a prefix, from the store.
func (p *partition) view(ctx context.Context, app string, keys [][]byte, prefix []byte) (*runtime.View, error) {
	var v *runtime.View
	err := p.m.cfg.Store.Read(ctx, p.n, func(s runtime.Snapshot) error {
		v = &runtime.View{Entries: make(map[string][]byte, len(keys))}
		for _, k := range keys {
			b, err := s.Get(k)
			if err != nil {
				return err
			}
			if b != nil {
				v.Entries[string(k)] = b
			}
		}
		if prefix != nil {
			err := s.Scan(prefix, func(k, b []byte) bool {
				v.Entries[string(k)] = append([]byte{}, b...)
				return true
			})
			if err != nil {
				return err
			}
		}
		v.Applied = s.Applied() // known after the first answer; alone it would be another round trip
		return nil
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, runtime.Errorf(runtime.CodeStoreAway, "the state store does not answer: %v", err)
	}
	return v, nil
}

// keyView reads what an Idempotency-Key was used for.
func (p *partition) keyView(ctx context.Context, r *runtime.Request) (*runtime.View, error) {
	key := runtime.KeyInStore(r)
	v, err := p.view(ctx, r.Target.App, [][]byte{key}, nil)
	if err != nil {
		return nil, err
	}
	if id, ok := runtime.KeyUseID(v.Entries[string(key)]); ok {
		// Later than the first read: both must be as old as the older one.
		o, err := p.view(ctx, r.Target.App, [][]byte{runtime.OutcomeInStore(id)}, nil)
		if err != nil {
			return nil, err
		}
		for k, b := range o.Entries {
			v.Entries[k] = b
		}
	}
	return v, nil
}

// generation is the app's, as far as this node remembers; the core checks it.
func (p *partition) generation(ctx context.Context, app string, fresh bool) (uint64, error) {
	if !fresh {
		if g, ok := p.gens.Load(app); ok {
			return g.(uint64), nil
		}
	}
	w := newWaiter()
	rep, err := p.ask(ctx, w, &runtime.Query{Kind: runtime.QueryGeneration, App: app, Waiter: w})
	if err != nil {
		return 0, err
	}
	g, _ := rep.value.(uint64)
	p.gens.Store(app, g)
	return g, nil
}

// State reads or changes an actor's state.
func (m *Mesh) State(ctx context.Context, op runtime.StateOp) (runtime.StateResult, error) {
	p := m.actorPart(op.Actor)
	for fresh := false; ; fresh = true {
		gen, err := p.generation(ctx, op.Actor.App, fresh)
		if err != nil {
			return runtime.StateResult{}, err
		}
		keys, prefix := runtime.StateKeys(&op, gen)
		v, err := p.view(ctx, op.Actor.App, keys, prefix)
		if err != nil {
			return runtime.StateResult{}, err
		}
		v.Generation = gen
		w := newWaiter()
		rep, err := p.ask(ctx, w, &runtime.StateInput{Op: op, View: v, Waiter: w})
		if isAgain(err) {
			continue
		}
		if err != nil {
			return runtime.StateResult{}, err
		}
		r, _ := rep.value.(runtime.StateResult)
		return r, nil
	}
}

// SetReminder creates or replaces a reminder.
func (m *Mesh) SetReminder(ctx context.Context, boot string, r runtime.Reminder) (replaced bool, err error) {
	w := newWaiter()
	rep, err := m.actorPart(r.Actor).ask(ctx, w, &runtime.SetReminder{Reminder: r, Boot: boot, Waiter: w})
	replaced, _ = rep.value.(bool)
	return replaced, err
}

// Reminders lists the reminders of an actor, sorted by id; all when id is "".
func (m *Mesh) Reminders(ctx context.Context, a runtime.Actor, id string) ([]runtime.Reminder, error) {
	w := newWaiter()
	rep, err := m.actorPart(a).ask(ctx, w, &runtime.Query{Kind: runtime.QueryReminders, Actor: a, ID: id, Waiter: w})
	rs, _ := rep.value.([]runtime.Reminder)
	return rs, err
}

// CancelReminders removes one reminder, or all when id is "".
func (m *Mesh) CancelReminders(ctx context.Context, boot string, a runtime.Actor, id string) (int, error) {
	w := newWaiter()
	rep, err := m.actorPart(a).ask(ctx, w, &runtime.CancelReminders{Actor: a, ID: id, Boot: boot, Waiter: w})
	n, _ := rep.value.(int)
	return n, err
}

// Subscribe creates or replaces a subscription. It returns once the offsets
// from which events count are durable.
func (m *Mesh) Subscribe(ctx context.Context, s runtime.Subscription) (replaced bool, err error) {
	if m.cfg.Topics != nil {
		start, end, err := m.cfg.Topics.Bounds(ctx, s.Topic)
		var e *runtime.Error
		switch {
		case err == nil && s.Oldest:
			s.Next = start
		case err == nil:
			s.Next = end
		case errors.As(err, &e) && e.Code == runtime.CodeTopicMissing:
			// Not there yet: every event that it will have.
		default:
			return false, err
		}
	}
	w := newWaiter()
	rep, err := m.actorPart(s.Actor).ask(ctx, w, &runtime.Subscribe{Subscription: s, Waiter: w})
	replaced, _ = rep.value.(bool)
	return replaced, err
}

// Subscriptions lists the subscriptions of an actor, sorted by id; all when id is "".
func (m *Mesh) Subscriptions(ctx context.Context, a runtime.Actor, id string) ([]runtime.Subscription, error) {
	w := newWaiter()
	rep, err := m.actorPart(a).ask(ctx, w, &runtime.Query{Kind: runtime.QuerySubscriptions, Actor: a, ID: id, Waiter: w})
	ss, _ := rep.value.([]runtime.Subscription)
	return ss, err
}

// Unsubscribe removes one subscription, or all when id is "".
func (m *Mesh) Unsubscribe(ctx context.Context, a runtime.Actor, id string) (int, error) {
	w := newWaiter()
	rep, err := m.actorPart(a).ask(ctx, w, &runtime.Unsubscribe{Actor: a, ID: id, Waiter: w})
	n, _ := rep.value.(int)
	return n, err
}

// Group is what the pump of events/ needs to know: whose turn it is at which offset.
type Group struct {
	Key       string // opaque
	Topic     string
	Next      int64 // offset of the next event to deliver
	partition uint16
}

// Groups lists the consumer groups (a subscription without group is a group of
// its own); changed is closed when the list is no longer the whole truth.
func (m *Mesh) Groups() (groups []Group, changed <-chan struct{}) {
	changed = m.groups.wait()
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	for _, p := range m.parts {
		w := newWaiter()
		rep, err := p.ask(ctx, w, &runtime.Query{Kind: runtime.QueryGroups, Waiter: w})
		if err != nil {
			continue
		}
		gs, _ := rep.value.([]runtime.GroupCursor)
		for _, g := range gs {
			groups = append(groups, Group{string(rune('0'+p.n%64)) + g.Key, g.Topic, g.Next, p.n})
		}
	}
	return groups, changed
}

// Deliver turns consecutive events into requests of the group's subscribers,
// exactly once each; it returns the group's next offset once that is durable,
// or an error with CodeNotFound when the group is gone. From is the offset that
// the events were fetched from: when the group's cursor is behind it nothing is
// delivered and the answer says where to go on. Deliver waits while too much of
// the group's earlier work is unfinished.
func (m *Mesh) Deliver(ctx context.Context, group string, from int64, events []runtime.Event) (next int64, err error) {
	if group == "" {
		return 0, runtime.Errorf(runtime.CodeNotFound, "no group")
	}
	p := m.part(uint16(group[0] - '0'))
	if p == nil {
		return 0, runtime.Errorf(runtime.CodeNotFound, "no such group")
	}
	for {
		w := newWaiter()
		rep, err := p.ask(ctx, w, &runtime.DeliverEvents{Group: group[1:], From: from, Events: events, Waiter: w})
		if isAgain(err) {
			continue
		}
		if err != nil {
			return 0, err
		}
		next, _ = rep.value.(int64)
		return next, nil
	}
}

// Active lists the actors of the app that are active on a host, sorted; "" for all hosts.
func (m *Mesh) Active(ctx context.Context, app, boot string) ([]runtime.Actor, error) {
	var as []runtime.Actor
	err := m.query(ctx, runtime.Query{Kind: runtime.QueryActive, App: app, Boot: boot}, func(v any) {
		as = append(as, v.([]runtime.Actor)...)
	})
	sortActors(as)
	return as, err
}

func sortActors(as []runtime.Actor) {
	sort.Slice(as, func(i, j int) bool {
		a, b := as[i], as[j]
		return a.Type < b.Type || a.Type == b.Type && a.ID < b.ID
	})
}

// Known lists the actors of the app that are active or have state; typ "" for
// all types. Sorted.
func (m *Mesh) Known(ctx context.Context, app, typ string) ([]runtime.Actor, error) {
	active, err := m.Active(ctx, app, "")
	if err != nil {
		return nil, err
	}
	seen := map[runtime.Actor]bool{}
	var as []runtime.Actor
	add := func(a runtime.Actor) {
		if !seen[a] && (typ == "" || a.Type == typ) {
			seen[a] = true
			as = append(as, a)
		}
	}
	for _, a := range active {
		add(a)
	}
	for _, p := range m.parts {
		gen, err := p.generation(ctx, app, true)
		if err != nil {
			return nil, err
		}
		if err := p.applier.caughtUp(ctx); err != nil {
			return nil, err
		}
		var found []runtime.Actor
		err = m.cfg.Store.Read(ctx, p.n, func(s runtime.Snapshot) error {
			found = nil
			return s.Scan(runtime.StatePrefix(app, gen, typ), func(k, _ []byte) bool {
				a, ok := runtime.ActorOfKey(k, app, gen)
				if n := len(found); ok && (n == 0 || found[n-1] != a) {
					found = append(found, a)
				}
				return ctx.Err() == nil
			})
		})
		if err != nil {
			return nil, runtime.Errorf(runtime.CodeStoreAway, "the state store does not answer: %v", err)
		}
		for _, a := range found {
			add(a)
		}
	}
	sortActors(as)
	return as, nil
}
