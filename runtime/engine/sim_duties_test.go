package engine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// simDuties are what clients of a world have asked for beside requests: reminders,
// subscriptions and the events for them; and what an app of its own goes through that is
// purged and drained.
type simDuties struct {
	mu        sync.Mutex
	reminders map[string]*simReminder
	topic     []string                         // of each event its text
	events    map[string]map[string]runtime.ID // subscriber → event → request
	lastEvent map[string]int64
	subs      map[string]*simSub
}

type simSub struct {
	from, to int // acknowledged when the topic had so many; asked for when it had
	gone     bool
	acked    bool
}

type simReminder struct {
	first, period int64 // ms
	acked         bool
	gone          bool // its cancel is acknowledged
	asked         bool // somebody asks for its cancel
	firings       []*simFiring
	goneAt        time.Time
}

type simFiring struct {
	id         runtime.ID
	due, count int64
	completed  bool
}

func newSimDuties() *simDuties {
	return &simDuties{reminders: map[string]*simReminder{}, events: map[string]map[string]runtime.ID{}, lastEvent: map[string]int64{}, subs: map[string]*simSub{}}
}

func (w *world) actorID(a runtime.Actor) runtime.ID {
	return engine.NewID(time.Now(), runtime.Target{App: a.App, Type: a.Type, ID: a.ID}, "", w.parts)
}

// begins judges firings and events; the judge's mutex is held.
func (s *simDuties) begins(j *judge, r *simRun) {
	m := r.m
	s.mu.Lock()
	defer s.mu.Unlock()
	switch m.Path {
	case "/rem":
		name := strings.Trim(string(m.Body), "[]\"")
		x := s.reminders[name]
		if x == nil {
			j.fault("%s: a firing of nothing: %s", r, m.Body)
			return
		}
		j.of(m.Attempt.ID).unwanted = true
		if x.gone && r.host.behind(x.goneAt) > 20*time.Second {
			j.fault("%s begins, and reminder %s was deleted", r, name)
		}
		get := func(h string) string {
			if v := m.Header[h]; len(v) > 0 {
				return v[0]
			}
			return ""
		}
		at, err := time.Parse(time.RFC3339Nano, get("Kar-Reminder-Due"))
		n, err2 := strconv.ParseInt(get("Kar-Reminder-Count"), 10, 64)
		if err2 != nil {
			n = 1
		}
		if err != nil {
			j.fault("%s: headers %v", r, m.Header)
			return
		}
		var f *simFiring
		for _, y := range x.firings {
			if y.id == m.Attempt.ID {
				f = y
			}
		}
		if f == nil {
			f = &simFiring{id: m.Attempt.ID}
			if k := len(x.firings); k > 0 && !x.firings[k-1].completed {
				j.fault("%s begins, and firing %s of %s has not completed", r, x.firings[k-1].id, name)
			}
			x.firings = append(x.firings, f)
		} else if x.firings[len(x.firings)-1] != f {
			j.fault("%s begins, and a later one of %s has", r, name)
		}
		f.due, f.count = at.UnixMilli(), n
		want, k := x.first, int64(0)
		for _, y := range x.firings {
			k += y.count
		}
		want += (k - 1) * x.period
		if f.due != want {
			j.fault("%s: reminder %s says due %d (%+d), counts say %+d: %v", r, name, f.due, f.due-x.first, want-x.first, m.Header)
		}
		if f.due > time.Now().UnixMilli() {
			j.fault("%s: reminder %s fires early", r, name)
		}
	case "/ev":
		who := m.Target.ID
		text := string(m.Body)
		i := strings.Index(text, "e#")
		text = text[i:]
		text = text[:strings.IndexAny(text, "\"]")]
		if s.events[who] == nil {
			s.events[who] = map[string]runtime.ID{}
		}
		n, _ := strconv.ParseInt(text[2:], 10, 64)
		old, known := s.events[who][text]
		switch {
		case known && old != m.Attempt.ID:
			j.fault("%s begins, and %s has made event %s to %s", r, old, text, who)
		case !known && n <= s.lastEvent[who] && s.lastEvent[who] > 0:
			j.fault("%s begins with event %s behind %d", r, text, s.lastEvent[who])
		case !known && s.lastEvent[who] > 0 && n != s.lastEvent[who]+1:
			j.fault("%s begins with event %s behind %d: a gap", r, text, s.lastEvent[who])
		}
		if x := s.subs[who]; x != nil && !known && s.lastEvent[who] == 0 && x.acked && int(n) > x.to {
			j.fault("%s begins with event %s, subscribed when there were %d to %d", r, text, x.from, x.to)
		}
		s.events[who][text] = m.Attempt.ID
		s.lastEvent[who] = max(n, s.lastEvent[who])
	}
}

