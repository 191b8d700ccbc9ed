package engine_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A simHost is one boot of a component: sidecar, guard and app. It does what
// activator/host does, in virtual time: one stream to some gateway, a lease for each
// partition, each attempt at most once, each answer until it is taken.
type simHost struct {
	w    *world
	boot string
	app  string
	over context.Context // dead
	die  context.CancelFunc

	mu         sync.Mutex
	changed    chan struct{} // closed when something has changed for which the app may wait
	link       *simLink      // nil while not joined
	attachment uint64
	frozen     bool
	woke       atomic.Int64 // when it last thawed
	draining   bool
	stands     time.Time // still until then
	parts      []simPart
	begun      bool // the lease
	heard      time.Time
	answered   time.Time
	beaten     time.Time
	attempts   map[runtime.Attempt]*simAttempt
	instances  map[runtime.Actor]*simInstance
	calls      map[runtime.Actor]int
	ending     map[runtime.Actor]*runtime.Deactivate // nil for its own
	late       []*runtime.Invoke
	unsent     []func(*simLink)
	asks       map[uint64]*simAsk
	seq        uint64
	got        []runtime.ID
}

type simPart struct {
	epoch, mark uint64
	kept        time.Time
	running     int
	instances   int
}

type simAttempt struct {
	done   bool
	answer runtime.Answer
}

type simInstance struct {
	active  bool
	settled chan struct{} // closed when it is active, or gone
}

func (w *world) openHost() { w.openHostOf("app") }

func (w *world) openHostOf(app string) {
	w.mu.Lock()
	w.made++
	h := &simHost{
		w: w, app: app, boot: fmt.Sprint("h", w.made), changed: make(chan struct{}), parts: make([]simPart, w.parts), attempts: map[runtime.Attempt]*simAttempt{},
		instances: map[runtime.Actor]*simInstance{}, calls: map[runtime.Actor]int{}, ending: map[runtime.Actor]*runtime.Deactivate{}, asks: map[uint64]*simAsk{},
	}
	w.hosts = append(w.hosts, h)
	w.mu.Unlock()
	h.over, h.die = context.WithCancel(context.Background())
	w.trace.say("host %s begins", h.boot)
	w.spawn(h.dial)
	w.spawn(h.keepLease)
}

func (h *simHost) info() runtime.HostInfo {
	return runtime.HostInfo{
		Boot: h.boot, App: h.app, Name: h.boot, Actors: []string{"A"}, Service: "s", Idle: 3000, Grace: simLease.Milliseconds(),
		Draining: h.draining, Frozen: h.frozen, Attachment: h.attachment,
	}
}

func (h *simHost) dead() bool { return h.over.Err() != nil }

// notify wakes who waits; h.mu is held.
func (h *simHost) notify() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// pass waits while the process stands still. A guard that wakes looks at the lease first.
func (h *simHost) pass() bool {
	for {
		h.mu.Lock()
		wait := time.Until(h.stands)
		if wait <= 0 {
			h.checkLease()
			h.mu.Unlock()
			return !h.dead()
		}
		h.mu.Unlock()
		if !sleepFor(h.over, wait) {
			return false
		}
	}
}

// behind is how long ago something was that its app should have heard of, less the time
// since when it goes on: a frozen app begins what it was given before that.
func (h *simHost) behind(since time.Time) time.Duration {
	if woke := time.Unix(0, h.woke.Load()); woke.After(since) {
		since = woke
	}
	return time.Since(since)
}

// step is between two things that the app does: it waits while the app is frozen.
func (h *simHost) step() bool {
	for h.pass() {
		h.mu.Lock()
		frozen, changed := h.frozen, h.changed
		h.mu.Unlock()
		if !frozen {
			return true
		}
		select {
		case <-changed:
		case <-h.over.Done():
		}
	}
	return false
}

// runs tells whether code of the app can go on now; the judge asks.
func (h *simHost) runs() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.dead() && !h.frozen && !time.Now().Before(h.stands) && (h.overdue() < 0 || h.w.bug == bugNoFreeze)
}

// answers tells whether the owner of a partition has to reckon with this host.
func (h *simHost) answers(p uint16) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.dead() && time.Since(h.parts[p].kept) <= simLease
}

// keeps tells whether the host has an answer that was not taken.
func (h *simHost) keeps(a runtime.Attempt) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.dead() && h.attempts[a] != nil
}

// overdue is a partition that the lease has run out for, -1 for none; h.mu is held.
func (h *simHost) overdue() int {
	return slices.IndexFunc(h.parts, func(p simPart) bool {
		return (p.running > 0 || p.instances > 0) && h.leaseStep(&p) == runtime.LeaseOver
	})
}

