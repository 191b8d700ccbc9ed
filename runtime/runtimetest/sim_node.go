package runtimetest

import (
	"fmt"

	"github.com/karmesh/kar/runtime"
)

// A simLog is one partition's log; records may land late, twice or never.
type simLog struct {
	s     *sim
	n     uint16
	start int // index in full of the first kept record
	full  [][]byte
	cut   uint64 // the store must hold everything up to here
	store *simStore
}

// append lands the batch as chance has it; done gets the offset and whether
// that is known.
func (l *simLog) append(batch [][]byte, done func(first int, known bool)) {
	s := l.s
	land := func() int {
		first := len(l.full)
		l.full = append(l.full, batch...)
		return first
	}
	delay := s.between(1, 20)
	if s.opt.Bug == "before-durable" {
		delay += s.between(0, 3000) // a slow disk, or it would rarely matter
	}
	if s.now < s.wit.flaky {
		switch s.rng.Intn(4) {
		case 0: // landed, answer lost
			s.after(delay, func() { land() })
			s.after(delay+s.between(100, 500), func() { done(0, false) })
			return
		case 1: // lands late, perhaps after the repeat
			s.after(s.between(10, 2000), func() { land() })
			s.after(delay+s.between(100, 500), func() { done(0, false) })
			return
		case 2: // never
			s.after(delay+s.between(100, 500), func() { done(0, false) })
			return
		}
	}
	s.after(delay, func() {
		first := land()
		s.after(s.between(0, 3), func() { done(first, true) })
	})
}

// fold reads the log as a new reader would.
func (l *simLog) fold(core *runtime.Core, log [][]byte, from int) {
	for _, b := range log[from:] {
		if _, err := core.Fold(b); err != nil {
			l.s.wit.fail("fold of partition %d: %v", l.n, err)
			return
		}
	}
}

// check folds the trimmed and the full log: they must tell the same (16), and
// every prefix must fold (5).
func (l *simLog) check() {
	a, b := runtime.New(l.s.config(l.n, "x")), runtime.New(l.s.config(l.n, "x"))
	l.fold(a, l.full, 0)
	l.fold(b, l.full, l.start)
	for range 2 {
		l.takeover(l.s.rng.Intn(len(l.full) + 1))
	}
	if x, y := a.Describe(), b.Describe(); x != y {
		l.s.wit.fail("partition %d: the trimmed log tells otherwise\n--- full\n%s--- trimmed\n%s", l.n, x, y)
	}
}

// takeover lets somebody own what the first n records tell.
func (l *simLog) takeover(n int) {
	s := l.s
	c := runtime.New(s.config(l.n, "prefix"))
	l.fold(c, l.full[:n], 0)
	now := runtime.Now{Wall: simStart + s.now, Mono: 1_000_000 + s.now}
	l.fold(c, [][]byte{c.Claim(now)}, 0)
	if !c.Own(now, l.store.applied) {
		s.wit.fail("nobody can own partition %d after %d records", l.n, n)
		return
	}
	c.Step(now, &runtime.Tick{})
	c.Take()
}

// A simNode is a gateway: owners of partitions that live and die together.
type simNode struct {
	s        *sim
	n        int
	inc      int // boot number
	alive    bool
	paused   int64 // until when
	jump     int64 // how far its wall clock was set
	owners   map[uint16]*simOwner
	claiming map[uint16]bool
}

func (n *simNode) boot() {
	if n.alive && n.inc > 0 {
		return
	}
	n.alive, n.inc = true, n.inc+1
	n.owners, n.claiming = map[uint16]*simOwner{}, map[uint16]bool{}
	n.s.trace("node %d boots", n.n)
	n.watch(n.inc)
}

// watch claims partitions that seem to have no owner.
func (n *simNode) watch(inc int) {
	n.at(inc, n.s.between(50, 400), func() {
		for _, l := range n.s.parts {
			if n.s.ownerOf(l.n) == nil && !n.claiming[l.n] {
				n.claim(l)
			}
		}
		n.watch(inc)
	})
}