func (s *simDuties) completes(r *simRun) {
	if r.m.Path != "/rem" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.reminders[strings.Trim(string(r.m.Body), "[]\"")]; x != nil {
		for _, y := range x.firings {
			if y.id == r.m.Attempt.ID {
				y.completed = true
			}
		}
	}
}

// coming tells that a reminder has not fired that may do so once.
func (s *simDuties) coming() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().UnixMilli()
	for _, x := range s.reminders {
		if !x.gone && x.period == 0 && len(x.firings) == 0 && (x.acked && !x.asked || now < x.first+5000) {
			return true
		}
	}
	return false
}

// end judges what should have come.
func (s *simDuties) end(j *judge) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, x := range s.reminders {
		if x.acked && !x.asked && len(x.firings) == 0 {
			j.fault("reminder %s never fires", name)
		}
		if x.acked && !x.asked && len(x.firings) > 0 && !x.firings[len(x.firings)-1].completed {
			j.fault("the firing of reminder %s never completes", name)
		}
		if x.acked && !x.gone && x.period > 0 {
			j.fault("reminder %s was not deleted", name)
		}
	}
	for who, x := range s.subs {
		if x.acked && !x.gone && s.lastEvent[who] != int64(len(s.topic)) && len(s.topic) > x.to {
			j.fault("%s got events up to %d of %d", who, s.lastEvent[who], len(s.topic))
		}
	}
}

func (c *simClient) remind() {
	w, s := c.w, c.w.duties
	a := runtime.Actor{App: "app", Type: "A", ID: fmt.Sprint("r-", c.name)}
	c.told++
	name := fmt.Sprint(c.name, "-", c.told)
	x := &simReminder{first: time.Now().Add(w.dice.between(-time.Second, 3*time.Second)).UnixMilli()}
	if w.dice.oneIn(2) {
		x.period = int64(100 + w.dice.n(1500))
	}
	s.mu.Lock()
	s.reminders[name] = x
	s.mu.Unlock()
	by := runtime.Caller{ID: w.actorID(a)}
	if !c.insist("reminder "+name, func(ctx context.Context, m *engine.Mesh) error {
		_, err := m.SetReminder(ctx, by, runtime.Reminder{Actor: a, ID: name, Path: "/rem", Due: x.first, Period: x.period * 1e6, Data: []byte(strconv.Quote(name))})
		return err
	}) {
		return
	}
	s.mu.Lock()
	x.acked = true
	s.mu.Unlock()
	if x.period == 0 && w.dice.oneIn(2) {
		return
	}
	sleepFor(w.over, w.dice.between(0, 8*time.Second))
	s.mu.Lock()
	x.asked = true
	s.mu.Unlock()
	by = runtime.Caller{ID: w.actorID(a)}
	if c.insist("delete "+name, func(ctx context.Context, m *engine.Mesh) error {
		_, err := m.CancelReminders(ctx, by, a, name, "")
		return err
	}) {
		s.mu.Lock()
		x.gone, x.goneAt = true, time.Now()
		w.trace.say("reminder %s is deleted", name)
		s.mu.Unlock()
	}
}

