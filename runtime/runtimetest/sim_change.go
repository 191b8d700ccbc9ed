package runtimetest

import (
	"fmt"
	"sort"
	"strings"

	"github.com/karmesh/kar/runtime"
)

// A simLife is a reminder or a subscription from when it is set until it is
// replaced or removed. Its number is in the path that it is called by.
type simLife struct {
	app           string
	name          string // of the actor and the reminder or subscription
	due, period   int64  // ms
	catchUp       bool
	from          int   // offset of the first event
	set, over     int64 // when that was answered; 0 for not yet
	ending        int64 // when its end was asked for
	loose         bool  // it has replaced one whose cursor it took over
	deleted       int64 // when that was answered of it, or of what has replaced it
	subscription  bool
	published     int // how many events there were when its end was asked for
	eventRequests map[string]map[runtime.ID]bool
}

// change sets, replaces and removes reminders and subscriptions.
func (s *sim) change(app string) {
	if !s.faults {
		return
	}
	next := func() { s.after(s.between(200, 2000), func() { s.change(app) }) }
	if s.chance(30) {
		s.changeSubscription(app, next)
		return
	}
	a := simActor(app, s.rng.Intn(simActors)).Actor()
	id := fmt.Sprint("x", s.rng.Intn(2))
	name := app + "/" + a.ID + "/" + id
	s.wit.lifeEnds(name)
	if s.chance(35) {
		again, session := s.newID(targetOf(a), ""), ""
		if s.opt.Bug == "spare-firing" {
			session = s.wit.firingOf(name)
		}
		s.settled(runtime.ActorPartition(a, s.opt.Partitions), func(w any) runtime.Input {
			return &runtime.CancelReminders{Actor: a, ID: id, Session: session, Request: again, Waiter: w}
		}, func() {
			s.trace("reminder %s is deleted", name)
			s.wit.lifeOver(name)
			s.wit.lifeDeleted(name)
			next()
		})
		return
	}
	n := len(s.wit.lives)
	life := &simLife{app: app, name: name, due: simStart + s.now + s.between(0, 5000)}
	if s.chance(60) {
		life.period, life.catchUp = s.between(700, 3000), s.chance(40)
	}
	s.wit.lives = append(s.wit.lives, life)
	r := runtime.Reminder{Actor: a, ID: id, Path: fmt.Sprint("/tick?life=", n), Due: life.due, Period: life.period * 1_000_000, CatchUp: life.catchUp}
	again := s.newID(targetOf(a), "")
	s.trace("reminder %s is set, life %d due %d period %d all %v", name, n, life.due-simStart, life.period, life.catchUp)
	s.settled(runtime.ActorPartition(a, s.opt.Partitions), func(w any) runtime.Input {
		return &runtime.SetReminder{Reminder: r, ID: again, Waiter: w}
	}, func() {
		life.set = s.now
		s.wit.lifeOver(name)
		next()
	})
}

func (s *sim) changeSubscription(app string, next func()) {
	a := simActor(app, simActors-1).Actor()
	name := app + "/sub"
	s.wit.lifeEnds(name)
	if s.chance(50) {
		again := s.newID(targetOf(a), "")
		s.settled(runtime.ActorPartition(a, s.opt.Partitions), func(w any) runtime.Input {
			return &runtime.Unsubscribe{Actor: a, ID: "c", Request: again, Waiter: w}
		}, func() {
			s.wit.lifeOver(name)
			next()
		})
		return
	}
	n := len(s.wit.lives)
	life := &simLife{app: app, name: name, subscription: true, eventRequests: map[string]map[runtime.ID]bool{}}
	for _, l := range s.wit.lives {
		if l.name == name && l.over == 0 {
			life.loose = true
		}
	}
	s.wit.lives = append(s.wit.lives, life)
	if s.chance(50) {
		life.from = len(s.topic)
	}
	group := ""
	if s.chance(50) {
		group = "c" // as in every app
	}
	sub := runtime.Subscription{Actor: a, ID: "c", Path: fmt.Sprint("/event?life=", n), Topic: "t", Group: group, Oldest: life.from == 0, Next: int64(life.from)}
	again := s.newID(targetOf(a), "")
	s.trace("subscription %s is set, life %d from %d group %q", name, n, life.from, group)
	s.settled(runtime.ActorPartition(a, s.opt.Partitions), func(w any) runtime.Input {
		return &runtime.Subscribe{Subscription: sub, ID: again, Waiter: w}
	}, func() {
		life.set = s.now
		s.wit.lifeOver(name)
		next()
	})
}

// lifeEnds: somebody asks for the end of what has that name.
func (w *witness) lifeEnds(name string) {
	for _, l := range w.lives {
		if l.name == name && l.ending == 0 {
			l.ending, l.published = max(w.s.now, 1), len(w.s.topic)
		}
	}
}

// lifeOver: that was done.
func (w *witness) lifeOver(name string) {
	for _, l := range w.lives {
		if l.name == name && l.ending != 0 && l.over == 0 {
			l.over = w.s.now
		}
	}
}

// lifeDeleted: a reminder of that name was deleted, and all that it has become with it.
func (w *witness) lifeDeleted(name string) {
	for _, l := range w.lives {
		if l.name == name && l.deleted == 0 {
			l.deleted = w.s.now
		}
	}
}

