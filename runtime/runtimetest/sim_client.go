package runtimetest

import (
	"fmt"
	"strings"

	"github.com/karmesh/kar/runtime"
)

// submit asks the owner of the target, through the owner of the caller when
// that is another, again and again under one id until there is an answer.
// From is the host that asks, nil for a client outside.
func (s *sim) submit(r runtime.Request, from *simHost, then func(*runtime.Effect)) {
	answered := false
	alive := func() bool { return from == nil || !from.dead }
	finish := func(e *runtime.Effect) {
		s.after(s.between(0, 15), func() {
			if answered || !alive() {
				return
			}
			answered = true
			s.wit.answered(&r, e)
			if from == nil {
				then(e)
			} else {
				from.app(0, func() { then(e) })
			}
		})
	}
	p := runtime.PartitionOf(r.Target, r.Key, r.ID, s.opt.Partitions)
	q, nested := runtime.SessionPartition(r.Session)
	nested = nested && int(q) < len(s.parts)
	var again func()
	again = func() {
		if answered || !alive() {
			return
		}
		s.after(s.between(0, 20), func() {
			switch {
			case s.faults && s.chance(5):
			case s.opt.Bug == "skip-p4" && nested:
				flow, _ := runtime.ParseID(r.Session[:26])
				s.submitTo(p, r, &runtime.Vouched{Flow: flow}, finish)
			case nested && q != p:
				s.vouch(q, p, r, finish)
			default:
				s.submitTo(p, r, nil, finish)
			}
		})
		s.after(s.between(600, 1500), again)
	}
	again()
}

func (s *sim) submitTo(p uint16, r runtime.Request, v *runtime.Vouched, reply func(*runtime.Effect)) {
	o := s.ownerOf(p)
	if o == nil {
		return
	}
	s.wit.asked(r.ID)
	if s.opt.Bug == "early-ack" && r.Kind == runtime.Tell {
		reply(&runtime.Effect{ID: r.ID})
		o.at(s.between(0, 900), func() { o.push(&runtime.Submit{Request: r}) })
		return
	}
	o.ask(func(w any) runtime.Input {
		in := &runtime.Submit{Request: r, Waiter: w, Vouched: v}
		if r.Key != "" {
			in.View = o.store.view()
		}
		return in
	}, func(e *runtime.Effect) {
		if e.Err == nil || e.Err.Code != runtime.CodeAskAgain {
			reply(e)
		}
	})
}

// vouch: the owner of the parent remembers the child, passes it on, and closes
// it when the outcome is there.
func (s *sim) vouch(q, p uint16, r runtime.Request, reply func(*runtime.Effect)) {
	parent := s.ownerOf(q)
	if parent == nil {
		return
	}
	parent.ask(func(w any) runtime.Input { return &runtime.Vouch{Request: r, Waiter: w} }, func(e *runtime.Effect) {
		if e.Err != nil {
			if e.Err.Code != runtime.CodeAskAgain {
				reply(e)
			}
			return
		}
		v, _ := e.Value.(*runtime.Vouched)
		closed := false
		var pass func()
		pass = func() {
			if closed {
				return
			}
			s.submitTo(p, r, v, func(e *runtime.Effect) {
				parent.at(s.between(0, 15), func() {
					closed = true
					switch {
					case v == nil:
					case e.Err != nil || e.Outcome != nil && e.Outcome.Code == runtime.CodePurged:
						parent.watch(r.ID, v.Parents, r.Target.App, v.Epoch)
					default:
						parent.push(&runtime.ChildClosed{Parents: v.Parents, Child: r.ID})
					}
					reply(e)
				})
			})
			parent.at(900, pass) // the other owner may be gone
		}
		parent.at(s.between(0, 15), pass)
		if v != nil && s.faults && s.chance(20) { // the stream of who asks breaks, and it asks again
			parent.at(s.between(0, 60), func() {
				if !closed {
					closed = true
					parent.watch(r.ID, v.Parents, r.Target.App, v.Epoch)
				}
			})
		}
	})
}

