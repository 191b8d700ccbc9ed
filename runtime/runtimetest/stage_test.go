package runtimetest

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/karmesh/kar/runtime"
)

// A stagePlan says when the owner dies.
type stagePlan struct {
	kill     int  // when the log holds this many records; 0 for never
	carried  bool // after the effects of the round, if it ends there
	hostsDie bool // with it
}

// A stage is one partition and its hosts, played in turns without chance.
type stage struct {
	plan   stagePlan
	now    int64
	killed bool
	terms  int
	core   *runtime.Core
	disk   simLog // full, start and store count
	cut    runtime.Keep
	cutAt  int // offset of the header in front of which the log is to be cut, 0 before it is written

	in    []runtime.Input
	asks  []*stageAsk // not answered yet, in order
	waits map[any]*stageAsk
	count int
	later map[int64][]func()
	hosts []*stageHost
	topic [][]byte

	told  map[string]string // by request: how it ended
	ids   map[string]runtime.ID
	ran   map[string]int  // starts of methods
	fired map[int64]int64 // due time → count
	wrong string
}

// A stageAsk is put again to each new owner until it is answered.
type stageAsk struct {
	by   *stageHost // nil for a client outside
	make func(w any) runtime.Input
	then func(*runtime.Effect)
	sent bool
	once bool // "ask again" is an answer
}

const stageTurn = 50 // ms

func newStage(plan stagePlan) *stage {
	s := &stage{
		plan: plan, now: simStart, waits: map[any]*stageAsk{}, later: map[int64][]func(){}, told: map[string]string{},
		ids: map[string]runtime.ID{}, ran: map[string]int{}, fired: map[int64]int64{},
	}
	s.disk.s = &sim{}
	s.disk.store = &simStore{log: &s.disk}
	return s
}

func (s *stage) fail(format string, args ...any) {
	if s.wrong == "" {
		s.wrong = fmt.Sprintf("at %d: ", s.now-simStart) + fmt.Sprintf(format, args...)
	}
}

func (s *stage) clock() runtime.Now {
	return runtime.Now{Wall: s.now, Mono: s.now - simStart + 1_000_000}
}

func (s *stage) at(ms int64, do func()) { s.later[simStart+ms] = append(s.later[simStart+ms], do) }

// play goes on until everything has ended.
func (s *stage) play() {
	s.open()
	s.join("h1", simApp, "s", "A", "B")
	s.join("h2", simApp, "s", "A", "B")
	s.join("frail", simApp, "frail")
	s.join("o", "other", "", "A")
	s.script()
	for quiet := 0; quiet < 20 && s.wrong == ""; quiet++ {
		if s.turn() {
			quiet = 0
		}
		if s.now > simStart+120_000 {
			s.fail("it does not end; %d questions are open, owner:\n%s", len(s.asks), s.core.Describe())
		}
	}
	if s.plan.kill > 0 && !s.killed {
		s.fail("the owner was not killed")
	}
	s.checkFirings()
}

// open makes an owner from what is in the log.
func (s *stage) open() {
	s.terms++
	c := runtime.New(runtime.Config{
		Mesh: "stage", Partitions: 1, Node: fmt.Sprint("g", s.terms), Lease: simLease, IDWindow: 600_000,
		ResultRetention: 86_400_000,
	})
	fold := func(b []byte) {
		if _, err := c.Fold(b); err != nil {
			s.fail("fold: %v", err)
		}
	}
	for _, b := range s.disk.full[s.disk.start:] {
		fold(b)
	}
	claim := c.Claim(s.clock())
	s.disk.full = append(s.disk.full, claim)
	fold(claim)
	s.core = c
	if !c.Own(s.clock(), s.disk.store.applied) {
		s.fail("the claim does not count")
	}
	s.commit()
}

// turn lets time pass and is one round of the owner. It tells whether
// anything was under way.
func (s *stage) turn() bool {
	s.now += stageTurn
	busy := len(s.asks) > 0 || s.now < simStart+9000
	for _, do := range s.later[s.now] {
		do()
	}
	for _, h := range s.hosts {
		if !h.dead {
			s.in = append(s.in, &runtime.HostsBeat{Boots: []string{h.boot}})
		}
		for _, x := range h.attempts {
			busy = busy || !h.dead && !x.done
		}
	}
	s.publish()
	for _, a := range s.asks {
		if !a.sent {
			s.count++
			a.sent, s.waits[s.count] = true, a
			s.in = append(s.in, a.make(s.count))
		}
	}
	in := append(s.in, &runtime.Tick{})
	s.in = nil
	for _, i := range in {
		s.core.Step(s.clock(), i)
	}
	s.trim()
	s.commit()
	return busy
}

