package engine

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/karmesh/kar/runtime"
)

// view reads keys, or everything under a prefix, from the store.
func (p *partition) view(ctx context.Context, app string, keys [][]byte, prefix []byte) (*runtime.View, error) {
	a := p.applier.Load()
	if lost := a.missing(); lost != nil {
		return nil, lost
	}
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
			if len(keys) == 0 {
				v.Prefix = string(prefix)
			}
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
		return nil, storeAway(err)
	}
	a.saw(v.Applied)
	return v, nil
}

func storeAway(err error) error {
	return runtime.Errorf(runtime.CodeStoreAway, "the state store does not answer: %v", err)
}

// keyView reads what an Idempotency-Key was used for.
func (p *partition) keyView(ctx context.Context, r *runtime.Request) (*runtime.View, error) {
	key := runtime.KeyInStore(r)
	v, err := p.view(ctx, r.Target.App, [][]byte{key}, nil)
	if err != nil {
		return nil, err
	}
	if id, ok := runtime.KeyUseID(v.Entries[string(key)]); ok {
		o, err := p.view(ctx, r.Target.App, [][]byte{runtime.OutcomeInStore(id)}, nil)
		if err != nil {
			return nil, err
		}
		for k, b := range o.Entries {
			v.Entries[k] = b
		}
		v.Applied = min(v.Applied, o.Applied) // the store may have fallen back in between
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
	if !op.Verb.Reads() {
		done, err := m.change(op.Actor, &op.ID)
		if err != nil {
			return runtime.StateResult{}, err
		}
		defer done()
	}
	rep, err := m.do(ctx, &Op{Partition: runtime.ActorPartition(op.Actor, len(m.parts)), State: &op})
	r, _ := rep.value.(runtime.StateResult)
	return r, err
}

// ofActor asks the owner of an actor.
func (m *Mesh) ofActor(ctx context.Context, a runtime.Actor, op *Op) (any, error) {
	op.Partition = runtime.ActorPartition(a, len(m.parts))
	rep, err := m.do(ctx, op)
	return rep.value, err
}

// change checks the id of a change to an actor. In a shared mesh, where the owner
// may be asked again by this gateway, one that came without is given one here;
// done says that the answer is no longer needed.
func (m *Mesh) change(a runtime.Actor, id *runtime.ID) (done func(), err error) {
	t := runtime.Target{App: a.App, Type: a.Type, ID: a.ID}
	switch {
	case !id.IsZero():
		if id.Partition() != runtime.ActorPartition(a, len(m.parts)) || !id.OfApp(a.App) {
			return nil, &runtime.Error{Code: runtime.CodeBadID, Detail: "the request id was made for another target", ID: *id}
		}
	case m.cfg.Shared != nil:
		*id = m.NewID(t, "")
		own := *id
		return func() { m.Release(a.App, own) }, nil
	}
	return func() {}, nil
}

// ofChange asks the owner of an actor for a change.
func (m *Mesh) ofChange(ctx context.Context, a runtime.Actor, by runtime.Caller, ask func(runtime.Caller) *Op) (any, error) {
	done, err := m.change(a, &by.ID)
	if err != nil {
		return nil, err
	}
	defer done()
	return m.ofActor(ctx, a, ask(by))
}

// SetReminder creates or replaces a reminder.
func (m *Mesh) SetReminder(ctx context.Context, by runtime.Caller, r runtime.Reminder) (replaced bool, err error) {
	v, err := m.ofChange(ctx, r.Actor, by, func(by runtime.Caller) *Op {
		return &Op{SetReminder: &runtime.SetReminder{Reminder: r, Boot: by.Boot, ID: by.ID}}
	})
	replaced, _ = v.(bool)
	return replaced, err
}

// Reminders lists the reminders of an actor, sorted by id; all when id is "".
func (m *Mesh) Reminders(ctx context.Context, a runtime.Actor, id string) ([]runtime.Reminder, error) {
	var all []runtime.Reminder
	for after := ""; ; {
		v, err := m.ofActor(ctx, a, &Op{Query: &runtime.Query{Kind: runtime.QueryReminders, Actor: a, ID: id, After: after, Limit: remindersPage}})
		rs, _ := v.([]runtime.Reminder)
		if err != nil {
			return nil, err
		}
		if after != "" && len(rs) > 0 && rs[0].ID <= after {
			return all, nil // an owner of before pages has listed them all, twice
		}
		if all = append(all, rs...); id != "" || len(rs) != remindersPage {
			return all, nil
		}
		after = rs[len(rs)-1].ID
	}
}

// remindersPage is how many reminders of an actor its owner lists at a time.
const remindersPage = 1000

// CancelReminders removes one reminder, or all when id is "", and withdraws what has
// become of them, but not what asks with its session.
func (m *Mesh) CancelReminders(ctx context.Context, by runtime.Caller, a runtime.Actor, id, session string) (int, error) {
	v, err := m.ofChange(ctx, a, by, func(by runtime.Caller) *Op {
		return &Op{CancelReminders: &runtime.CancelReminders{Actor: a, ID: id, Session: session, Boot: by.Boot, Request: by.ID}}
	})
	n, _ := v.(int)
	return n, err
}

// Subscribe creates or replaces a subscription. It returns once the offsets
// from which events count are durable.
func (m *Mesh) Subscribe(ctx context.Context, by runtime.Caller, s runtime.Subscription) (replaced bool, err error) {
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
	v, err := m.ofChange(ctx, s.Actor, by, func(by runtime.Caller) *Op {
		return &Op{Subscribe: &s, Boot: by.Boot, ID: by.ID}
	})
	replaced, _ = v.(bool)
	return replaced, err
}

// Subscriptions lists the subscriptions of an actor, sorted by id; all when id is "".
func (m *Mesh) Subscriptions(ctx context.Context, a runtime.Actor, id string) ([]runtime.Subscription, error) {
	v, err := m.ofActor(ctx, a, &Op{Query: &runtime.Query{Kind: runtime.QuerySubscriptions, Actor: a, ID: id}})
	ss, _ := v.([]runtime.Subscription)
	return ss, err
}

// Unsubscribe removes one subscription, or all when id is "".
func (m *Mesh) Unsubscribe(ctx context.Context, by runtime.Caller, a runtime.Actor, id string) (int, error) {
	v, err := m.ofChange(ctx, a, by, func(by runtime.Caller) *Op {
		return &Op{Unsubscribe: &runtime.Unsubscribe{Actor: a, ID: id, Boot: by.Boot, Request: by.ID}}
	})
	n, _ := v.(int)
	return n, err
}

// Group is what the pump of events/ needs to know: whose turn it is at which offset.
type Group struct {
	Key       string // opaque
	Topic     string
	Next      int64 // offset of the next event to deliver
	partition uint16
}

// groupsPage is how many groups one partition lists at a time.
const groupsPage = 1000

// Groups lists the consumer groups of the partitions that this node owns (a
// subscription without group is a group of its own); changed is closed when the
// list is no longer the whole truth.
func (m *Mesh) Groups() (groups []Group, changed <-chan struct{}) {
	changed = m.groups.wait()
	ctx, cancel := context.WithTimeout(m.life, queryTimeout)
	defer cancel()
	after := map[uint16]string{} // where those partitions go on that have more
	for begun := false; !begun || len(after) > 0; begun = true {
		more := map[uint16]string{}
		_ = m.queryEach(ctx, func(p *partition) *runtime.Query {
			last, left := after[p.n]
			if begun && !left {
				return nil
			}
			return &runtime.Query{Kind: runtime.QueryGroups, After: last, Limit: groupsPage}
		}, func(p *partition, v any) {
			list, _ := v.([]runtime.GroupCursor)
			for _, g := range list {
				groups = append(groups, Group{strconv.Itoa(int(p.n)) + "/" + g.Key, g.Topic, g.Next, p.n})
			}
			if n := len(list); n == groupsPage {
				more[p.n] = list[n-1].Key
			}
		})
		after = more
	}
	sort.Slice(groups, func(i, j int) bool { return groups[i].Key < groups[j].Key })
	return groups, changed
}

// Deliver turns consecutive events into requests of the group's subscribers,
// exactly once each; it returns the group's next offset once that is durable,
// or an error with CodeNotFound when the group is gone, or is another node's
// now. From is the offset that the events were fetched from: when the group's
// cursor is behind it nothing is delivered and the answer says where to go on.
// Deliver waits while too much of the group's earlier work is unfinished.
func (m *Mesh) Deliver(ctx context.Context, group string, from int64, events []runtime.Event) (next int64, err error) {
	number, key, _ := strings.Cut(group, "/")
	n, err := strconv.ParseUint(number, 10, 16)
	p := m.part(uint16(n))
	if err != nil || p == nil {
		return 0, runtime.Errorf(runtime.CodeNotFound, "no such group")
	}
	for {
		w := newWaiter()
		rep, err := p.ask(ctx, w, &runtime.DeliverEvents{Group: key, From: from, Events: events, Waiter: w})
		switch {
		case is(err, runtime.CodeAskAgain) && (m.cfg.Shared == nil || m.dir.of(p.n).node == m.cfg.Node):
			continue
		case is(err, runtime.CodeNotOwner), is(err, runtime.CodeAskAgain):
			return 0, runtime.Errorf(runtime.CodeNotFound, "the group is another gateway's now")
		case err != nil:
			return 0, err
		}
		next, _ = rep.value.(int64)
		return next, nil
	}
}

// Active lists the actors of the app that are active on a host, sorted; "" for all hosts.
func (m *Mesh) Active(ctx context.Context, app, boot string) ([]runtime.Actor, error) {
	var mu sync.Mutex
	var as []runtime.Actor
	err := m.each(func(p uint16) error {
		for after := ""; ; {
			rep, err := m.do(ctx, &Op{Partition: p, Query: &runtime.Query{Kind: runtime.QueryActive, App: app, Boot: boot, After: after, Limit: activePage}})
			if err != nil {
				return err
			}
			page := pageOf(rep.value)
			mu.Lock()
			as = append(as, page.Actors...)
			mu.Unlock()
			if after = page.Next; after == "" {
				return nil
			}
		}
	})
	sortActors(as)
	return slices.Compact(as), err
}

// activePage is how many active actors one partition lists at a time.
const activePage = 1000

// An activeAnswer is a page of active actors that came over the wire; an owner of
// before pages has listed all of them.
type activeAnswer runtime.ActivePage

func (x *activeAnswer) UnmarshalJSON(b []byte) error {
	*x = activeAnswer{}
	if json.Unmarshal(b, &x.Actors) == nil {
		return nil
	}
	return json.Unmarshal(b, (*runtime.ActivePage)(x))
}

func pageOf(v any) runtime.ActivePage {
	if x, ok := v.(activeAnswer); ok {
		return runtime.ActivePage(x)
	}
	page, _ := v.(runtime.ActivePage)
	return page
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
	err = m.all(ctx, func(uint16) *Op { return &Op{Known: &KnownOp{App: app, Type: typ}} }, func(v any) {
		list, _ := v.([]runtime.Actor)
		for _, a := range list {
			add(a)
		}
	})
	if err != nil {
		return nil, err
	}
	sortActors(as)
	return as, nil
}