// fields changes and reads a state that only this client uses.
func (c *simClient) fields() {
	d := c.w.dice
	a := runtime.Actor{App: "app", Type: "A", ID: "f-" + c.name}
	if c.mine == nil {
		c.mine = map[string]string{}
	}
	for range 1 + d.n(5) {
		op := runtime.StateOp{Actor: a, ID: c.w.actorID(a), Key: fmt.Sprint("k", d.n(4))}
		key := op.Key
		if d.oneIn(2) {
			op.Key, op.InMap, op.Sub = fmt.Sprint("m", d.n(2)), true, fmt.Sprint(d.n(4))
			key = op.Key + "/" + op.Sub
		}
		c.told++
		value := fmt.Sprint("v", c.told)
		switch what := d.n(10); {
		case what < 5:
			op.Verb, op.Value = runtime.StateSet, []byte(value)
			c.mine[key] = value
		case what < 7:
			op.Verb = runtime.StateDelete
			delete(c.mine, key)
		case what == 7:
			op.Verb, op.InMap, op.Sub, op.Key = runtime.StateMapClear, false, "", fmt.Sprint("m", d.n(2))
			for k := range c.mine {
				if strings.HasPrefix(k, op.Key+"/") {
					delete(c.mine, k)
				}
			}
		case what == 8 && d.oneIn(3):
			op.Verb = runtime.StateClear
			op.Key, op.InMap, op.Sub = "", false, ""
			c.mine = map[string]string{}
		default:
			f := runtime.Field{Key: op.Key, InMap: op.InMap, Sub: op.Sub, Value: []byte(value)}
			op.Verb, op.Sets, op.Key, op.InMap, op.Sub = runtime.StateUpdate, []runtime.Field{f}, "", false, ""
			c.mine[key] = value
		}
		if !c.insist("change of state", func(ctx context.Context, m *engine.Mesh) error {
			_, err := m.State(ctx, op)
			return err
		}) {
			c.mine = nil
			return
		}
	}
	c.insist("scan", func(ctx context.Context, m *engine.Mesh) error {
		res, err := m.State(ctx, runtime.StateOp{Actor: a, Verb: runtime.StateAll})
		if err != nil || ctx.Err() != nil {
			return err
		}
		got := map[string]string{}
		for _, f := range res.Fields {
			k := f.Key
			if f.InMap {
				k += "/" + f.Sub
			}
			got[k] = string(f.Value)
		}
		x, _ := json.Marshal(got)
		y, _ := json.Marshal(c.mine)
		if !bytes.Equal(x, y) {
			c.w.judge.fault("%s reads %s of its state, acknowledged was %s", c.name, x, y)
		}
		return nil
	})
}

// events subscribes once, and publishes now and then.
func (c *simClient) events() {
	w, s := c.w, c.w.duties
	who := "e-" + c.name
	a := runtime.Actor{App: "app", Type: "A", ID: who}
	s.mu.Lock()
	x := s.subs[who]
	first := x == nil
	if first {
		x = &simSub{from: len(s.topic)}
		s.subs[who] = x
	}
	s.mu.Unlock()
	if first {
		by := runtime.Caller{ID: w.actorID(a)}
		if c.insist("subscription", func(ctx context.Context, m *engine.Mesh) error {
			s.mu.Lock()
			next := int64(len(s.topic))
			s.mu.Unlock()
			_, err := m.Subscribe(ctx, by, runtime.Subscription{Actor: a, ID: "s", Path: "/ev", Topic: "t", Next: next})
			return err
		}) {
			s.mu.Lock()
			x.acked, x.to = true, len(s.topic)+1
			s.mu.Unlock()
		}
	}
	for range w.dice.n(8) {
		s.mu.Lock()
		s.topic = append(s.topic, fmt.Sprint("e#", len(s.topic)+1))
		s.mu.Unlock()
		sleepFor(w.over, w.dice.between(0, 100*time.Millisecond))
	}
}