// trim marks a place in the log, keeps what is live in front of it, and cuts.
func (s *stage) trim() {
	switch {
	case s.now != simStart+4000 && s.cutAt == 0 && s.now < simStart+4000, s.disk.start > 0:
	case s.cutAt == 0:
		s.core.Step(s.clock(), &runtime.Mark{})
		s.cut, s.cutAt = runtime.Keep{Before: s.core.Seq(), Limit: 2}, len(s.disk.full)+s.core.Pending()-1
	case s.core.OldestLive() < s.cut.Before:
		keep := s.cut
		s.core.Step(s.clock(), &keep)
	case s.disk.store.applied >= s.cut.Before && s.core.Pending() == 0:
		s.disk.start = s.cutAt
	}
}

// commit makes the round durable and carries out what follows, unless the
// owner dies of it.
func (s *stage) commit() {
	records, effects := s.core.Take()
	dies := s.plan.kill > 0 && !s.killed && len(s.disk.full)+len(records) >= s.plan.kill
	if n := s.plan.kill - len(s.disk.full); dies && n < len(records) {
		records, effects = records[:max(n, 0)], nil
	} else if dies && !s.plan.carried {
		effects = nil
	}
	s.disk.full = append(s.disk.full, records...)
	if changes := s.core.TakeChanges(); !dies { // what the store has not, the log has
		for _, ch := range changes {
			s.disk.store.write(0, ch.Seq, []runtime.StoreChange{ch})
		}
	}
	for i := range effects {
		s.carry(&effects[i])
	}
	if dies {
		s.die()
	}
}

func (s *stage) die() {
	s.killed = true
	if s.cutAt >= len(s.disk.full) {
		s.cutAt = 0 // the mark is not in the log
	}
	clear(s.waits)
	s.in = nil
	s.open()
	for _, ch := range s.core.TakeChanges() {
		s.disk.store.write(0, ch.Seq, []runtime.StoreChange{ch})
	}
	for _, a := range s.asks {
		a.sent = false
	}
	for _, h := range slices.Clone(s.hosts) {
		switch {
		case h.dead:
			s.in = append(s.in, &runtime.HostDown{Boot: h.boot, Reason: "exit"})
		case s.plan.hostsDie:
			s.exit(h.boot)
			s.join(h.boot+"'", h.info.App, h.info.Service, h.info.Actors...)
		default:
			h.attach()
		}
	}
}

func (s *stage) carry(e *runtime.Effect) {
	switch e.Kind {
	case runtime.Reply:
		a := s.waits[e.Waiter]
		if a == nil {
			return
		}
		delete(s.waits, e.Waiter)
		if e.Err != nil && e.Err.Code == runtime.CodeAskAgain && !a.once {
			a.sent = false
			return
		}
		s.asks = slices.DeleteFunc(s.asks, func(x *stageAsk) bool { return x == a })
		if a.then != nil {
			a.then(e)
		}
	case runtime.ToHost:
		for _, h := range s.hosts {
			if h.boot == e.Boot && !h.dead {
				h.take(e.Msg)
			}
		}
	}
}

// ask puts a question in the next turn.
func (s *stage) ask(by *stageHost, make func(w any) runtime.Input, then func(*runtime.Effect)) *stageAsk {
	a := &stageAsk{by: by, make: make, then: then}
	s.asks = append(s.asks, a)
	return a
}

// request asks for work under one id, and gives back what the owner was told.
func (s *stage) request(by *stageHost, name string, r runtime.Request, then func(e *runtime.Effect)) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	var rnd [6]byte
	copy(rnd[:], h.Sum(nil))
	r.ID, r.Method = runtime.NewID(s.now, 0, r.Target.App, rnd), "POST"
	if r.Body == nil {
		r.Body = fmt.Appendf(nil, "[%q]", name)
	}
	s.ids[name] = r.ID
	s.ask(by, func(w any) runtime.Input {
		in := &runtime.Submit{Request: r, Waiter: w}
		if r.Key != "" {
			in.View = s.disk.store.view()
		}
		return in
	}, func(e *runtime.Effect) {
		if r.Kind == runtime.Call {
			s.in = append(s.in, &runtime.Release{App: r.Target.App, IDs: []runtime.ID{r.ID}})
		}
		then(e)
	})
}