// afterDelete: what a deleted reminder has become has no other attempt, and no other
// step. It has one that was given to a host before; where the chain is away, the news
// may be on its way.
func (w *witness) afterDelete(x *simAttempt, r *seen) {
	f := w.firings[x.m.Attempt.ID]
	if f.life == 0 || w.lives[f.life-1].deleted == 0 {
		return
	}
	l, from := w.lives[f.life-1], x.began
	for _, y := range r.starts {
		if y.m.Attempt == x.m.Attempt {
			return
		}
		if y.done {
			from = y.ended // of the last one: what follows was decided after that
		}
	}
	slack := int64(30_000)
	if x.m.Attempt.Partition == x.m.Attempt.ID.Partition() && from != x.began {
		slack = 0
	}
	if from > l.deleted+slack {
		w.fail("P8: %s begins, what came before ended at %d, life %d of %s was deleted at %d", x.token(), from, f.life-1, l.name, l.deleted)
	}
}

// firingOf is a session of something that the reminder of that name has become.
func (w *witness) firingOf(name string) string {
	for _, id := range w.firingIDs() {
		if f := w.firings[id]; f.life > 0 && w.lives[f.life-1].name == name && w.req(id).goesOn() {
			return id.String()
		}
	}
	return ""
}

func (w *witness) lifeOf(x *simAttempt) *simLife {
	_, num, ok := strings.Cut(x.m.Path, "?life=")
	n := 0
	if _, err := fmt.Sscan(num, &n); !ok || err != nil || n >= len(w.lives) {
		return nil
	}
	return w.lives[n]
}

// eventOf notes an event that a changing subscription has delivered.
func (w *witness) eventOf(l *simLife, x *simAttempt) {
	for i, b := range w.s.topic {
		if "["+string(b)+"]" != string(x.m.Body) {
			continue
		}
		if i < l.from && !l.loose {
			w.fail("P9: %s is event %d, the subscription began at %d", x.token(), i, l.from)
		}
	}
	k := string(x.m.Body)
	if l.eventRequests[k] == nil {
		l.eventRequests[k] = map[runtime.ID]bool{}
	}
	l.eventRequests[k][x.m.Attempt.ID] = true
	if len(l.eventRequests[k]) > 1 && !l.loose {
		w.fail("P9: %s has more than one request in one subscription", k)
	}
}

// ofLives judges reminders and subscriptions that changed.
func (w *witness) ofLives() {
	firings := make([][]simFiring, len(w.lives))
	for _, id := range w.firingIDs() {
		if f := w.firings[id]; f.life > 0 {
			firings[f.life-1] = append(firings[f.life-1], f)
		}
	}
	for n, l := range w.lives {
		switch {
		case l.loose || l.set == 0 || l.app == simApp && w.wasPurged:
		case l.subscription:
			w.ofSubscription(n, l)
		default:
			w.ofReminder(n, l, firings[n])
		}
	}
}

func (w *witness) ofSubscription(n int, l *simLife) {
	until := len(w.s.topic)
	if l.ending != 0 {
		until = 0 // what was on its way may have been dropped
	}
	for i := l.from; i < until; i++ {
		if k := fmt.Sprintf("[%s]", w.s.topic[i]); len(l.eventRequests[k]) == 0 && !w.drainedSince(l.app, 0) {
			w.fail("P9: event %d became no request of life %d, a subscription of %s from %d on", i, n, l.name, l.from)
		}
	}
}

func (w *witness) ofReminder(n int, l *simLife, fs []simFiring) {
	sort.Slice(fs, func(i, j int) bool { return fs[i].due < fs[j].due })
	last := l.due - l.period
	for i, f := range fs {
		switch gap := f.due - last; {
		case l.over != 0 && f.due > simStart+l.over+w.skew():
			w.fail("P8: life %d of %s fired what was due at %d, it was over at %d", n, l.name, f.due-simStart, l.over)
		case l.period == 0 && (i > 0 || f.due != l.due || f.count != 1):
			w.fail("P8: life %d of %s, once at %d, fired %+v", n, l.name, l.due-simStart, fs)
		case l.period == 0:
		case l.catchUp && f.count != 1:
			w.fail("P8: life %d of %s counts %d, each was asked for", n, l.name, f.count)
		case gap != f.count*l.period && (gap < f.count*l.period || !w.drainedSince(l.app, f.due-gap)):
			w.fail("P8: life %d of %s, from %d each %d: the firing due at %d counts %d, the one before was due at %d",
				n, l.name, l.due-simStart, l.period, f.due-simStart, f.count, last-simStart)
		}
		last = f.due
	}
	id, _, _ := strings.Cut(l.name, "/")
	if len(fs) == 0 && l.ending == 0 && !w.drainedSince(l.app, 0) && !w.occupied(runtime.Actor{App: l.app, Type: "A", ID: id}, l.due) {
		w.fail("P8: life %d of %s, due at %d, never fired", n, l.name, l.due-simStart)
	}
}

func (w *witness) firingIDs() []runtime.ID {
	var ids []runtime.ID
	for id := range w.firings {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return string(ids[i][:]) < string(ids[j][:]) })
	return ids
}