func (h *simHost) leaseStep(p *simPart) runtime.LeaseStep {
	return runtime.NextLeaseStep(time.Since(p.kept), time.Since(h.heard), simLease)
}

// checkLease freezes and thaws; h.mu is held.
func (h *simHost) checkLease() {
	if !h.begun || h.dead() {
		return
	}
	for a := range h.instances {
		p := &h.parts[runtime.ActorPartition(a, h.w.parts)]
		if _, ends := h.ending[a]; !ends && h.calls[a] == 0 && h.instances[a].active && h.leaseStep(p) == runtime.LeaseEases {
			h.ending[a] = nil
			h.w.spawn(func() { h.end(a) })
		}
	}
	over := h.overdue()
	if h.w.bug == bugNoFreeze {
		over = -1
	}
	if frozen := over >= 0; frozen != h.frozen {
		h.frozen = frozen
		h.w.trace.say("host %s frozen %v (partition %d)", h.boot, frozen, over)
		h.tellCondition()
		if !frozen {
			h.woke.Store(time.Now().UnixNano())
			h.w.judge.thawed(h)
		}
		h.notify()
	}
	if h.frozen {
		return
	}
	rest := h.late[:0]
	for _, m := range h.late {
		if h.leaseStep(&h.parts[m.Attempt.Partition]) == runtime.LeaseHolds {
			h.start(m)
		} else {
			rest = append(rest, m)
		}
	}
	h.late = rest
}

func (h *simHost) tellCondition() {
	if l := h.link; l != nil {
		info := h.info()
		l.toNode(func() { l.n.mesh.HostChanged(info) })
	}
}

func (h *simHost) keepLease() {
	for sleepFor(h.over, 250*time.Millisecond) && h.pass() {
		h.mu.Lock()
		l := h.link
		if l != nil && time.Since(h.beaten) >= simLease/4 {
			h.beat()
		}
		if l != nil && len(h.got) > 0 {
			ids := h.got
			h.got = nil
			l.toNode(func() { l.n.mesh.Release("app", ids...) })
		}
		silent := l != nil && time.Since(h.answered) > simLease/2
		quiet := h.draining && len(h.calls) == 0 && !h.busy()
		h.mu.Unlock()
		if silent {
			l.stop()
		}
		if quiet {
			h.kill("drained", true)
		}
	}
}

// busy tells whether attempts run, or answers were not taken; h.mu is held.
func (h *simHost) busy() bool { return len(h.attempts) > 0 }

// beat sends a sign of life; h.mu is held.
func (h *simHost) beat() {
	l, at := h.link, time.Now()
	h.beaten = at
	l.toNode(func() {
		if !l.beating.CompareAndSwap(false, true) {
			l.toHost(func() { h.heardAt(time.Time{}, nil, false) })
			return
		}
		h.w.spawn(func() {
			silent, lost := l.n.mesh.Beat(h.boot)
			l.beating.Store(false)
			l.toHost(func() {
				if lost {
					h.kill("counted lost", true)
					return
				}
				h.heardAt(at, silent, true)
			})
		})
	})
}

func (h *simHost) heardAt(at time.Time, silent []uint16, kept bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answered = time.Now()
	if !kept {
		return
	}
	for i := range h.parts {
		p := &h.parts[i]
		if !slices.Contains(silent, uint16(i)) && at.After(p.kept) {
			p.kept = at
			if at.After(h.heard) {
				h.heard = at
			}
		}
	}
	h.checkLease()
}

// admit raises the fence of a partition; h.mu is held.
func (h *simHost) admit(p uint16, epoch uint64) bool {
	if epoch < h.parts[p].epoch {
		return false
	}
	h.parts[p].epoch = epoch
	return true
}

// answer is what a join says of some partitions; h.mu is held.
func (h *simHost) answer(list []runtime.PartitionEpoch) runtime.JoinAnswer {
	j := runtime.JoinAnswer{Epochs: []runtime.PartitionEpoch{}}
	asked := map[uint16]bool{}
	for _, e := range list {
		p := &h.parts[e.Partition]
		if h.admit(e.Partition, e.Epoch) {
			p.mark++
			j.Epochs = append(j.Epochs, e)
			asked[e.Partition] = true
			continue
		}
		j.Later = append(j.Later, runtime.TermSeen{Partition: e.Partition, Epoch: p.epoch, Mark: p.mark})
	}
	for a, x := range h.attempts {
		switch {
		case !asked[a.Partition], x.done && h.w.bug == bugForgets:
		default:
			j.Running = append(j.Running, a) // see [runtime.JoinAnswer]
			if x.done {
				j.Finished = append(j.Finished, x.answer)
			}
		}
	}
	for a := range h.instances {
		if asked[runtime.ActorPartition(a, h.w.parts)] {
			j.Instances = append(j.Instances, a)
		}
	}
	return j
}