// submit is a client's request; what it is told last is noted.
func (s *stage) submit(name string, r runtime.Request, then func()) {
	note := func(e *runtime.Effect) {
		switch {
		case e.Err != nil:
			s.told[name] = string(e.Err.Code)
		case e.Outcome != nil:
			s.told[name] = fmt.Sprintf("%d %s %s", e.Outcome.Status, e.Outcome.Code, e.Outcome.Body)
		default:
			s.told[name] = "accepted"
		}
		if then != nil {
			then()
		}
	}
	s.request(nil, name, r, func(e *runtime.Effect) {
		if r.Kind != runtime.Promise || e.Err != nil {
			note(e)
			return
		}
		s.ask(nil, func(w any) runtime.Input {
			return &runtime.Await{App: r.Target.App, ID: s.ids[name], Waiter: w, View: s.disk.store.view()}
		}, note)
	})
}

func (s *stage) cancel(name string) func(w any) runtime.Input {
	return func(w any) runtime.Input { return &runtime.Cancel{App: simApp, ID: s.ids[name], Waiter: w} }
}

// publish hands events to the groups, from where the owner says they are.
func (s *stage) publish() {
	if len(s.topic) == 0 || s.now%200 != 0 {
		return
	}
	s.count++
	s.waits[s.count] = &stageAsk{then: func(e *runtime.Effect) {
		groups, _ := e.Value.([]runtime.GroupCursor)
		for _, g := range groups {
			var events []runtime.Event
			for i := int(g.Next); i < len(s.topic) && len(events) < 3; i++ {
				events = append(events, runtime.Event{Offset: int64(i), Body: s.topic[i]})
			}
			if len(events) > 0 {
				s.in = append(s.in, &runtime.DeliverEvents{Group: g.Key, From: g.Next, Events: events})
			}
		}
	}}
	s.in = append(s.in, &runtime.Query{Kind: runtime.QueryGroups, Waiter: s.count})
}

// A stageHost is a host that does what it is told at once.
type stageHost struct {
	s         *stage
	boot      string
	info      runtime.HostInfo
	dead      bool
	attempts  map[runtime.Attempt]*stageRun
	instances map[runtime.Actor]bool
	ending    map[runtime.Actor]bool // to be deactivated when nothing runs
}

func (s *stage) join(boot, app, service string, actors ...string) {
	h := &stageHost{
		s: s, boot: boot, attempts: map[runtime.Attempt]*stageRun{}, instances: map[runtime.Actor]bool{}, ending: map[runtime.Actor]bool{},
		info: runtime.HostInfo{Boot: boot, App: app, Service: service, Actors: actors, Grace: simLease, Idle: 600},
	}
	s.hosts = append(s.hosts, h)
	h.attach()
}

func (h *stageHost) attach() {
	var j runtime.JoinAnswer
	var all []runtime.Attempt
	for a := range h.attempts {
		all = append(all, a)
	}
	sortAttempts(all)
	for _, a := range all {
		if x := h.attempts[a]; x.done {
			j.Finished = append(j.Finished, x.answer)
		} else {
			j.Running = append(j.Running, a)
		}
	}
	for a := range h.instances {
		j.Instances = append(j.Instances, a)
	}
	slices.SortFunc(j.Instances, func(a, b runtime.Actor) int {
		return cmp.Or(strings.Compare(a.Type, b.Type), strings.Compare(a.ID, b.ID))
	})
	h.s.in = append(h.s.in, &runtime.HostJoined{Info: h.info, Join: j})
}

// exit ends a host, as its guard reports it.
func (s *stage) exit(boot string) {
	for _, h := range s.hosts {
		if h.boot == boot && !h.dead {
			h.dead = true
			s.asks = slices.DeleteFunc(s.asks, func(a *stageAsk) bool { return a.by == h })
			s.in = append(s.in, &runtime.HostDown{Boot: boot, Reason: "exit"})
		}
	}
}

func (h *stageHost) take(m runtime.HostMessage) {
	switch m := m.(type) {
	case *runtime.Invoke:
		if x := h.attempts[m.Attempt]; x == nil {
			h.run(m)
		} else if x.done {
			h.s.in = append(h.s.in, &runtime.Answered{Boot: h.boot, Answer: x.answer})
		}
	case *runtime.Taken:
		for _, a := range m.Attempts {
			delete(h.attempts, a)
		}
	case *runtime.Deactivate:
		h.ending[m.Actor] = true
		h.rest(m.Actor)
	}
}

// rest deactivates an actor if that is asked for and nothing runs on it.
func (h *stageHost) rest(a runtime.Actor) {
	for _, x := range h.attempts {
		if !x.done && x.m.Target.Actor() == a {
			return
		}
	}
	if h.ending[a] {
		delete(h.ending, a)
		delete(h.instances, a)
		h.s.in = append(h.s.in, &runtime.Deactivated{Boot: h.boot, Actor: a})
	}
}
