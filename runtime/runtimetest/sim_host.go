package runtimetest

import (
	"fmt"

	"github.com/karmesh/kar/runtime"
)

const simLease = 6000

// A simHost is one boot of a component: sidecar, guard and app.
type simHost struct {
	s         *sim
	boot      string
	name      string // of its app
	dead      bool
	drift     int64 // its clock runs this much faster, in percent
	stopped   int64 // SIGSTOP until
	frozen    bool
	draining  bool
	links     []*simLink
	fences    map[uint16]uint64
	attempts  map[runtime.Attempt]*simAttempt
	instances map[runtime.Actor]bool
	busy      map[runtime.Actor][]func()            // waits for an activation or deactivation
	ending    map[runtime.Actor]*runtime.Deactivate // waits until no attempt runs on the actor
	kept      map[uint16]int64                      // when the last answered beat was sent
	deferred  []func()
}

// A simLink is an ordered stream between a host and a gateway.
type simLink struct {
	h    *simHost
	n    *simNode
	inc  int
	up   bool
	last [2]int64 // last delivery in each direction
}

func (s *sim) spawn(app string) {
	s.boots++
	h := &simHost{
		s: s, name: app, boot: fmt.Sprintf("h%02d", s.boots), drift: s.between(-4, 4), links: make([]*simLink, len(s.nodes)),
		fences: map[uint16]uint64{}, attempts: map[runtime.Attempt]*simAttempt{}, instances: map[runtime.Actor]bool{},
		busy: map[runtime.Actor][]func(){}, ending: map[runtime.Actor]*runtime.Deactivate{}, kept: map[uint16]int64{},
	}
	s.hosts = append(s.hosts, h)
	s.trace("host %s of %s boots", h.boot, app)
	for p := range s.parts {
		h.kept[uint16(p)] = s.now
	}
	h.dial()
	h.beat()
}

func (h *simHost) info() runtime.HostInfo {
	return runtime.HostInfo{Boot: h.boot, App: h.name, Service: "s", Actors: []string{"A"}, Grace: simLease, Idle: 3000, Draining: h.draining}
}

// at runs in the host's own process: not when dead, later when stopped.
func (h *simHost) at(ms int64, do func()) { h.s.after(ms, func() { h.run(do) }) }

func (h *simHost) run(do func()) {
	switch {
	case h.dead:
	case h.stopped > h.s.now:
		h.s.after(h.stopped-h.s.now, func() { h.guard(); h.run(do) })
	default:
		do()
	}
}

// app runs in the app: not while it is frozen.
func (h *simHost) app(ms int64, do func()) {
	h.at(ms, func() {
		if h.frozen {
			h.deferred = append(h.deferred, do)
			return
		}
		h.guard()
		if h.frozen {
			h.deferred = append(h.deferred, do)
			return
		}
		do()
	})
}

func (h *simHost) dial() {
	for i, n := range h.s.nodes {
		if l := h.links[i]; (l == nil || !l.up) && n.alive {
			l = &simLink{h: h, n: n, inc: n.inc, up: true}
			h.links[i] = l
			for p := range h.s.parts {
				h.joinAsked(n, uint16(p))
			}
		}
	}
	h.at(h.s.between(100, 800), h.dial)
}

func (h *simHost) cut(n *simNode) {
	l := h.links[n.n]
	if l == nil || !l.up {
		return
	}
	h.s.trace("link %s to node %d is cut", h.boot, n.n)
	l.up = false
	n.at(l.inc, h.s.between(0, 50), func() {
		for _, p := range h.s.parts {
			if o := n.owners[p.n]; o != nil {
				if h.s.opt.Bug == "link-is-death" {
					o.push(&runtime.HostDown{Boot: h.boot, Reason: "link"})
				} else if h.links[n.n] == l || h.links[n.n] == nil {
					o.push(&runtime.HostUnlinked{Boot: h.boot})
				}
			}
		}
	})
}

// send carries something over the link, in order, while it is up.
func (l *simLink) send(dir int, do func()) {
	s := l.h.s
	at := max(s.now+s.between(0, 15), l.last[dir])
	l.last[dir] = at
	s.after(at-s.now, func() {
		if !l.up {
			return
		}
		if dir == 0 {
			l.n.now(l.inc, do)
		} else {
			l.h.run(do)
		}
	})
}