func (s *sim) startClients(app string) {
	for range 4 {
		s.after(s.between(100, 900), func() { s.client(app) })
	}
	if s.opt.Change {
		s.after(s.between(100, 900), func() { s.change(app) })
	}
	if s.opt.Foreign {
		for range 2 {
			s.after(s.between(100, 900), func() { s.foreign(app) })
		}
	}
	first := len(s.subs)
	for i, group := range []string{"", simGroup, simGroup} {
		t := simActor(app, i+2).Actor()
		s.subs = append(s.subs, runtime.Subscription{Actor: t, ID: fmt.Sprint("s", i), Path: "/event", Topic: "t", Group: group})
	}
	for _, sub := range s.subs[first:] {
		s.settled(runtime.ActorPartition(sub.Actor, s.opt.Partitions), func(w any) runtime.Input {
			return &runtime.Subscribe{Subscription: sub, Waiter: w}
		}, func() { s.trace("subscribed %s", sub.ID) })
	}
	a := simActor(app, 1).Actor()
	again := s.newID(targetOf(a), "")
	set := func(w any) runtime.Input {
		return &runtime.SetReminder{ID: again, Reminder: runtime.Reminder{Actor: a, ID: "r", Path: "/tick", Due: simStart + simFirstDue, Period: 1_500_000_000}, Waiter: w}
	}
	s.settled(runtime.ActorPartition(a, s.opt.Partitions), set, func() { s.trace("reminder set") })
	if s.opt.Bug == "reminder-again" { // a repeated PUT that is taken for a new one
		s.after(9000, func() {
			again = s.newID(targetOf(a), "")
			s.settled(runtime.ActorPartition(a, s.opt.Partitions), set, func() {})
		})
	}
}

// endReminders: what comes again and again has to end before the run can be judged.
func (s *sim) endReminders() {
	for _, app := range s.apps {
		for i := range simActors {
			a := simActor(app, i).Actor()
			s.settled(runtime.ActorPartition(a, s.opt.Partitions), func(w any) runtime.Input {
				return &runtime.CancelReminders{Actor: a, Waiter: w}
			}, func() { s.trace("reminders of %s end", app) })
		}
	}
}

func (s *sim) publishOne() {
	if s.faults {
		depth := simLeaf
		if s.opt.Burst {
			depth = 4 // it may end in a tail call
		}
		s.topic = append(s.topic, fmt.Appendf(nil, `{"stack":[],"depth":%d,"from":"event %d"}`, depth, len(s.topic)))
	}
}

func (s *sim) publish() {
	if s.faults {
		s.publishOne()
		s.after(s.between(200, 1500), s.publish)
	}
}

// settled asks again when the owner that was asked is gone.
func (s *sim) settled(p uint16, make func(w any) runtime.Input, then func()) {
	s.settledUnder("", p, func(_ runtime.ID, w any) runtime.Input { return make(w) }, then)
}

// settledUnder asks again under the same id, for a change of an app. One that was refused
// was not made: it is asked for anew.
func (s *sim) settledUnder(app string, p uint16, make func(id runtime.ID, w any) runtime.Input, then func()) {
	var id runtime.ID
	anew := func() {
		s.changes++
		id = runtime.NewID(simStart+s.now, p, app, [6]byte{byte(s.changes >> 8), byte(s.changes)})
	}
	anew()
	done := false
	var asked *simOwner
	var again func()
	again = func() {
		if done {
			return
		}
		if o := s.ownerOf(p); o != nil && (asked == nil || asked.gone || !asked.n.alive || asked.inc != asked.n.inc) {
			asked = o
			o.ask(func(w any) runtime.Input { return make(id, w) }, func(e *runtime.Effect) {
				switch {
				case done:
				case e.Err != nil && (app == "" || e.Err.Code == runtime.CodeAskAgain):
				case e.Err != nil:
					asked = nil
					anew()
				default:
					done = true
					then()
				}
			})
		}
		s.after(400, again)
	}
	again()
}

// pump delivers events to the groups that live here.
func (o *simOwner) pump() {
	s := o.n.s
	o.ask(func(w any) runtime.Input { return &runtime.Query{Kind: runtime.QueryGroups, Waiter: w} }, func(e *runtime.Effect) {
		gs, _ := e.Value.([]runtime.GroupCursor)
		batch := 3
		if s.opt.Burst {
			batch = 100
		}
		for _, g := range gs {
			if o.pumping[g.Key] {
				continue
			}
			var events []runtime.Event
			for i := int(g.Next); i < len(s.topic) && len(events) < batch; i++ {
				n := i
				if s.opt.Bug == "event-twice" && s.chance(20) {
					n = i + 1
				}
				events = append(events, runtime.Event{Offset: int64(n), Body: s.topic[i]})
			}
			if len(events) > 0 {
				o.pumping[g.Key] = true // until there is an answer, which may take as long as the group is full
				o.ask(func(w any) runtime.Input {
					return &runtime.DeliverEvents{Group: g.Key, From: g.Next, Events: events, Waiter: w}
				}, func(*runtime.Effect) {
					delete(o.pumping, g.Key)
				})
			}
		}
	})
	o.at(s.between(200, 600), o.pump)
}