// at runs on the node: not when it has died, later when it is stopped.
func (n *simNode) at(inc int, ms int64, do func()) {
	n.s.after(ms, func() { n.now(inc, do) })
}

func (n *simNode) now(inc int, do func()) {
	if !n.alive || n.inc != inc {
		return
	}
	if n.paused > n.s.now {
		n.s.after(n.paused-n.s.now, func() { n.now(inc, do) })
		return
	}
	do()
}

func (n *simNode) crash() {
	if !n.alive {
		return
	}
	n.s.trace("node %d crashes", n.n)
	n.s.report.Crashes++
	n.alive = false
	if n.s.opt.Bug == "lost-tail" { // what was acknowledged was not on disk
		for _, l := range n.s.parts {
			if o := n.owners[l.n]; o != nil && len(l.full)-l.start > 8 {
				l.full = l.full[:len(l.full)-4]
			}
		}
	}
	n.owners = nil
	for _, h := range n.s.hosts {
		h.links[n.n] = nil
	}
}

func (n *simNode) pause(ms int64) {
	n.s.trace("node %d stops for %d", n.n, ms)
	n.paused = max(n.paused, n.s.now+ms)
}

// ownerOf is a living owner; during a takeover there may be two.
func (s *sim) ownerOf(p uint16) *simOwner {
	var found []*simOwner
	for _, n := range s.nodes {
		if n.alive && n.paused <= s.now {
			if o := n.owners[p]; o != nil && o.core.Owned() {
				found = append(found, o)
			}
		}
	}
	if len(found) == 0 {
		return nil
	}
	return found[s.rng.Intn(len(found))]
}

// claim reads the log, appends a claim, and owns when it counts.
func (n *simNode) claim(l *simLog) {
	s, inc := n.s, n.inc
	if !n.alive || n.paused > s.now || n.owners[l.n] != nil || n.claiming[l.n] {
		return
	}
	n.claiming[l.n] = true
	core := runtime.New(s.config(l.n, fmt.Sprintf("n%d.%d.%d", n.n, n.inc, s.between(0, 1<<40))))
	next := len(l.full)
	l.fold(core, l.full, l.start)
	claim := [][]byte{core.Claim(s.clock(n))}
	var try func()
	try = func() {
		l.append(claim, func(first int, known bool) {
			n.now(inc, func() {
				if !known {
					try()
					return
				}
				end := len(l.full)
				l.fold(core, l.full, next)
				n.claiming[l.n] = false
				if n.owners[l.n] != nil || !core.Own(s.clock(n), l.store.applied) {
					s.trace("node %d does not get partition %d", n.n, l.n)
					return
				}
				s.trace("node %d owns partition %d, epoch %d", n.n, l.n, core.Epoch())
				o := &simOwner{n: n, inc: inc, log: l, core: core, next: end, proof: s.now, waits: map[any]func(*runtime.Effect){}, pumping: map[string]bool{}, sent: map[uint16]int64{}}
				n.owners[l.n] = o
				o.store = &simWriter{o: o, from: l.store.applied}
				o.store.add(core.TakeChanges(), core.Seq())
				if s.opt.Nodes > 1 { // longer than one that was deposed may answer
					o.busy = true
					o.at(1100, func() { o.busy = false; o.round() })
				} else {
					o.round()
				}
				o.tick()
				o.pump()
				for _, h := range s.hosts {
					h.joinAsked(n, l.n)
				}
			})
		})
	}
	try()
}

func (s *sim) clock(n *simNode) runtime.Now {
	return runtime.Now{Wall: simStart + s.now + int64(n.n)*700 + n.jump, Mono: 1_000_000 + s.now}
}

// deposed tells whether somebody has claimed the partition since.
func (s *sim) deposed(o *simOwner) bool {
	for _, n := range s.nodes {
		if x := n.owners[o.log.n]; x != nil && x.core.Epoch() > o.core.Epoch() {
			return true
		}
	}
	return false
}