// joinAsked: the owner of a partition asks what this host runs; fence and
// question in one.
func (h *simHost) joinAsked(n *simNode, p uint16) {
	l := h.links[n.n]
	o := n.owners[p]
	if l == nil || !l.up || o == nil {
		return
	}
	epoch := o.core.Epoch()
	l.send(1, func() {
		if epoch < h.fences[p] {
			return
		}
		h.fences[p] = epoch
		var j runtime.JoinAnswer
		for _, at := range h.sorted() {
			if at.Partition != p {
				continue
			}
			if x := h.attempts[at]; x.done {
				j.Finished = append(j.Finished, x.answer)
			} else {
				j.Running = append(j.Running, at)
			}
		}
		for i := range simActors {
			a := simActor(h.name, i).Actor()
			if h.instances[a] && runtime.ActorPartition(a, len(h.s.parts)) == p {
				j.Instances = append(j.Instances, a)
			}
		}
		l.send(0, func() {
			if o := n.owners[p]; o != nil {
				o.ask(func(w any) runtime.Input { return &runtime.HostJoined{Info: h.info(), Join: j, Waiter: w} }, func(e *runtime.Effect) {
					if e.Err != nil && e.Err.Code == runtime.CodeHostLost {
						l.send(1, func() { h.kill("told that it was lost") })
					}
				})
			}
		})
	})
}

func (h *simHost) sorted() []runtime.Attempt {
	var as []runtime.Attempt
	for a := range h.attempts {
		as = append(as, a)
	}
	sortAttempts(as)
	return as
}

// beat tells the owners that the host lives.
func (h *simHost) beat() {
	s := h.s
	for _, l := range h.links {
		if l == nil || !l.up {
			continue
		}
		sent := s.now
		l.send(0, func() {
			for _, p := range s.parts {
				o := l.n.owners[p.n]
				if o == nil {
					continue
				}
				o.ask(func(w any) runtime.Input { return &runtime.HostsBeat{Boots: []string{h.boot}, Waiter: w} }, func(e *runtime.Effect) {
					lost, _ := e.Value.([]string)
					if e.Err != nil || s.opt.Nodes > 1 && s.now-o.proof > 1000 {
						return // not provably the owner
					}
					l.send(1, func() {
						if len(lost) > 0 {
							h.kill("counted lost")
							return
						}
						h.kept[p.n] = max(h.kept[p.n], sent)
						h.thaw()
					})
				})
			}
		})
	}
	h.guard()
	h.at(700, h.beat)
}

// guard freezes the app when a lease has run out for work that it holds.
func (h *simHost) guard() {
	if h.dead || h.frozen || h.s.opt.Bug == "no-freeze" || !h.expired() {
		return
	}
	h.s.trace("host %s freezes", h.boot)
	h.frozen = true
}

func (h *simHost) expired() bool {
	for _, p := range h.s.parts {
		if elapsed := h.s.now - h.kept[p.n]; elapsed*(100+h.drift)/100 >= simLease && h.holds(p.n) {
			return true
		}
	}
	return false
}

func (h *simHost) holds(p uint16) bool {
	for a, x := range h.attempts {
		if a.Partition == p && !x.done {
			return true
		}
	}
	for a := range h.instances {
		if runtime.ActorPartition(a, len(h.s.parts)) == p {
			return true
		}
	}
	return false
}

func (h *simHost) thaw() {
	if !h.frozen || h.expired() {
		return
	}
	h.s.trace("host %s thaws", h.boot)
	h.frozen = false
	h.s.wit.thawed(h)
	ds := h.deferred
	h.deferred = nil
	for _, d := range ds {
		h.app(0, d)
	}
}

// drain finishes what there is, gets nothing new, and ends.
func (h *simHost) drain() {
	h.s.trace("host %s drains", h.boot)
	h.draining = true
	for _, l := range h.links {
		if l == nil || !l.up {
			continue
		}
		l.send(0, func() {
			for _, p := range h.s.parts {
				if o := l.n.owners[p.n]; o != nil {
					o.push(&runtime.HostChanged{Info: h.info()})
				}
			}
		})
	}
	h.at(h.s.between(1000, 8000), func() { h.die(true) })
}

func (h *simHost) stop(ms int64) {
	h.s.trace("host %s stops for %d", h.boot, ms)
	h.stopped = max(h.stopped, h.s.now+ms)
	h.s.after(ms, func() { h.run(h.guard) })
}

// running tells whether code of the app can execute now.
func (h *simHost) running() bool { return !h.dead && !h.frozen && h.stopped <= h.s.now && !h.overdue() }

// overdue: it will be frozen before its code can do anything.
func (h *simHost) overdue() bool { return h.s.opt.Bug != "no-freeze" && h.expired() }

func (h *simHost) kill(why string) {
	if !h.dead {
		h.s.trace("host %s is killed: %s", h.boot, why)
		h.die(true)
	}
}

// die ends the process; the exit is reported, or the lease has to run out.
func (h *simHost) die(reported bool) {
	h.s.trace("host %s dies, reported %v", h.boot, reported)
	h.dead = true
	for _, l := range h.links {
		if l != nil {
			l.up = false
		}
	}
	if !reported {
		return
	}
	for _, n := range h.s.nodes {
		n.at(n.inc, h.s.between(1, 100), func() {
			for _, p := range h.s.parts {
				if o := n.owners[p.n]; o != nil {
					o.push(&runtime.HostDown{Boot: h.boot, Reason: "exit"})
				}
			}
		})
	}
}