// client sends one request after the other from outside.
func (s *sim) client(app string) {
	if !s.faults {
		return
	}
	t := simActor(app, s.rng.Intn(simActors))
	if s.chance(15) {
		t = simService(app)
	}
	next := func() { s.client(app) }
	r := runtime.Request{Kind: runtime.Call, Target: t, Method: "POST", Path: "/m", Body: simBody{}.encode()}
	switch s.rng.Intn(10) {
	case 0, 1, 2:
		r.Kind = runtime.Tell
	case 3:
		r.Kind = runtime.Promise
	case 4:
		r.Key = fmt.Sprint("key", s.rng.Intn(5), t.ID)
		r.Body = simBody{}.encode()
	case 5:
		if t.IsActor() && s.chance(50) {
			r.Kind, r.Body = runtime.Remove, nil
		}
	case 6:
		r.NotBefore = simStart + s.now + s.between(0, 3000)
	}
	if s.opt.Limits {
		s.limit(&r)
	}
	r.ID = s.newID(t, r.Key)
	s.report.Requests++
	s.wit.submitted(&r)
	if s.chance(4) {
		s.after(s.between(0, 500), func() {
			if o := s.ownerOf(r.ID.Partition()); o != nil {
				s.wit.cancelled(r.ID)
				o.ask(func(w any) runtime.Input { return &runtime.Cancel{App: app, ID: r.ID, Waiter: w} }, func(e *runtime.Effect) {
					s.wit.toldOfCancel(r.ID, e)
				})
			}
		})
	}
	s.submit(r, nil, func(e *runtime.Effect) {
		if r.Kind == runtime.Promise && e.Err == nil {
			s.await(r, next)
			return
		}
		if s.opt.Short && s.chance(20) {
			s.after(s.between(20_000, 120_000), func() { s.submit(r, nil, func(*runtime.Effect) {}) })
		}
		if s.chance(20) && e.Err == nil { // somebody asks again, later
			s.submit(r, nil, func(*runtime.Effect) {})
		}
		s.after(s.between(0, 400), next)
	})
}

// limit gives a client's request limits and weight.
func (s *sim) limit(r *runtime.Request) {
	if r.Kind == runtime.Call || r.Kind == runtime.Promise {
		if s.chance(15) {
			r.NoHost = s.between(300, 4000)
		}
		if s.chance(15) {
			r.Busy = s.between(300, 4000)
		}
	}
	if r.Kind != runtime.Remove {
		if s.chance(15) {
			r.Deadline = simStart + s.now + s.between(300, 6000)
		}
		r.Body = simBody{Pad: strings.Repeat("x", s.rng.Intn(1500))}.encode()
	}
	if r.Key != "" {
		r.Body, r.Deadline, r.NoHost, r.Busy = simBody{}.encode(), 0, 0, 0 // one key, one request
	}
}

func (s *sim) await(r runtime.Request, then func()) {
	answered := false
	boot := r.Boot
	if s.opt.Bug == "nameless-await" {
		boot = ""
	}
	var again func()
	again = func() {
		if answered {
			return
		}
		if o := s.ownerOf(r.ID.Partition()); o != nil {
			o.ask(func(w any) runtime.Input {
				return &runtime.Await{App: r.Target.App, ID: r.ID, Boot: boot, Waiter: w, View: o.store.view()}
			}, func(e *runtime.Effect) {
				if answered || e.Err != nil && e.Err.Code == runtime.CodeAskAgain {
					return
				}
				if e.Err != nil && s.deposed(o) {
					return // deposed and not aware of it; a question that names the new term would tell it
				}
				answered = true
				s.wit.awaited(&r, e)
				s.after(s.between(0, 400), then)
			})
		}
		s.after(1500, again)
	}
	again()
}