// pump does for a gateway what the room events does.
func (w *world) pump(n *simNode) {
	for sleepFor(n.ended, w.dice.between(20*time.Millisecond, 200*time.Millisecond)) && w.over.Err() == nil {
		if n.pass() != nil {
			return
		}
		groups, _ := n.mesh.Groups()
		for _, g := range groups {
			w.duties.mu.Lock()
			all := w.duties.topic
			w.duties.mu.Unlock()
			if g.Next < 0 || int(g.Next) >= len(all) {
				continue
			}
			var evs []runtime.Event
			for o := g.Next; int(o) < min(len(all), int(g.Next)+10); o++ {
				evs = append(evs, runtime.Event{Offset: o, Body: []byte(strconv.Quote(all[o]))})
			}
			ctx, cancel := context.WithTimeout(n.ended, 5*time.Second)
			_, _ = n.mesh.Deliver(ctx, g.Key, g.Next, evs)
			cancel()
		}
	}
}

// two is an app of its own that is purged and drained.
func (c *simClient) two() {
	w, d := c.w, c.w.dice
	a := runtime.Actor{App: "two", Type: "A", ID: "p"}
	set := func(v string) {
		op := runtime.StateOp{Actor: a, Verb: runtime.StateSet, Key: "k", Value: []byte(v), ID: w.actorID(a)}
		c.insist("write of two", func(ctx context.Context, m *engine.Mesh) error {
			_, err := m.State(ctx, op)
			return err
		})
	}
	read := func(v string) {
		c.insist("read of two", func(ctx context.Context, m *engine.Mesh) error {
			res, err := m.State(ctx, runtime.StateOp{Actor: a, Verb: runtime.StateGet, Key: "k"})
			if err == nil && ctx.Err() == nil && string(res.Value) != v {
				w.judge.fault("of two %q is read in place of %q", res.Value, v)
			}
			return err
		})
	}
	var sent []runtime.ID
	for i := 0; !w.isCalm() && w.over.Err() == nil; i++ {
		v := fmt.Sprint("t", i)
		set(v)
		for range d.n(6) {
			t := runtime.Target{App: "two", Type: "A", ID: fmt.Sprint("t-", d.n(5))}
			if d.oneIn(5) {
				t = runtime.Target{App: "two", Service: "s"}
			}
			r := &runtime.Request{Target: t, Kind: runtime.Tell, Method: "POST", Path: "/m0", Body: []byte("[]")}
			r.ID = engine.NewID(time.Now(), t, "", w.parts)
			if d.oneIn(3) {
				r.NotBefore = time.Now().Add(d.between(0, 4*time.Second)).UnixMilli()
			}
			sent = append(sent, r.ID)
			c.accept(r)
		}
		sleepFor(w.over, d.between(0, 2*time.Second))
		read(v)
		what := d.n(3)
		w.judge.mark(sent, func(q *simRequest) { q.unwanted = true })
		ended := false
		switch what {
		case 0:
			w.trace.say("two is purged")
			ended = c.insist("purge", func(ctx context.Context, m *engine.Mesh) error { return m.Purge(ctx, "two") })
			w.trace.say("two was purged %v", ended)
			if ended {
				read("")
			}
		case 1:
			w.trace.say("two is drained")
			ended = c.insist("drain", func(ctx context.Context, m *engine.Mesh) error {
				_, err := m.Drain(ctx, "two")
				return err
			})
			w.trace.say("two was drained %v", ended)
		case 2:
			continue
		}
		if ended {
			w.judge.mark(sent, func(q *simRequest) { q.withdrawn, q.since = true, time.Now() })
			sent = nil
		}
	}
}

func (j *judge) mark(ids []runtime.ID, do func(*simRequest)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, id := range ids {
		do(j.of(id))
	}
}