// fromNode is a message of an owner.
func (h *simHost) fromNode(n *simNode, m runtime.HostMessage) {
	l := h.links[n.n]
	if l == nil || !l.up || l.inc != n.inc {
		return
	}
	l.send(1, func() {
		switch m := m.(type) {
		case *runtime.Invoke:
			h.invoke(m)
		case *runtime.Deactivate:
			h.deactivate(m)
		case *runtime.Taken:
			for _, a := range m.Attempts {
				delete(h.attempts, a)
			}
		}
	})
}

// toOwner finds a way to the owner of a partition, if there is one.
func (h *simHost) toOwner(p uint16, do func(o *simOwner)) {
	for _, l := range h.links {
		if l != nil && l.up && l.n.owners[p] != nil {
			l.send(0, func() {
				if o := l.n.owners[p]; o != nil {
					do(o)
				}
			})
		}
	}
}

func (h *simHost) invoke(m *runtime.Invoke) {
	if m.Epoch < h.fences[m.Attempt.Partition] && h.s.opt.Bug != "no-fence" {
		return
	}
	h.fences[m.Attempt.Partition] = max(h.fences[m.Attempt.Partition], m.Epoch)
	if x := h.attempts[m.Attempt]; x != nil {
		if x.done {
			h.tell(x)
		}
		return
	}
	x := &simAttempt{h: h, m: m}
	h.attempts[m.Attempt] = x
	if !m.Target.IsActor() {
		h.app(h.s.between(0, 5), x.begin)
		return
	}
	h.activate(m.Target.Actor(), x)
}

// activate makes the instance first; calls and deactivations wait for it.
func (h *simHost) activate(a runtime.Actor, x *simAttempt) {
	if q, ok := h.busy[a]; ok {
		h.busy[a] = append(q, func() { h.activate(a, x) })
		return
	}
	if h.instances[a] {
		h.app(h.s.between(0, 5), x.begin)
		return
	}
	h.busy[a] = nil
	h.app(h.s.between(1, 20), func() {
		if h.s.faults && h.s.chance(3) {
			h.free(a)
			h.s.wit.made(x)
			h.s.wit.req(x.m.Attempt.ID).refused = true
			x.finish(runtime.Answer{ActivationFailed: true, Outcome: &runtime.Outcome{Status: 404, Body: []byte("refused " + x.token())}})
			return
		}
		h.s.wit.activated(h, a)
		h.instances[a] = true
		h.free(a)
		h.app(0, x.begin)
	})
}

func (h *simHost) free(a runtime.Actor) {
	q := h.busy[a]
	delete(h.busy, a)
	for _, f := range q {
		f()
	}
}

func (h *simHost) deactivate(m *runtime.Deactivate) {
	if m.Epoch < h.fences[m.Partition] && h.s.opt.Bug != "no-fence" {
		return
	}
	if q, ok := h.busy[m.Actor]; ok {
		h.busy[m.Actor] = append(q, func() { h.deactivate(m) })
		return
	}
	if h.working(m.Actor) {
		h.ending[m.Actor] = m // calls that come meanwhile run, the old ones may wait for them
		return
	}
	done := func() {
		h.toOwner(m.Partition, func(o *simOwner) {
			o.push(&runtime.Deactivated{Boot: h.boot, Actor: m.Actor, Epoch: m.Epoch, Asking: m.Asking})
		})
	}
	if !h.instances[m.Actor] {
		done()
		return
	}
	h.s.wit.deactivating(h, m.Actor)
	h.busy[m.Actor] = nil
	if h.s.opt.Bug == "early-deactivated" {
		done()
	}
	h.app(h.s.between(1, 200), func() {
		delete(h.instances, m.Actor)
		h.free(m.Actor)
		done()
	})
}

// working tells whether an attempt on the actor has arrived and not ended.
func (h *simHost) working(a runtime.Actor) bool {
	for _, x := range h.attempts {
		if !x.done && x.m.Target.IsActor() && x.m.Target.Actor() == a {
			return true
		}
	}
	return false
}

// left: an attempt has ended; what waited for that goes on.
func (h *simHost) left(x *simAttempt) {
	if !x.m.Target.IsActor() {
		return
	}
	a := x.m.Target.Actor()
	if m := h.ending[a]; m != nil && !h.working(a) {
		delete(h.ending, a)
		h.deactivate(m)
	}
}

func (h *simHost) tell(x *simAttempt) {
	answer := x.answer
	h.toOwner(answer.Attempt.Partition, func(o *simOwner) {
		o.push(&runtime.Answered{Boot: h.boot, Answer: answer})
	})
}