// joinAsk answers an owner: what has finished first, each by itself.
func (h *simHost) joinAsk(l *simLink, list []runtime.PartitionEpoch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.link != l {
		return
	}
	j := h.answer(list)
	h.w.trace.say("host %s joins over %s: %d run, %d have finished, %d are active in %v", h.boot, l.n.name, len(j.Running), len(j.Finished), len(j.Instances), j.Epochs)
	for _, a := range j.Finished {
		l.toNode(func() { l.n.mesh.Answered(h.boot, a) })
	}
	j.Finished = nil
	l.toNode(func() { l.n.mesh.Joined(h.boot, l, j.Epochs, j) })
}

// send tells the owners something that a join would repeat; h.mu is held.
func (h *simHost) send(say func(*simLink)) {
	if h.link == nil {
		h.unsent = append(h.unsent, say)
		return
	}
	say(h.link)
}

// received is a message of an owner.
func (h *simHost) received(l *simLink, m runtime.HostMessage) {
	switch m := m.(type) {
	case *runtime.JoinAsk:
		h.joinAsk(l, m.Epochs)
	case *runtime.Invoke:
		h.invoke(m)
	case *runtime.Deactivate:
		h.deactivate(m)
	case *runtime.Taken:
		for _, a := range m.Attempts {
			h.mu.Lock()
			x := h.attempts[a]
			done := x != nil && x.done
			if done {
				delete(h.attempts, a)
			}
			h.mu.Unlock()
			if done {
				h.w.judge.taken(h, a)
			}
		}
	case *runtime.Verdict:
		h.kill("counted lost: "+m.Reason, true)
	case *runtime.TermLost:
		h.mu.Lock()
		p := &h.parts[m.Partition]
		if m.Obeyed(runtime.TermSeen{Partition: m.Partition, Epoch: p.epoch, Mark: p.mark}) {
			h.w.judge.fault("host %s is told that the log of partition %d has lost term %d", h.boot, m.Partition, p.epoch)
		}
		h.mu.Unlock()
	}
}

func (h *simHost) invoke(m *runtime.Invoke) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead() || !h.admit(m.Attempt.Partition, m.Epoch) {
		return
	}
	if x := h.attempts[m.Attempt]; x != nil {
		if x.done {
			h.send(func(l *simLink) { l.toNode(func() { l.n.mesh.Answered(h.boot, x.answer) }) })
		}
		return
	}
	h.attempts[m.Attempt] = &simAttempt{}
	if m.Target.IsActor() {
		h.calls[m.Target.Actor()]++
	}
	if h.frozen || h.leaseStep(&h.parts[m.Attempt.Partition]) != runtime.LeaseHolds {
		h.late = append(h.late, m)
		return
	}
	h.start(m)
}

// start runs an attempt; h.mu is held.
func (h *simHost) start(m *runtime.Invoke) {
	h.parts[m.Attempt.Partition].running++
	h.w.spawn(func() { h.run(m) })
}

func (h *simHost) run(m *runtime.Invoke) {
	if m.Target.IsActor() && !h.enter(m.Target.Actor()) {
		return // dead
	}
	if !h.step() {
		return
	}
	r := h.w.judge.begin(h, m)
	o := h.serve(m, r)
	if o == nil || !h.step() {
		return
	}
	h.w.judge.completed(r, o)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead() {
		return
	}
	x := h.attempts[m.Attempt]
	x.done, x.answer = true, runtime.Answer{Attempt: m.Attempt, Outcome: o}
	h.parts[m.Attempt.Partition].running--
	h.send(func(l *simLink) { l.toNode(func() { l.n.mesh.Answered(h.boot, x.answer) }) })
	if m.Target.IsActor() {
		a := m.Target.Actor()
		if h.calls[a]--; h.calls[a] == 0 {
			delete(h.calls, a)
		}
	}
	h.notify()
}

// enter activates an actor unless it is active.
func (h *simHost) enter(a runtime.Actor) bool {
	for {
		h.mu.Lock()
		inst := h.instances[a]
		if inst == nil {
			inst = &simInstance{settled: make(chan struct{})}
			h.instances[a] = inst
			h.parts[runtime.ActorPartition(a, h.w.parts)].instances++
			h.mu.Unlock()
			if !sleepFor(h.over, h.w.dice.between(time.Millisecond, 30*time.Millisecond)) || !h.step() {
				return false
			}
			h.w.judge.activated(h, a)
			h.mu.Lock()
			inst.active = true
			close(inst.settled)
			h.mu.Unlock()
			return true
		}
		active := inst.active
		h.mu.Unlock()
		if active {
			return true
		}
		select {
		case <-inst.settled:
		case <-h.over.Done():
			return false
		}
	}
}

