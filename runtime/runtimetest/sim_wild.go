package runtimetest

import (
	"fmt"

	"github.com/karmesh/kar/runtime"
)

// Wild attempts do more than call and wait. What they call does nothing
// itself, so that no two flows wait for each other.

const simLeaf = 9 // depth from which a method calls nobody

// wild does one such thing, then goes on.
func (x *simAttempt) wild(then func()) {
	s := x.h.s
	x.wildness++
	switch s.rng.Intn(8) {
	case 0, 1: // parallel calls of one flow, to one target
		t := x.leafTarget()
		left := 2 + s.rng.Intn(2)
		for range left {
			x.leaf(runtime.Call, t, x.m.Session, func() {
				if left--; left == 0 {
					then()
				}
			})
		}
		return
	case 2: // a call that nobody waits for
		x.leaf(runtime.Call, x.leafTarget(), x.m.Session, nil)
	case 3: // work of a flow of its own
		kind := runtime.Tell
		if s.chance(30) {
			kind = runtime.Promise
		}
		x.leaf(kind, x.anyTarget(), x.m.Session, nil)
	case 4:
		s.publishOne()
	case 5:
		x.madeUp()
	case 6: // with a key that others use as well
		x.keyed(then)
		return
	case 7:
		x.promised(then)
		return
	}
	then()
}

// promised waits for a promise of a service, which holds nothing that this flow could wait
// for.
func (x *simAttempt) promised(then func()) {
	s := x.h.s
	r := runtime.Request{Kind: runtime.Promise, Target: simService(x.h.name), Method: "POST", Path: "/m",
		Body: simBody{Depth: simLeaf, Bare: true}.encode(), Session: x.m.Session, Boot: x.h.boot}
	r.ID = s.newID(r.Target, r.Key)
	s.wit.called(x, &r)
	s.submit(r, x.h, func(e *runtime.Effect) {
		if e.Err != nil {
			then()
			return
		}
		s.await(r, func() { x.h.app(0, then) })
	})
}

// keyed waits for what may be somebody else's request: of a service, which holds nothing
// that this flow could wait for.
func (x *simAttempt) keyed(then func()) {
	s := x.h.s
	r := runtime.Request{Kind: runtime.Call, Target: simService(x.h.name), Method: "POST", Path: "/m", Key: fmt.Sprint("wild", s.rng.Intn(8)),
		Body: simBody{Depth: simLeaf, Bare: true}.encode(), Session: x.m.Session, Boot: x.h.boot}
	r.ID = s.newID(r.Target, r.Key)
	s.wit.called(x, &r)
	s.submit(r, x.h, func(*runtime.Effect) { then() })
}

// late is a call that the app makes when its method has answered. It becomes a
// child of all that its flow has open, so it goes where nobody holds a lock.
func (x *simAttempt) late() {
	x.h.app(x.h.s.between(0, 3000), func() { x.leaf(runtime.Call, simService(x.h.name), x.m.Session, nil) })
}

func (x *simAttempt) leafTarget() runtime.Target {
	if x.m.Session == "" {
		return simService(x.h.name)
	}
	t, _ := x.target(x.holding())
	return t
}

func (x *simAttempt) anyTarget() runtime.Target {
	return simActor(x.h.name, x.h.s.rng.Intn(simActors))
}

// madeUp calls with a session that KAR has not given to this method. Where it
// is that of another method it goes to that one's actor: elsewhere the app
// itself would let two flows wait for each other.
func (x *simAttempt) madeUp() {
	s := x.h.s
	a := s.wit.byActor[x.anyTarget().Actor()]
	if len(a) == 0 || s.chance(30) {
		x.leaf(runtime.Call, x.anyTarget(), fmt.Sprint("mine-", s.between(0, 99)), nil)
		return
	}
	other := a[len(a)-1].m
	session := other.Session
	if s.chance(50) {
		session = session[:26] // KAR 1.x: the flow alone
	}
	x.leaf(runtime.Call, other.Target, session, nil)
}

func (x *simAttempt) leaf(kind runtime.Kind, t runtime.Target, session string, then func()) {
	s := x.h.s
	r := runtime.Request{ID: s.newID(t, ""), Kind: kind, Target: t, Method: "POST", Path: "/m",
		Body: simBody{Stack: x.holding(), Depth: simLeaf, Bare: session == ""}.encode(), Session: session, Boot: x.h.boot}
	s.wit.called(x, &r)
	if session != x.m.Session {
		s.wit.madeUp(x, r.ID)
	}
	s.submit(r, x.h, func(*runtime.Effect) {
		if then != nil {
			then()
		}
	})
}

// holding are the actors that the flow holds while this attempt runs.
func (x *simAttempt) holding() []int {
	held := append([]int(nil), x.body.Stack...)
	if n := x.self(); n >= 0 {
		for _, h := range held {
			if h == n {
				return held
			}
		}
		held = append(held, n)
	}
	return held
}