func (h *simHost) deactivate(m *runtime.Deactivate) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead() || !h.admit(m.Partition, m.Epoch) {
		return
	}
	if _, ends := h.ending[m.Actor]; ends {
		h.ending[m.Actor] = m
		return
	}
	if h.instances[m.Actor] == nil && h.calls[m.Actor] == 0 {
		h.send(func(l *simLink) { l.toNode(func() { l.n.mesh.Deactivated(h.boot, *m) }) })
		return
	}
	h.ending[m.Actor] = m
	h.w.spawn(func() { h.end(m.Actor) })
}

// end deactivates an actor when nothing runs on it.
func (h *simHost) end(a runtime.Actor) {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer func() { delete(h.ending, a); h.notify() }()
	for h.calls[a] > 0 {
		changed := h.changed
		h.mu.Unlock()
		select {
		case <-changed:
		case <-h.over.Done():
		}
		h.mu.Lock()
		if h.dead() {
			return
		}
	}
	if m := h.ending[a]; m != nil && m.Epoch < h.parts[m.Partition].epoch {
		return // another owner has come meanwhile, and decides anew
	}
	if inst := h.instances[a]; inst != nil {
		inst.active, inst.settled = false, make(chan struct{})
		h.mu.Unlock()
		ok := sleepFor(h.over, h.w.dice.between(time.Millisecond, 30*time.Millisecond)) && h.step()
		if ok {
			h.w.judge.deactivated(h, a)
		}
		h.mu.Lock()
		if !ok {
			return
		}
		delete(h.instances, a)
		h.parts[runtime.ActorPartition(a, h.w.parts)].instances--
		close(inst.settled)
	}
	if m := h.ending[a]; m != nil {
		d := *m
		h.send(func(l *simLink) { l.toNode(func() { l.n.mesh.Deactivated(h.boot, d) }) })
	}
}

// dial keeps a stream to some gateway.
func (h *simHost) dial() {
	for sleepFor(h.over, h.w.dice.between(5*time.Millisecond, 200*time.Millisecond)) && h.pass() {
		n := h.w.anyNode()
		if n == nil || n.dead() {
			continue
		}
		n.mu.Lock()
		shut := n.leaving || time.Now().Before(n.stands)
		n.mu.Unlock()
		if shut {
			continue
		}
		l := newSimLink(h, n)
		l.live()
	}
}

// kill ends the process. Somebody sees it when reported.
func (h *simHost) kill(why string, reported bool) {
	h.mu.Lock()
	if h.dead() {
		h.mu.Unlock()
		return
	}
	h.die()
	h.notify()
	h.mu.Unlock()
	w := h.w
	w.trace.say("host %s ends, reported %v: %s", h.boot, reported, why)
	w.judge.died(h)
	w.mu.Lock()
	w.hosts = slices.DeleteFunc(w.hosts, func(x *simHost) bool { return x == h })
	w.mu.Unlock()
	if w.over.Err() != nil {
		return
	}
	w.spawn(func() {
		if reported && sleepFor(w.over, w.dice.between(0, 300*time.Millisecond)) {
			if n := w.anyNode(); n != nil && n.pass() == nil {
				n.mesh.HostDown(h.boot, why)
			}
		}
		if !h.draining && sleepFor(w.over, w.dice.between(0, 4*time.Second)) {
			w.openHostOf(h.app)
		}
	})
}

func (h *simHost) unlink(why string) {
	h.mu.Lock()
	l := h.link
	h.mu.Unlock()
	if l != nil {
		h.w.trace.say("link of %s to %s: %s", h.boot, l.n.name, why)
		l.stop()
	}
}

func (h *simHost) stand(d time.Duration) {
	h.w.trace.say("host %s stands still for %s", h.boot, d)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stands = time.Now().Add(d)
}

func (h *simHost) drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining {
		return
	}
	h.w.trace.say("host %s drains", h.boot)
	h.draining = true
	h.tellCondition()
	h.w.openHostOf(h.app) // which takes its place
	h.w.spawn(func() {
		if sleepFor(h.over, h.w.dice.between(10*time.Second, 40*time.Second)) {
			h.kill("it took too long", true)
		}
	})
}
